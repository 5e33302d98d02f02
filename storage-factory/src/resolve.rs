//! From settings to a backend: which type, which URL, which feature.

use std::sync::Arc;

use storage_core::{Error, Result, StorageBackend};

use crate::{
    Settings, builtin, managed,
    options::{DEFAULT_DATABASE_URL, Options},
    registry,
    url::{Named, is_managed, lowered, named},
};

/// Which backend the settings ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageType {
    /// The memory of this process.
    Memory,
    /// One SQLite file, or a managed database.
    Sqlite,
    /// Redis or Redis Cluster.
    Redis,
    /// Postgres.
    Postgres,
    /// Postgres for durable keys, Redis for ephemeral ones.
    Hybrid,
    /// A type that a third party registered.
    Registered(String),
}

/// The built-in types by name.
const BUILT_IN: [(&str, StorageType); 5] = [
    ("memory", StorageType::Memory),
    ("sqlite", StorageType::Sqlite),
    ("redis", StorageType::Redis),
    ("postgres", StorageType::Postgres),
    ("hybrid", StorageType::Hybrid),
];

/// Builds the backend that the settings ask for. Does no I/O: `connect` does.
///
/// # Errors
/// `Config` naming the setting that is unknown, malformed, missing or contradicts another, or the Cargo feature that this
/// build lacks.
pub fn get_storage_backend(settings: &Settings) -> Result<Arc<dyn StorageBackend>> {
    build(settings, &Options::parse(settings)?)
}

pub(crate) fn build(settings: &Settings, options: &Options) -> Result<Arc<dyn StorageBackend>> {
    match storage_type(settings)? {
        StorageType::Memory => Ok(builtin::memory(options)),
        StorageType::Sqlite => match sqlite_url(settings)? {
            url if is_managed(url) => managed::backend(url, settings, options),
            url => builtin::sqlite(url, options),
        },
        StorageType::Redis => builtin::redis(&redis_url(settings)?, options),
        StorageType::Postgres => builtin::postgres(&postgres_url(settings)?, settings, options),
        StorageType::Hybrid => {
            let (durable, ephemeral) = (postgres_url(settings)?, redis_url(settings)?);
            builtin::hybrid((&durable, &ephemeral), settings, options)
        }
        StorageType::Registered(name) => registry::open(&name, settings),
    }
}

/// The type that the settings ask for, by `STORAGE_TYPE`, else by the URLs.
///
/// # Errors
/// `Config` where the type is unknown, where the URLs leave it open, or where a URL has a scheme that no backend takes.
pub fn storage_type(settings: &Settings) -> Result<StorageType> {
    if let Some(name) = settings.get("STORAGE_TYPE") {
        return by_name(name);
    }
    let by_database = settings.get("DATABASE_URL").map(|url| by_scheme("DATABASE_URL", url)).transpose()?;
    match (settings.get("REDIS_URL"), by_database) {
        (Some(_), Some(StorageType::Postgres)) => {
            let error = Error::config("DATABASE_URL names Postgres and REDIS_URL is set too");
            Err(error.with_hint("set STORAGE_TYPE to hybrid to use both, or to postgres or redis"))
        }
        (Some(_), _) => Ok(StorageType::Redis),
        (None, Some(by_scheme)) => Ok(by_scheme),
        (None, None) => Ok(StorageType::Sqlite),
    }
}

fn by_name(name: &str) -> Result<StorageType> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, found)) = BUILT_IN.iter().find(|(known, _)| *known == lower) {
        return Ok(found.clone());
    }
    match lower.as_str() {
        "postgresql" => Ok(StorageType::Postgres),
        _ if registry::has_type(&lower) => Ok(StorageType::Registered(lower)),
        _ => {
            let supported = BUILT_IN.map(|(known, _)| known).join(", ");
            let message = format!("Unknown storage type `{}`", name.escape_debug());
            Err(Error::config(message).with_hint(format!(
                "supported: {supported}; compiled in: {}{}",
                builtin::COMPILED.join(", "),
                registry::names_for_hint()
            )))
        }
    }
}

