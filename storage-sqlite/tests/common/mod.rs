//! A file of its own for each test, and a look at it from outside.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::PathBuf;

use rusqlite::Connection;
use storage_core::{Json, StorageBackend};
use storage_sqlite::{SqliteBackend, SqliteConfig};
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("agent.db")
    }

    pub(crate) fn config(&self) -> SqliteConfig {
        SqliteConfig::new(self.path())
    }

    pub(crate) async fn connected(&self) -> SqliteBackend {
        connected(self.config()).await
    }

    /// A plain connection, as another program has it.
    pub(crate) fn outside(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

pub(crate) async fn connected(config: SqliteConfig) -> SqliteBackend {
    let backend = SqliteBackend::new(config).unwrap();
    backend.connect().await.unwrap();
    backend
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap()
}
