//! What a managed database of 1 GiB costs, beside uploading the whole file and the bars that were set: `bars [--quick]
//! [--json FILE]`, where quick is 64 MiB, and one JSON object per line goes to the end of the file. Azurite is started for
//! it, behind a proxy that counts; a folder is measured beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, which prints its table"
)]

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use storage_core::{Json, StorageBackend};
use storage_managed::{
    DatabaseStore, Managed, Options, Status,
    home::{AzureCredentials, AzureHome, Body, FolderHome, Home},
    lazy::{Replica, ReplicaOptions},
};
use storage_sqlite::SqliteBackend;
use storage_tests::{Azurite, Proxy, Seen};

/// With its row a little over a kilobyte: four rows are a page.
const ROW_BYTES: u32 = 980;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let json = arguments.iter().skip_while(|argument| *argument != "--json").nth(1);
    let json = json.map(|path| OpenOptions::new().append(true).create(true).open(path).unwrap());
    let rows: u32 = if quick { 64 * 1024 } else { 1024 * 1024 };
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::start().unwrap();
    let proxy = Proxy::start(azurite.port()).unwrap();
    let url = format!("http://127.0.0.1:{}/{}/bars", proxy.port(), azurite.account());
    let azure = |prefix: &str| {
        let (account, key) = (azurite.account().into(), azurite.key().into());
        AzureHome::new(&url, prefix, AzureCredentials::SharedKey { account, key }).unwrap()
    };
    azure("agent").create_container().await.unwrap();
    println!(
        "{:<8} {:<28} {:>13} {:>13} {:>8} {:>12} {:>10}   bar",
        "home", "what", "sent", "received", "requests", "publications", "time"
    );
    let bars =
        Bars { name: "azurite", folder: folder.path().join("azurite"), proxy: Some(&proxy), json: &json };
    bars.run(Arc::new(azure("agent")), rows).await;
    bars.sets(Arc::new(azure("sets"))).await;
    let home = FolderHome::new(folder.path().join("home"));
    let bars = Bars { name: "folder", folder: folder.path().join("folder"), proxy: None, json: &json };
    bars.run(Arc::new(home), rows).await;
    bars.sets(Arc::new(FolderHome::new(folder.path().join("sets")))).await;
}

struct Bars<'a> {
    name: &'static str,
    folder: PathBuf,
    proxy: Option<&'a Proxy>,
    json: &'a Option<File>,
}

/// What something cost.
struct Cost {
    sent: u64,
    received: u64,
    requests: Option<usize>,
    publications: u64,
    time: Duration,
}

