//! A hook for whoever keeps the file elsewhere too, such as a managed database.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use rusqlite::{self, Connection};
use storage_core::Result;

/// Keeps what is written to the file elsewhere, so that a write is acknowledged only once it is there.
///
/// With no publisher, which is the default, nothing of this costs anything.
#[async_trait]
pub trait Publisher: fmt::Debug + Send + Sync {
    /// Makes the file ready, before the first connection to it is opened. Bounded by the publisher, not by the timeout of
    /// an operation: a file may have to be fetched.
    ///
    /// # Errors
    /// What `connect` then answers.
    async fn open(&self) -> Result<()>;

    /// Releases the file, after the last connection was closed.
    ///
    /// # Errors
    /// What `disconnect` then answers.
    async fn close(&self) -> Result<()>;

    /// Sets up a connection that was just opened.
    ///
    /// # Errors
    /// What opening the connection then answers.
    fn prepare(&self, db: &Connection) -> rusqlite::Result<()>;

    /// Brings the file up to date before a read.
    ///
    /// # Errors
    /// What the read then answers.
    async fn refresh(&self) -> Result<()>;

    /// Whether what is written could be published now, without publishing anything: what [`health`] says of writes.
    ///
    /// # Errors
    /// What a write would answer.
    ///
    /// [`health`]: storage_core::StorageBackend::health
    async fn check(&self) -> Result<()>;

    /// How far what is read may be behind what was published, where that is known.
    fn behind(&self) -> Option<Duration>;

    /// Called before a write transaction begins: nobody else writes until the publication has finished.
    ///
    /// # Errors
    /// What the writes then answer: nothing was applied.
    async fn begin(&self) -> Result<Box<dyn Publication>>;
}

/// The time in which one writer may write, and what it has written is published.
#[async_trait]
pub trait Publication: Send {
    /// Publishes what was committed since it began, if anything was, and ends it.
    ///
    /// # Errors
    /// What the writes then answer although they were committed: `OutcomeUnknown` where they may be published later.
    async fn finish(self: Box<Self>) -> Result<()>;
}
