//! What a managed database of 1 GiB costs, beside uploading the whole file: `bars [--quick]`, where quick is 64 MiB. Azurite
//! is started for it, behind a proxy that counts; a folder is measured beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, which prints its table"
)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use storage_managed::{
    DatabaseStore, Options, Status,
    home::{AzureCredentials, AzureHome, Body, FolderHome, Home},
};
use storage_tests::{Azurite, Proxy};

/// With its row a little over a kilobyte: four rows are a page.
const ROW_BYTES: u32 = 980;

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rows: u32 = if quick { 64 * 1024 } else { 1024 * 1024 };
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::start().unwrap();
    let proxy = Proxy::start(azurite.port()).unwrap();
    let url = format!("http://127.0.0.1:{}/{}/bars", proxy.port(), azurite.account());
    let key = AzureCredentials::SharedKey { account: azurite.account().into(), key: azurite.key().into() };
    let azure = AzureHome::new(&url, "agent", key).unwrap();
    azure.create_container().await.unwrap();
    println!(
        "{:<8} {:<28} {:>14} {:>14} {:>9} {:>9}",
        "home", "what", "sent", "received", "requests", "time"
    );
    Bars { name: "azurite", folder: folder.path().join("azurite"), proxy: Some(&proxy) }
        .run(Arc::new(azure), rows)
        .await;
    let home = FolderHome::new(folder.path().join("home"));
    Bars { name: "folder", folder: folder.path().join("folder"), proxy: None }
        .run(Arc::new(home), rows)
        .await;
}

struct Bars<'a> {
    name: &'static str,
    folder: PathBuf,
    proxy: Option<&'a Proxy>,
}

impl Bars<'_> {
    async fn run(&self, home: Arc<dyn Home>, rows: u32) {
        let long = Duration::from_secs(3_600);
        let options = |cache: &str| Options {
            freshness: Duration::ZERO,
            lease_term: Duration::from_secs(60),
            lease_idle: long,
            lease_share: long,
            // What is measured is a publication, not the folding that follows some.
            fold_segments: 1_000,
            fold_bytes: u64::MAX,
            ..Options::new(self.folder.join(cache))
        };
        let writer = DatabaseStore::open(Arc::clone(&home), options("writer")).await.unwrap();
        self.measure(&writer, "the first generation", fill(&writer, rows)).await;
        let reader = DatabaseStore::open(Arc::clone(&home), options("reader")).await.unwrap();
        for changed in [1, 100, 1_000] {
            let what = format!("{changed} changed rows");
            self.measure(&writer, &what, change(&writer, rows, changed)).await;
            let behind = format!("freshen, {changed} rows behind");
            self.measure(&reader, &behind, fresh(&reader)).await;
        }
        self.measure(&reader, "freshen, up to date", fresh(&reader)).await;
        self.whole_file(&*home, &writer.path()).await;
        reader.close().await.unwrap();
        writer.close().await.unwrap();
    }

    async fn measure(&self, store: &DatabaseStore, what: &str, work: impl Future<Output = ()>) {
        if let Some(proxy) = self.proxy {
            proxy.reset();
        }
        let (before, started) = (store.status(), Instant::now());
        work.await;
        self.print(what, started.elapsed(), &before, &store.status());
    }

    /// With a proxy all that went over the wire but for headers, without one the objects' bytes.
    fn print(&self, what: &str, time: Duration, before: &Status, after: &Status) {
        let counted = self.proxy.map(|proxy| {
            let seen = proxy.seen();
            let sum = |of: fn(&storage_tests::Seen) -> usize| seen.iter().map(of).sum::<usize>() as u64;
            (sum(|seen| seen.sent), sum(|seen| seen.received), seen.len().to_string())
        });
        let (sent, received, requests) = counted.unwrap_or_else(|| {
            let (sent, received) =
                (after.bytes_sent - before.bytes_sent, after.bytes_received - before.bytes_received);
            (sent, received, "-".to_owned())
        });
        self.line(what, sent, received, &requests, time);
    }

    fn line(&self, what: &str, sent: u64, received: u64, requests: &str, time: Duration) {
        let millis = time.as_millis();
        println!("{:<8} {what:<28} {sent:>14} {received:>14} {requests:>9} {millis:>6} ms", self.name);
    }

    /// What the system that this replaces does for each batch.
    async fn whole_file(&self, home: &dyn Home, path: &Path) {
        if let Some(proxy) = self.proxy {
            proxy.reset();
        }
        let (length, started) = (std::fs::metadata(path).unwrap().len(), Instant::now());
        home.put("whole", Body::File { path: path.to_owned(), length }, &|_| {}).await.unwrap();
        let requests = self.proxy.map_or_else(|| "-".to_owned(), |proxy| proxy.seen().len().to_string());
        self.line("whole-file upload", length, 0, &requests, started.elapsed());
    }
}

async fn fresh(store: &DatabaseStore) {
    store.ensure_fresh().await.unwrap();
}

async fn fill(store: &DatabaseStore, rows: u32) {
    let batch = move |db: &rusqlite::Connection| {
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")?;
        let mut insert = db.prepare("INSERT INTO t (body) VALUES (randomblob(?1))")?;
        (0..rows).try_for_each(|_| insert.execute([ROW_BYTES]).map(drop))
    };
    store.for_write(batch).await.unwrap();
}

async fn change(store: &DatabaseStore, rows: u32, changed: u32) {
    let batch = move |db: &rusqlite::Connection| {
        let mut update = db.prepare("UPDATE t SET body = randomblob(?1) WHERE id = ?2")?;
        (0..changed).try_for_each(|_| update.execute([ROW_BYTES, 1 + fastrand::u32(..rows)]).map(drop))
    };
    store.for_write(batch).await.unwrap();
}
