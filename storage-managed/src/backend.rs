//! The SQLite backend on a managed database.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::Connection;
use storage_core::Result;
use storage_sqlite::{Publication, Publisher, SqliteConfig, Synchronous};

use crate::{DatabaseStore, Error, Options, cache::Paths, home::Home, local, shared::WriteLock};

/// Lets storage-sqlite's backend run on a managed database: key/values and collections, where nothing is acknowledged
/// before the home has it, and concurrent writes share a publication.
///
/// The database is opened when the backend connects and closed when it disconnects. `connect` then takes as long as it
/// takes to fetch the database.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use storage_core::{Json, StorageBackend};
/// use storage_managed::{Managed, Options, home::FolderHome};
/// use storage_sqlite::SqliteBackend;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// let home = Arc::new(FolderHome::new(folder.path().join("home")));
/// let managed = Managed::new(home, Options::new(folder.path().join("cache")));
/// let storage = SqliteBackend::new(managed.config())?;
/// storage.connect().await?;
/// storage.set("quote:q-1", Json::parse(r#"{"cpm": 12.5}"#)?, None).await?; // it is in the home now
/// storage.disconnect().await
/// # }
/// ```
#[derive(Debug)]
pub struct Managed {
    home: Arc<dyn Home>,
    options: Options,
    store: Mutex<Option<DatabaseStore>>,
}

impl Managed {
    /// A database that is opened when a backend connects. Does no I/O.
    #[must_use]
    pub fn new(home: Arc<dyn Home>, options: Options) -> Arc<Self> {
        Arc::new(Self { home, options, store: Mutex::new(None) })
    }

    /// Settings of a backend on this database, to be changed as one likes: path and publisher aside. Give it to one backend.
    #[must_use]
    pub fn config(self: &Arc<Self>) -> SqliteConfig {
        SqliteConfig {
            // What makes a write last is the home.
            synchronous: Synchronous::Normal,
            publisher: Some(Arc::clone(self) as Arc<dyn Publisher>),
            ..SqliteConfig::new(Paths::new(&self.options.cache).database())
        }
    }

    /// The open store, for its status and what else it can do.
    ///
    /// # Errors
    /// [`Error::Closed`] while the backend is not connected.
    pub async fn store(&self) -> Result<DatabaseStore, Error> {
        self.lock().clone().ok_or(Error::Closed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<DatabaseStore>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Publisher for Managed {
    async fn open(&self) -> Result<()> {
        // A backend opens once at a time.
        if self.lock().is_none() {
            let store = DatabaseStore::open(Arc::clone(&self.home), self.options.clone()).await?;
            *self.lock() = Some(store);
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let open = self.lock().take();
        match open {
            Some(store) => Ok(store.close().await?),
            None => Ok(()),
        }
    }

    fn prepare(&self, db: &Connection) -> rusqlite::Result<()> {
        local::prepare(db)
    }

    async fn refresh(&self) -> Result<()> {
        self.store().await?.ensure_fresh().await?;
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        Ok(self.store().await?.check().await?)
    }

    fn behind(&self) -> Option<Duration> {
        self.lock().as_ref().and_then(|store| store.status().lag)
    }

    async fn begin(&self) -> Result<Box<dyn Publication>> {
        Ok(Box::new(self.store().await?.begin_batches().await?))
    }
}

#[async_trait]
impl Publication for WriteLock {
    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(self.end_batches().await?)
    }
}
