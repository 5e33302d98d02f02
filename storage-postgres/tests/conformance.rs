//! The contract, on a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod common;

use std::sync::Arc;

use storage_core::StorageBackend;

fn open(namespace: &str) -> Arc<dyn StorageBackend> {
    let mut config = common::config("unused");
    // Cases with several handles ask for the same namespace and must get the same schema.
    config.schema = Some(namespace.to_owned());
    Arc::new(common::open(config))
}

storage_conformance::full!(open);
storage_conformance::collections!(open);
storage_conformance::search!(open);
storage_conformance::shared!(open);
