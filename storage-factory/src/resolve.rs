//! From settings to a backend: which type, which URL, which feature.

use std::sync::Arc;

use storage_core::{Error, Result, StorageBackend};

use crate::{
    Settings, builtin, managed,
    options::{DEFAULT_DATABASE_URL, Options},
    registry,
    url::scheme,
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
    let options = Options::parse(settings)?;
    match storage_type(settings)? {
        StorageType::Memory => Ok(builtin::memory(&options)),
        StorageType::Sqlite => match sqlite_url(settings)? {
            url if managed::is_managed(url) => managed::backend(url, settings, &options),
            url => builtin::sqlite(url, &options),
        },
        StorageType::Redis => builtin::redis(redis_url(settings)?, &options),
        StorageType::Postgres => builtin::postgres(postgres_url(settings)?, &options),
        StorageType::Hybrid => builtin::hybrid(postgres_url(settings)?, redis_url(settings)?, &options),
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
    let Some(scheme) = scheme(url) else { return Ok(StorageType::Sqlite) };
    if let Some(name) = registry::type_of_scheme(&scheme) {
        return Ok(StorageType::Registered(name));
    }
    match scheme.split('+').next().unwrap_or_default() {
        "sqlite" => Ok(StorageType::Sqlite),
        "postgres" | "postgresql" => Ok(StorageType::Postgres),
        "redis" | "rediss" | "redis-cluster" | "rediss-cluster" | "unix" => Ok(StorageType::Redis),
        "memory" => Ok(StorageType::Memory),
        _ => Err(Error::config(format!("{setting} has the scheme `{scheme}`, which no backend takes"))
            .with_hint(
                "sqlite, postgresql, postgres, redis, rediss, redis+unix, redis-cluster and memory are taken",
            )),
    }
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

fn postgres_url(settings: &Settings) -> Result<&str> {
    let hint = "set DATABASE_URL to postgresql://user:password@host:5432/database";
    let Some(url) = settings.get("DATABASE_URL") else {
        return Err(Error::config("PostgreSQL URL required").with_hint(hint));
    };
    match by_scheme("DATABASE_URL", url)? {
        StorageType::Postgres => Ok(url),
        _ => Err(contradiction("DATABASE_URL", "postgres or hybrid", "PostgreSQL")
            .with_hint(format!("PostgreSQL URL required: {hint}, or set STORAGE_TYPE to what it names"))),
    }
}

fn redis_url(settings: &Settings) -> Result<&str> {
    if let Some(url) = settings.get("REDIS_URL") {
        return match by_scheme("REDIS_URL", url)? {
            StorageType::Redis if scheme(url).is_some() => Ok(url),
            _ => Err(contradiction("REDIS_URL", "redis or hybrid", "Redis")),
        };
    }
    // `DATABASE_URL=redis://…` says all there is to say.
    match settings.get("DATABASE_URL").filter(|url| scheme(url).is_some()) {
        Some(url) if by_scheme("DATABASE_URL", url)? == StorageType::Redis => Ok(url),
        _ => Err(Error::config("Redis URL required").with_hint("set REDIS_URL to redis://host:6379/0")),
    }
}

#[cfg(test)]
mod tests;
