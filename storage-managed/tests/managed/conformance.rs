//! The SQLite backend on a managed database keeps the whole contract.

use std::{path::Path, sync::Arc, time::Duration};

use storage_core::StorageBackend;
use storage_managed::{Managed, Options, home::FolderHome};
use storage_sqlite::SqliteBackend;

fn open(namespace: &str) -> Arc<dyn StorageBackend> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("managed-conformance").join(namespace);
    let options = Options {
        freshness: Duration::ZERO,
        lease_idle: Duration::from_millis(20),
        lease_share: Duration::from_millis(700),
        ..Options::new(place.join(format!("cache-{:016x}", fastrand::u64(..))))
    };
    let home = Arc::new(FolderHome::new(place.join("home")));
    Arc::new(SqliteBackend::new(Managed::new(home, options).config()).unwrap())
}

storage_conformance::full!(open);
storage_conformance::collections!(open);
storage_conformance::search!(open);
storage_conformance::shared!(open);
