//! The built-in backends, as far as they are compiled in: the only place with backend features.

use std::sync::Arc;

use storage_core::{Error, MemoryBackend, MemoryConfig, Result, StorageBackend};

use crate::{Settings, options::Options};

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
    config.create = options.create;
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
    for (name, is_set) in [
        ("REDIS_TLS_CA", options.redis_tls_ca.is_some()),
        ("REDIS_TLS_VERIFY", options.redis_tls_verify.is_some()),
    ] {
        if is_set && !config.has_tls() {
            return Err(Error::config(format!("{name} is set, and REDIS_URL asks for no TLS"))
                .with_hint("write rediss:// in place of redis://, or leave the setting out"));
        }
    }
    if let Some(ca) = &options.redis_tls_ca {
        config.tls_ca = Some(ca.clone());
    }
    if let Some(verify) = options.redis_tls_verify {
        use crate::options::Verify;
        config.tls_verify = match verify {
            Verify::Full => storage_redis::TlsVerify::Full,
            Verify::None => storage_redis::TlsVerify::None,
        };
    }
    if let Some(namespace) = &options.redis_namespace {
        config.namespace.clone_from(namespace);
    }
    if let Some(connections) = options.redis_connections {
        config.connections = connections;
    }
    Ok(Arc::new(storage_redis::RedisBackend::new(config)?))
}

