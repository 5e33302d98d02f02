//! The built-in backends, as far as they are compiled in: the only place with backend features.

use std::sync::Arc;

use storage_core::{Error, MemoryBackend, MemoryConfig, Result, StorageBackend};

use crate::options::Options;

type Backend = Arc<dyn StorageBackend>;

/// The types that this build has.
pub(crate) const COMPILED: &[&str] = &[
    "memory",
    #[cfg(feature = "sqlite")]
    "sqlite",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "hybrid")]
    "hybrid",
];

pub(crate) fn memory(options: &Options) -> Backend {
    let config = MemoryConfig {
        max_value_bytes: options.max_value_bytes,
        sweep: options.sweep,
        ..MemoryConfig::default()
    };
    Arc::new(MemoryBackend::with_config(config))
}

#[cfg(feature = "sqlite")]
pub(crate) fn sqlite(url: &str, options: &Options) -> Result<Backend> {
    let mut config = storage_sqlite::SqliteConfig::from_url(url)?;
    config.operation_timeout = options.operation_timeout;
    config.max_value_bytes = options.max_value_bytes;
    config.sweep = options.sweep;
    Ok(Arc::new(storage_sqlite::SqliteBackend::new(config)?))
}

#[cfg(feature = "redis")]
pub(crate) fn redis(url: &str, options: &Options) -> Result<Backend> {
    let mut config = storage_redis::RedisConfig::from_url(url)?;
    config.operation_timeout = options.operation_timeout;
    config.max_value_bytes = options.max_value_bytes;
    config.tls_ca.clone_from(&options.redis_tls_ca);
    if let Some(namespace) = &options.redis_namespace {
        config.namespace.clone_from(namespace);
    }
    if let Some(connections) = options.redis_connections {
        config.connections = connections;
    }
    Ok(Arc::new(storage_redis::RedisBackend::new(config)?))
}

#[cfg(feature = "postgres")]
pub(crate) fn postgres(url: &str, options: &Options) -> Result<Backend> {
    let mut config = storage_postgres::PostgresConfig::from_url(url)?;
    config.operation_timeout = options.operation_timeout;
    config.max_value_bytes = options.max_value_bytes;
    config.sweep = options.sweep;
    config.schema.clone_from(&options.postgres_schema);
    config.pooler = options.postgres_pooler;
    config.pool_max = options.postgres_pool_max.unwrap_or(config.pool_max);
    // A maximum below the default minimum is meant as it stands.
    config.pool_min = options.postgres_pool_min.unwrap_or(config.pool_min.min(config.pool_max));
    if config.pool_min > config.pool_max {
        let message = format!(
            "POSTGRES_POOL_MIN ({}) is above POSTGRES_POOL_MAX ({})",
            config.pool_min, config.pool_max
        );
        return Err(Error::config(message));
    }
    Ok(Arc::new(storage_postgres::PostgresBackend::new(config)?))
}

#[cfg(feature = "hybrid")]
pub(crate) fn hybrid(postgres_url: &str, redis_url: &str, options: &Options) -> Result<Backend> {
    let mut routes = storage_hybrid::Routes::default();
    for prefix in &options.ephemeral_prefixes {
        routes = routes.ephemeral(prefix)?;
    }
    let (durable, ephemeral) = (postgres(postgres_url, options)?, redis(redis_url, options)?);
    Ok(Arc::new(storage_hybrid::HybridBackend::new(durable, ephemeral, routes)))
}

#[cfg(not(feature = "sqlite"))]
pub(crate) fn sqlite(_url: &str, _options: &Options) -> Result<Backend> {
    Err(missing("sqlite"))
}

#[cfg(not(feature = "redis"))]
pub(crate) fn redis(_url: &str, _options: &Options) -> Result<Backend> {
    Err(missing("redis"))
}

#[cfg(not(feature = "postgres"))]
pub(crate) fn postgres(_url: &str, _options: &Options) -> Result<Backend> {
    Err(missing("postgres"))
}

#[cfg(not(feature = "hybrid"))]
pub(crate) fn hybrid(_postgres_url: &str, _redis_url: &str, _options: &Options) -> Result<Backend> {
    Err(missing("hybrid"))
}

#[cfg_attr(
    all(feature = "sqlite", feature = "redis", feature = "postgres", feature = "hybrid"),
    allow(dead_code, reason = "a build with everything misses nothing")
)]
fn missing(feature: &str) -> Error {
    let message = format!("the storage type {feature} needs the feature `{feature}` of storage-factory");
    Error::config(message).with_hint(format!(
        "this build has {}; build with --features {feature}, or production for all",
        COMPILED.join(", ")
    ))
}
