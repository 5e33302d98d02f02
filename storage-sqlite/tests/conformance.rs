//! The SQLite backend keeps the whole contract.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::{path::Path, sync::Arc};

use storage_core::StorageBackend;
use storage_sqlite::{SqliteBackend, SqliteConfig};

fn open(namespace: &str) -> Arc<dyn StorageBackend> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sqlite-conformance");
    Arc::new(SqliteBackend::new(SqliteConfig::new(folder.join(format!("{namespace}.db")))).unwrap())
}

storage_conformance::full!(open);
storage_conformance::collections!(open);
storage_conformance::search!(open);
storage_conformance::shared!(open);