#[cfg(feature = "postgres")]
pub(crate) fn postgres(url: &str, settings: &Settings, options: &Options) -> Result<Backend> {
    let mut config = postgres_server(url, &|name| settings.exact(name), options)?;
    if let Some(url) = &options.postgres_read_url {
        // These are about the primary.
        let theirs = |name: &str| if PRIMARY_VARIABLES.contains(&name) { None } else { settings.exact(name) };
        let reads = postgres_server(url, &theirs, options).map_err(|error| {
            Error::config(format!("POSTGRES_READ_URL: {}", error.message())).with_hint_of(&error)
        })?;
        config.read_url = Some(Box::new(reads));
    }
    config.read_staleness = options.postgres_read_staleness.unwrap_or(config.read_staleness);
    config.create = options.create;
    config.operation_timeout = options.operation_timeout;
    config.max_value_bytes = options.max_value_bytes;
    config.sweep = options.sweep;
    if let Some(schema) = &options.postgres_schema {
        config.schema = Some(schema.clone());
    }
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

/// What libpq's variables say about which server, which is the one that takes writes.
#[cfg(feature = "postgres")]
const PRIMARY_VARIABLES: [&str; 4] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGTARGETSESSIONATTRS"];

/// What the URL says, libpq's variables where it says nothing, and how the server is verified.
#[cfg(feature = "postgres")]
fn postgres_server(
    url: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    options: &Options,
) -> Result<storage_postgres::PostgresConfig> {
    use crate::options::Verify;
    use storage_postgres::{PostgresConfig, SslMode, SslRoots, TlsVerify};

    let mut config = PostgresConfig::from_url_and_variables(url, variable)?;
    let asks_for_nothing = config.ssl_mode == SslMode::Prefer;
    if let Some(ca) = &options.postgres_tls_ca {
        if config.ssl_mode == SslMode::Disable {
            return Err(Error::config("POSTGRES_TLS_CA is set, and sslmode=disable asks for no TLS")
                .with_hint("leave one of them out; sslmode may stand in the URL or in PGSSLMODE"));
        }
        config.ssl_roots = Some(SslRoots::File(ca.clone()));
        if asks_for_nothing {
            config.ssl_mode = SslMode::VerifyFull;
        }
    }
    match options.postgres_tls_verify {
        Some(Verify::Full) => config.ssl_mode = SslMode::VerifyFull,
        Some(Verify::None) => {
            config.tls_verify = TlsVerify::None;
            if asks_for_nothing {
                config.ssl_mode = SslMode::Require;
            }
        }
        None => {}
    }
    config.pooler = options.postgres_pooler.unwrap_or(config.pooler);
    Ok(config)
}

#[cfg(feature = "hybrid")]
pub(crate) fn hybrid(
    (postgres_url, redis_url): (&str, &str),
    settings: &Settings,
    options: &Options,
) -> Result<Backend> {
    let mut routes = storage_hybrid::Routes::default();
    for prefix in &options.ephemeral_prefixes {
        routes = routes.ephemeral(prefix)?;
    }
    let (durable, ephemeral) = (postgres(postgres_url, settings, options)?, redis(redis_url, options)?);
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
pub(crate) fn postgres(_url: &str, _settings: &Settings, _options: &Options) -> Result<Backend> {
    Err(missing("postgres"))
}

#[cfg(not(feature = "hybrid"))]
pub(crate) fn hybrid(_urls: (&str, &str), _settings: &Settings, _options: &Options) -> Result<Backend> {
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

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use storage_postgres::{SslMode, SslRoots, TlsVerify};

    use super::*;

    #[test]
    fn what_is_said_about_certificates_and_hosts_holds_for_the_server_that_it_is_about() {
        let of = |url: &str, pairs: &[(&str, &str)]| {
            let settings =
                pairs.iter().fold(Settings::new(), |all, (name, text)| all.with(name, *text).unwrap());
            let options = Options::parse(&settings).unwrap();
            postgres_server(url, &|name| settings.exact(name), &options).unwrap()
        };
        let (ca, none) = (("POSTGRES_TLS_CA", "/ca.pem"), ("POSTGRES_TLS_VERIFY", "none"));
        let full = ("POSTGRES_TLS_VERIFY", "full");
        for (url, pairs, mode, verify) in [
            ("postgresql://h/d", vec![], SslMode::Prefer, TlsVerify::Full),
            ("postgresql://h/d", vec![ca], SslMode::VerifyFull, TlsVerify::Full),
            ("postgresql://h/d?sslmode=verify-ca", vec![ca], SslMode::VerifyCa, TlsVerify::Full),
            ("postgresql://h/d?sslmode=verify-ca", vec![ca, full], SslMode::VerifyFull, TlsVerify::Full),
            ("postgresql://h/d", vec![none], SslMode::Require, TlsVerify::None),
            ("postgresql://h/d?sslmode=disable", vec![none], SslMode::Disable, TlsVerify::None),
            ("host=h", vec![("PGSSLMODE", "require"), full], SslMode::VerifyFull, TlsVerify::Full),
        ] {
            let config = of(url, &pairs);
            assert_eq!((config.ssl_mode, config.tls_verify), (mode, verify), "{url} {pairs:?}");
            let roots = pairs.contains(&ca).then(|| SslRoots::File("/ca.pem".into()));
            assert_eq!(config.ssl_roots, roots, "{url} {pairs:?}");
        }
        assert!(of("postgresql://h/d", &[("POSTGRES_POOLER", "true")]).pooler);
        let settings = Settings::new().with(ca.0, ca.1).unwrap();
        let error =
            postgres("postgresql://h/d?sslmode=disable", &settings, &Options::parse(&settings).unwrap());
        assert!(error.err().unwrap().to_string().contains("sslmode=disable asks for no TLS"));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn what_is_said_about_certificates_of_redis_needs_tls() {
        for (url, pair, is_taken) in [
            ("rediss://h", ("REDIS_TLS_VERIFY", "none"), true),
            ("rediss+sentinel://h:1/s", ("REDIS_TLS_VERIFY", "full"), true),
            ("redis://h", ("REDIS_TLS_VERIFY", "full"), false),
            ("redis-cluster://h:1", ("REDIS_TLS_CA", "/ca.pem"), false),
        ] {
            let settings = Settings::new().with(pair.0, pair.1).unwrap();
            let made = redis(url, &Options::parse(&settings).unwrap());
            assert_eq!(made.is_ok(), is_taken, "{url}");
            assert!(made.err().is_none_or(|error| error.to_string().contains(pair.0)), "{url}");
        }
    }
}