impl Bars<'_> {
    fn options(&self, cache: &str) -> Options {
        let long = Duration::from_secs(3_600);
        Options {
            freshness: Duration::ZERO,
            lease_term: Duration::from_secs(60),
            lease_idle: long,
            lease_share: long,
            // What is measured is a publication, not the folding that follows some.
            merge_segments: 1_000,
            fold_bytes: u64::MAX,
            ..Options::new(self.folder.join(cache))
        }
    }

    async fn run(&self, home: Arc<dyn Home>, rows: u32) {
        let writer = DatabaseStore::open(Arc::clone(&home), self.options("writer")).await.unwrap();
        self.measure(&writer, "the first generation", "", fill(&writer, rows)).await;
        let reader = DatabaseStore::open(Arc::clone(&home), self.options("reader")).await.unwrap();
        for (changed, bar) in [(1, "8 KiB"), (100, "450 KB"), (1_000, "4.5 MB")] {
            let (what, bar) = (format!("{changed} changed rows"), format!("<= {bar}, 2 requests"));
            self.measure(&writer, &what, &bar, change(&writer, rows, changed)).await;
            let behind = format!("freshen, {changed} rows behind");
            self.measure(&reader, &behind, "2 requests, about what was sent", fresh(&reader)).await;
        }
        self.measure(&reader, "freshen, up to date", "1 request, no body", fresh(&reader)).await;
        self.whole_file(&*home, &writer.path()).await;
        reader.close().await.unwrap();
        self.cold_query(&home, &writer, rows, "3 segments", "").await;
        writer.fold().await.unwrap();
        self.cold_query(&home, &writer, rows, "a base alone", "<= 2 MiB, 8 requests").await;
        for row in 0..100 {
            change(&writer, rows, 1 + row % 2).await;
        }
        self.cold_query(&home, &writer, rows, "100 segments", "<= 2 MiB, 8 requests").await;
        writer.merge().await.unwrap();
        self.cold_query(&home, &writer, rows, "1 merged segment", "<= 2 MiB, 8 requests").await;
        for _ in 0..150 {
            change(&writer, rows, 1).await;
            change(&writer, rows, 2).await;
            writer.merge().await.unwrap();
        }
        self.cold_query(&home, &writer, rows, "150 merged segments", "<= 2 MiB, 8 requests").await;
        // As many as are merged: the head is at its largest.
        for _ in 1..64 {
            change(&writer, rows, 1).await;
        }
        let what = "1 changed row, 63 segments";
        self.measure(&writer, what, "<= 8 KiB, 2 requests", change(&writer, rows, 1)).await;
        self.beside_compaction(&writer, rows).await;
        writer.close().await.unwrap();
    }

    /// How long a write takes at most while the whole is copied and segments are merged, beside what it usually takes.
    async fn beside_compaction(&self, store: &DatabaseStore, rows: u32) {
        let mut usual = Vec::new();
        for _ in 0..200 {
            usual.push(timed(change(store, rows, 1)).await);
        }
        usual.sort_unstable();
        let p99 = usual[usual.len() * 99 / 100];
        let (before, started) = (store.status(), Instant::now());
        let compaction = tokio::spawn({
            let store = store.clone();
            async move {
                store.merge().await.unwrap();
                store.fold().await.unwrap();
            }
        });
        let mut longest = Duration::ZERO;
        while !compaction.is_finished() {
            longest = longest.max(timed(change(store, rows, 1)).await);
        }
        compaction.await.unwrap();
        let mut cost = self.cost(started, &before, &store.status());
        cost.time = longest;
        let bar = format!("longest <= 2 x p99, {} ms", p99.as_millis() * 2);
        self.print("a write beside compaction", &bar, &cost);
    }

    /// A query by primary key in a process that has nothing of the database, and the same in the next one.
    async fn cold_query(
        &self,
        home: &Arc<dyn Home>,
        writer: &DatabaseStore,
        rows: u32,
        chain: &str,
        bar: &str,
    ) {
        let id = 1 + fastrand::u32(..rows);
        let row = move |db: &rusqlite::Connection| {
            db.query_row("SELECT body FROM t WHERE id = ?1", [id], |row| row.get::<_, Vec<u8>>(0))
        };
        let expected = writer.read(row).await.unwrap();
        for (which, bar) in [("cold", bar), ("warm", "1 request")] {
            if let Some(proxy) = self.proxy {
                proxy.reset();
            }
            let started = Instant::now();
            let options = ReplicaOptions::new(self.folder.join(format!("replica of {chain}")));
            let replica = Replica::open(Arc::clone(home), options).await.unwrap();
            assert!(replica.read(row).await.unwrap() == expected);
            let (time, status) = (started.elapsed(), replica.status());
            let mut cost = Cost {
                sent: 0,
                received: status.bytes_received,
                requests: usize::try_from(status.requests).ok(),
                publications: 0,
                time,
            };
            if let Some(proxy) = self.proxy {
                let seen = proxy.seen();
                cost.requests = Some(seen.len());
                cost.received = seen.iter().map(|seen| seen.received as u64).sum();
            }
            self.print(&format!("{which} query, {chain}"), bar, &cost);
        }
    }

    /// Through the key/value backend.
    async fn sets(&self, home: Arc<dyn Home>) {
        let managed = Managed::new(home, self.options("sets"));
        let storage = Arc::new(SqliteBackend::new(managed.config()).unwrap());
        storage.connect().await.unwrap();
        let sets = async {
            let sets = (0..64).map(|number| {
                let storage = Arc::clone(&storage);
                tokio::spawn(
                    async move { storage.set(&format!("deal:{number}"), Json::from(number), None).await },
                )
            });
            for set in join_all(sets).await {
                set.unwrap().unwrap();
            }
        };
        let store = managed.store().await.unwrap();
        self.measure(&store, "64 concurrent sets", "<= 4 publications", sets).await;
        storage.disconnect().await.unwrap();
    }

    async fn measure(&self, store: &DatabaseStore, what: &str, bar: &str, work: impl Future<Output = ()>) {
        if let Some(proxy) = self.proxy {
            proxy.reset();
        }
        let (before, started) = (store.status(), Instant::now());
        work.await;
        self.print(what, bar, &self.cost(started, &before, &store.status()));
    }

    /// With a proxy all that went over the wire but for headers, without one the objects' bytes.
    fn cost(&self, started: Instant, before: &Status, after: &Status) -> Cost {
        let (time, publications) = (started.elapsed(), after.publications - before.publications);
        let Some(proxy) = self.proxy else {
            let sent = after.bytes_sent - before.bytes_sent;
            let received = after.bytes_received - before.bytes_received;
            return Cost { sent, received, requests: None, publications, time };
        };
        let seen = proxy.seen();
        let sum = |of: fn(&Seen) -> usize| seen.iter().map(of).sum::<usize>() as u64;
        let (sent, received) = (sum(|seen| seen.sent), sum(|seen| seen.received));
        Cost { sent, received, requests: Some(seen.len()), publications, time }
    }

    fn print(&self, what: &str, bar: &str, cost: &Cost) {
        let Cost { sent, received, requests, publications, time } = cost;
        let (name, millis) = (self.name, time.as_millis());
        let shown = requests.map_or_else(|| "-".to_owned(), |requests| requests.to_string());
        println!(
            "{name:<8} {what:<28} {sent:>13} {received:>13} {shown:>8} {publications:>12} {millis:>7} ms   {bar}"
        );
        if let Some(mut file) = self.json.as_ref() {
            let line = serde_json::json!({
                "store": "managed", "home": name, "what": what, "sent_bytes": sent, "received_bytes": received,
                "requests": requests, "publications": publications, "millis": time.as_secs_f64() * 1e3, "bar": bar,
            });
            writeln!(file, "{line}").unwrap();
        }
    }

    /// What the system that this replaces does for each batch.
    async fn whole_file(&self, home: &dyn Home, path: &Path) {
        if let Some(proxy) = self.proxy {
            proxy.reset();
        }
        let (sent, started) = (std::fs::metadata(path).unwrap().len(), Instant::now());
        home.put("whole", Body::File { path: path.to_owned(), length: sent }, &|_| {}).await.unwrap();
        let requests = self.proxy.map(|proxy| proxy.seen().len());
        let cost = Cost { sent, received: 0, requests, publications: 0, time: started.elapsed() };
        self.print("whole-file upload", "", &cost);
    }
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let started = Instant::now();
    work.await;
    started.elapsed()
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