fn by_scheme(setting: &str, url: &str) -> Result<StorageType> {
    let scheme = match named(url) {
        Named::Scheme(scheme) => scheme,
        Named::Libpq => return Ok(StorageType::Postgres),
        Named::Path => return Ok(StorageType::Sqlite),
        named => return Err(unclear(setting, url, &named)),
    };
    if let Some(name) = registry::type_of_scheme(&scheme) {
        return Ok(StorageType::Registered(name));
    }
    match scheme.split('+').next().unwrap_or_default() {
        "sqlite" => Ok(StorageType::Sqlite),
        "postgres" | "postgresql" => Ok(StorageType::Postgres),
        "redis" | "rediss" | "redis-cluster" | "rediss-cluster" | "unix" | "valkey" | "valkeys"
        // Which are refused with the form that is taken here.
        | "redis-sentinel" | "rediss-sentinel" | "sentinel" => Ok(StorageType::Redis),
        "memory" => Ok(StorageType::Memory),
        _ => Err(Error::config(format!("{setting} has the scheme `{scheme}`, which no backend takes"))
            .with_hint(
                "sqlite, postgresql, postgres, redis, rediss, valkey, valkeys, redis+unix, redis+sentinel, redis-cluster and memory are taken",
            )),
    }
}

/// A text that is not taken for the name of a file. It is not repeated, but for what can be no password.
fn unclear(setting: &str, text: &str, named: &Named) -> Error {
    let (what, hint) = match named {
        Named::Address if setting == "REDIS_URL" => {
            ("is an address and no URL", format!("write redis://{text}, or rediss://{text} for TLS"))
        }
        Named::Address => (
            "is an address and no URL",
            format!("write redis://{text}, or postgresql://user:password@host:port/database"),
        ),
        Named::Tilde => (
            "begins with `~`, which only shells know",
            "write the whole path, such as sqlite:////home/me/agent.db".to_owned(),
        ),
        Named::WithoutColon => (
            "has no colon after its scheme",
            "write sqlite:///./agent.db, postgresql://user:password@host/database or redis://host:6379/0".to_owned(),
        ),
        _ if text.starts_with(['"', '\'']) => {
            ("begins with a quote", "leave the quotes out: this is where a shell or `.env` had taken them".to_owned())
        }
        _ if BUILT_IN.iter().any(|(name, _)| text.eq_ignore_ascii_case(name)) => (
            "is the name of a type and no URL",
            format!("set STORAGE_TYPE to {}", text.to_ascii_lowercase()),
        ),
        _ if setting == "REDIS_URL" => {
            ("is no URL", "write redis://user:password@host:6379/0, or rediss:// for TLS".to_owned())
        }
        _ => (
            "is neither a URL nor plainly a path",
            "write ./agent.db or sqlite:///./agent.db for a file, postgresql://user:password@host/database for Postgres"
                .to_owned(),
        ),
    };
    Error::config(format!("{setting} {what}")).with_hint(hint)
}

fn contradiction(setting: &str, wants: &str, kind: &str) -> Error {
    Error::config(format!("{setting} is no {kind} URL, but the storage type {wants} needs one"))
        .with_hint(format!("correct {setting}, or set STORAGE_TYPE to what it names"))
}

fn sqlite_url(settings: &Settings) -> Result<&str> {
    let url = settings.get("DATABASE_URL").unwrap_or(DEFAULT_DATABASE_URL);
    match by_scheme("DATABASE_URL", url)? {
        StorageType::Sqlite => Ok(managed::check_scheme(url)?),
        _ => Err(contradiction("DATABASE_URL", "sqlite", "SQLite")),
    }
}

fn postgres_url(settings: &Settings) -> Result<String> {
    let hint = "set DATABASE_URL to postgresql://user:password@host:5432/database";
    let Some(url) = settings.get("DATABASE_URL") else {
        // libpq's variables may say all there is to say.
        return match ["PGHOST", "PGHOSTADDR"].iter().any(|name| settings.get(name).is_some()) {
            true => Ok("postgresql://".to_owned()),
            false => Err(Error::config("PostgreSQL URL required").with_hint(hint)),
        };
    };
    match by_scheme("DATABASE_URL", url)? {
        StorageType::Postgres => Ok(lowered(url)),
        _ => Err(contradiction("DATABASE_URL", "postgres or hybrid", "PostgreSQL")
            .with_hint(format!("PostgreSQL URL required: {hint}, or set STORAGE_TYPE to what it names"))),
    }
}

fn redis_url(settings: &Settings) -> Result<String> {
    if let Some(url) = settings.get("REDIS_URL") {
        return match by_scheme("REDIS_URL", url)? {
            StorageType::Redis => Ok(lowered(url)),
            _ => Err(contradiction("REDIS_URL", "redis or hybrid", "Redis")),
        };
    }
    // `DATABASE_URL=redis://…` says all there is to say.
    match settings.get("DATABASE_URL").filter(|url| matches!(named(url), Named::Scheme(_))) {
        Some(url) if by_scheme("DATABASE_URL", url)? == StorageType::Redis => Ok(lowered(url)),
        _ => Err(Error::config("Redis URL required").with_hint("set REDIS_URL to redis://host:6379/0")),
    }
}

#[cfg(test)]
mod tests;
