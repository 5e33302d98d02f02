//! Reading without a full download.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod costs;
mod damage;
mod equality;
#[path = "../managed/faulty.rs"]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod faulty;
mod meanwhile;
mod refusals;
mod releases;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub(crate) use faulty::Faulty;
use storage_managed::{
    DatabaseStore, Options, RetryPolicy,
    home::{FolderHome, Home},
    lazy::{Replica, ReplicaOptions},
};
use tempfile::TempDir;

/// A home in a folder, and room for caches.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn home(&self) -> Arc<Faulty> {
        Faulty::new(Arc::new(FolderHome::new(self.folder.path().join("home"))))
    }

    /// Merges and folds only when it is told to.
    pub(crate) fn options(&self) -> Options {
        let long = Duration::from_secs(60);
        Options {
            freshness: Duration::ZERO,
            lease_idle: long,
            lease_share: long,
            lease_term: long * 10,
            merge_segments: 100_000,
            fold_bytes: u64::MAX,
            grace: Duration::ZERO,
            ..Options::new(self.folder.path().join("writer"))
        }
    }

    pub(crate) async fn writer(&self) -> DatabaseStore {
        DatabaseStore::open(self.home(), self.options()).await.unwrap()
    }

    pub(crate) fn replica_options(&self, cache: &str) -> ReplicaOptions {
        let retry =
            RetryPolicy { attempts: 3, pause: Duration::from_millis(1), cap: Duration::from_millis(5) };
        ReplicaOptions { retry, ..ReplicaOptions::new(self.folder.path().join(cache)) }
    }

    pub(crate) async fn replica(&self, cache: &str) -> Replica {
        Replica::open(self.home(), self.replica_options(cache)).await.unwrap()
    }

    /// Takes from head and index what releases left out that did not know it: which pages segments change.
    pub(crate) fn forget_what_is_told(&self) {
        let home = self.folder.path().join("home");
        let hash = |bytes: &[u8]| {
            let sum = u128::from_le_bytes(*blake3::hash(bytes).as_bytes().first_chunk().unwrap());
            format!("{sum:032x}")
        };
        let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap();
        let mut head = read("head");
        if let Some(told) = head.find(",\"pages\":").filter(|at| head[*at..].contains(",\"sum\":")) {
            let end = told + head[told..].find(",\"sum\":").unwrap();
            head.replace_range(told..end, "");
        }
        for path in self.objects("index") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let (generation, id) = name.split_once('-').unwrap();
            let mut index = std::fs::read_to_string(&path).unwrap();
            if let Some(told) = index.find(",\"begin\":\"") {
                index.replace_range(told.., "}");
            }
            let anew = hash(index.as_bytes());
            std::fs::write(home.join(format!("index/{generation}-{anew}")), index).unwrap();
            head = head.replace(id, &anew);
        }
        head.truncate(head.find(",\"sum\":").unwrap());
        let sum = hash(head.as_bytes());
        std::fs::write(home.join("head"), format!("{head},\"sum\":\"{sum}\"}}")).unwrap();
    }

    /// The objects of a kind, in the order of their generations.
    pub(crate) fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("home").join(kind)) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

/// Writes rows of about a kilobyte that do not compress, replacing those that are there.
pub(crate) async fn fill(store: &DatabaseStore, ids: std::ops::Range<i64>) {
    store
        .for_write(move |db| {
            db.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)")?;
            let mut insert = db.prepare("INSERT OR REPLACE INTO t VALUES (?1, randomblob(980))")?;
            ids.into_iter().try_for_each(|id| insert.execute([id]).map(drop))
        })
        .await
        .unwrap();
}

pub(crate) fn row(db: &rusqlite::Connection, id: i64) -> rusqlite::Result<Vec<u8>> {
    db.query_row("SELECT body FROM t WHERE id = ?1", [id], |row| row.get(0))
}

pub(crate) fn count(db: &rusqlite::Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT count(*) FROM t WHERE length(body) > 0", [], |row| row.get(0))
}

pub(crate) fn open(
    home: Arc<dyn Home>,
    options: ReplicaOptions,
) -> impl Future<Output = storage_managed::Result<Replica>> {
    Replica::open(home, options)
}
