//! A managed database from outside: over a folder, with faults, kills and several stores.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod adopting;
mod backend;
mod batches;
mod caches;
mod checks;
mod clones;
mod conformance;
#[cfg(feature = "encryption")]
mod encrypted;
mod faults;
mod faulty;
mod folding;
mod foreign;
mod full;
mod gathered;
mod history;
mod holds;
mod identity;
mod kills;
mod leases;
mod liveness;
mod memory;
mod processes;
mod recovery;
mod repairing;
mod settings;
#[path = "../cloud/stopped.rs"]
mod stopped;
mod stores;
mod unmounted;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(crate) use faulty::Faulty;
use storage_managed::{DatabaseStore, Options, Result, RetryPolicy, home::FolderHome};
use tempfile::TempDir;

/// A home in a folder, and room for caches.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn home_path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn home(&self) -> Arc<Faulty> {
        Faulty::new(Arc::new(FolderHome::new(self.home_path())))
    }

    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings that make a test quick.
    pub(crate) fn options(&self, cache: &str) -> Options {
        Options {
            freshness: Duration::ZERO,
            lease_idle: Duration::from_millis(30),
            lease_share: Duration::from_millis(100),
            cache_wait: Duration::from_millis(200),
            retry: RetryPolicy {
                attempts: 3,
                pause: Duration::from_millis(1),
                cap: Duration::from_millis(5),
            },
            ..Options::new(self.cache(cache))
        }
    }

    /// For a store that keeps the lease once it has it, so that it is known which request comes next.
    pub(crate) fn holding(&self, cache: &str) -> Options {
        let long = Duration::from_secs(60);
        Options { lease_idle: long, lease_share: long, lease_term: long * 10, ..self.options(cache) }
    }

    pub(crate) async fn open(&self, cache: &str) -> Result<DatabaseStore> {
        DatabaseStore::open(self.home(), self.options(cache)).await
    }

    pub(crate) fn objects(&self, kind: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.home_path().join(kind)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    pub(crate) fn object(&self, kind: &str, name: &str) -> PathBuf {
        self.home_path().join(kind).join(name)
    }
}

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT)";

/// Adds one row.
pub(crate) async fn add(store: &DatabaseStore, body: &str) -> Result<()> {
    let body = body.to_owned();
    store
        .for_write(move |db| {
            db.execute_batch(TABLE)?;
            db.execute("INSERT INTO t (body) VALUES (?1)", [body]).map(drop)
        })
        .await
}

/// All rows as they are here.
pub(crate) async fn rows(store: &DatabaseStore) -> Vec<String> {
    store.read(rows_of).await.unwrap()
}

pub(crate) fn rows_of(db: &rusqlite::Connection) -> rusqlite::Result<Vec<String>> {
    let exists: bool =
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 't'", [], |row| row.get(0))?;
    if !exists {
        return Ok(Vec::new());
    }
    db.prepare("SELECT body FROM t ORDER BY id")?.query_map([], |row| row.get(0))?.collect()
}

/// All rows, from the home alone.
pub(crate) async fn rows_in_home(place: &Place) -> Vec<String> {
    let cache = tempfile::tempdir_in(place.folder.path()).unwrap();
    let options = Options { cache: cache.path().to_owned(), ..place.options("unused") };
    let store = DatabaseStore::open(Arc::new(FolderHome::new(place.home_path())), options).await.unwrap();
    let found = rows(&store).await;
    if store.status().generation > 0 {
        store.verify().await.unwrap();
    }
    store.close().await.unwrap();
    found
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
