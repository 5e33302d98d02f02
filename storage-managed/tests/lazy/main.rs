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
