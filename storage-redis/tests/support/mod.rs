//! What the tests share: backends in namespaces of their own, and a raw connection beside them.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test"
)]

pub(crate) mod callers;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use storage_core::{Json, StorageBackend};
use storage_redis::{RedisBackend, RedisConfig};
pub(crate) use storage_tests::variable;

/// A namespace that nobody else uses.
pub(crate) fn namespace() -> String {
    // Servers that stay up for a day see process ids come again.
    format!("t{:016x}:", fastrand::u64(..))
}

/// The settings of a URL, in a namespace of their own.
pub(crate) fn config(url: &str) -> RedisConfig {
    let mut config = RedisConfig::from_url(url).expect("a URL");
    config.namespace = namespace();
    config
}

/// A connected backend.
pub(crate) async fn open(config: RedisConfig) -> RedisBackend {
    let backend = RedisBackend::new(config).expect("valid settings");
    backend.connect().await.expect("connected");
    backend
}

/// A connected backend on the shared server, and its namespace.
pub(crate) async fn shared() -> (RedisBackend, String) {
    let config = config(&variable("STORAGE_TEST_REDIS_URL"));
    let namespace = config.namespace.clone();
    (open(config).await, namespace)
}

/// A connected backend on the shared cluster.
pub(crate) async fn cluster() -> RedisBackend {
    open(config(&variable("STORAGE_TEST_REDIS_CLUSTER_URL"))).await
}

/// A connection of the driver's own.
pub(crate) async fn raw(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.expect("a raw connection")
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("JSON")
}

/// Calls `probe` until it says true, for 10 seconds.
pub(crate) async fn until(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if probe().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(probe().await, "{what} within 10 seconds");
}
