//! The contract on a Redis server, on a Redis Cluster and on Valkey.

mod support;

use std::sync::Arc;

use storage_core::StorageBackend;
use storage_redis::RedisBackend;

fn open(url: &str, namespace: &str) -> Arc<dyn StorageBackend> {
    let mut config = support::config(&support::variable(url));
    config.namespace = format!("c{}_{namespace}:", std::process::id());
    #[allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
    Arc::new(RedisBackend::new(config).unwrap())
}

mod single {
    use super::*;

    fn open(namespace: &str) -> Arc<dyn StorageBackend> {
        super::open("STORAGE_TEST_REDIS_URL", namespace)
    }

    storage_conformance::full!(open);
    storage_conformance::shared!(open);
    storage_conformance::collections!(open);
}

mod cluster {
    use super::*;

    fn open(namespace: &str) -> Arc<dyn StorageBackend> {
        super::open("STORAGE_TEST_REDIS_CLUSTER_URL", namespace)
    }

    storage_conformance::full!(open);
    storage_conformance::shared!(open);
    storage_conformance::collections!(open);
}

mod valkey {
    use super::*;

    fn open(namespace: &str) -> Arc<dyn StorageBackend> {
        super::open("STORAGE_TEST_VALKEY_URL", namespace)
    }

    storage_conformance::full!(open);
    storage_conformance::shared!(open);
    storage_conformance::collections!(open);
}
