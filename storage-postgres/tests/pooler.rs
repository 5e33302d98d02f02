//! The contract, through PgBouncer in transaction mode.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod common;

use std::sync::{Arc, LazyLock};

use storage_core::StorageBackend;
use storage_postgres::PostgresConfig;
use storage_tests::PgBouncer;

/// One for all cases; it ends with this program.
static POOLER: LazyLock<PgBouncer> =
    LazyLock::new(|| PgBouncer::start(common::port(&common::url())).unwrap());

fn open(namespace: &str) -> Arc<dyn StorageBackend> {
    let mut config = PostgresConfig::from_url(&POOLER.url()).unwrap();
    config.schema = Some(namespace.to_owned());
    (config.pooler, config.pool_min) = (true, 0);
    Arc::new(common::open(config))
}

storage_conformance::full!(open);
storage_conformance::collections!(open);
storage_conformance::search!(open);
storage_conformance::shared!(open);
