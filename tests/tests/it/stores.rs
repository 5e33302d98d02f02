//! How the tests reach each kind of store.

use std::sync::Arc;

use storage_core::{Json, StorageBackend};
use storage_factory::{Settings, get_storage_backend};
use storage_tests::variable;

pub(crate) type Backend = Arc<dyn StorageBackend>;

/// Settings from pairs; nothing of the environment. What a store answers is tested here: where the test does not say how
/// long that may take, a disk or a machine that stands still for seconds fails nothing.
pub(crate) fn settings(pairs: &[(&str, &str)]) -> Settings {
    let patient = Settings::new().with("STORAGE_OPERATION_TIMEOUT", "60s").unwrap();
    pairs.iter().fold(patient, |settings, (name, text)| settings.with(name, *text).unwrap())
}

/// The backend that the factory builds from pairs, unconnected.
pub(crate) fn build(pairs: &[(&str, &str)]) -> Backend {
    get_storage_backend(&settings(pairs)).unwrap()
}

/// The same, connected.
pub(crate) async fn connected(pairs: &[(&str, &str)]) -> Backend {
    let backend = build(pairs);
    backend.connect().await.unwrap();
    backend
}

/// Hybrid on the shared servers, with a schema and a namespace of its own.
pub(crate) fn hybrid(namespace: &str, ephemeral: &str) -> Backend {
    let pairs = hybrid_settings(namespace, ephemeral);
    build(&pairs.each_ref().map(|(name, text)| (*name, text.as_str())))
}

pub(crate) fn hybrid_settings(namespace: &str, ephemeral: &str) -> [(&'static str, String); 7] {
    [
        ("STORAGE_TYPE", "hybrid".into()),
        ("DATABASE_URL", variable("STORAGE_TEST_POSTGRES_URL")),
        ("POSTGRES_SCHEMA", namespace.into()),
        ("POSTGRES_POOL_MIN", "0".into()),
        ("REDIS_URL", variable("STORAGE_TEST_REDIS_URL")),
        ("REDIS_NAMESPACE", format!("{namespace}:")),
        ("STORAGE_EPHEMERAL_PREFIXES", ephemeral.into()),
    ]
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap()
}
