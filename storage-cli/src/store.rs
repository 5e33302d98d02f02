//! From options and environment to a connected store.

use std::{path::Path, sync::Arc};

use storage_agent::AgentStorage;
use storage_core::{DEFAULT_MAX_VALUE_BYTES, StorageBackend};
use storage_factory::{Settings, get_storage_backend};

use crate::{args::Global, failure::Result};

/// The settings of the environment and of a `.env` file, with the options over them.
///
/// One URL that is given without a type decides alone: what the environment says about the type or the other URL belongs
/// to another store. Only `STORAGE_TYPE=hybrid` stays, which needs both.
pub(crate) fn settings(global: &Global) -> Result<Settings> {
    let mut settings = Settings::from_environment()?.with_dot_env()?;
    let one_url = global.database_url.is_some() != global.redis_url.is_some();
    let hybrid = settings.get("STORAGE_TYPE").is_some_and(|name| name.eq_ignore_ascii_case("hybrid"));
    if one_url && global.storage_type.is_none() && !hybrid {
        for name in ["STORAGE_TYPE", "DATABASE_URL", "REDIS_URL"] {
            settings = settings.with(name, "")?;
        }
    }
    let timeout = global.timeout.map(|timeout| humantime::format_duration(timeout).to_string());
    let options = [
        ("STORAGE_TYPE", &global.storage_type),
        ("DATABASE_URL", &global.database_url),
        ("REDIS_URL", &global.redis_url),
        ("REDIS_NAMESPACE", &global.redis_namespace),
        ("STORAGE_OPERATION_TIMEOUT", &timeout),
    ];
    for (name, option) in options {
        if let Some(text) = option {
            settings = settings.with(name, text)?;
        }
    }
    Ok(settings)
}

/// The settings with another folder for the local copy of a managed database.
pub(crate) fn with_cache(settings: Settings, cache: Option<&Path>) -> Result<Settings> {
    match cache {
        Some(cache) => Ok(settings.with("STORAGE_CACHE_DIR", cache.to_string_lossy())?),
        None => Ok(settings),
    }
}

/// Whether anything says which store to use.
pub(crate) fn is_configured(settings: &Settings) -> bool {
    ["STORAGE_TYPE", "DATABASE_URL", "REDIS_URL"].iter().any(|name| settings.get(name).is_some())
}

/// The longest value that the store takes.
pub(crate) fn max_value_bytes(settings: &Settings) -> usize {
    let text = settings.get("STORAGE_MAX_VALUE_BYTES");
    text.and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_MAX_VALUE_BYTES)
}

/// Connects, works, and closes in any case.
pub(crate) async fn with_shared<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(Arc<dyn StorageBackend>) -> Result<T>,
) -> Result<T> {
    let storage = get_storage_backend(settings)?;
    storage.connect().await?;
    let answer = work(Arc::clone(&storage)).await;
    let closed = storage.disconnect().await;
    let answer = answer?;
    closed?;
    Ok(answer)
}

/// The same for what only borrows the store.
pub(crate) async fn with_store<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&dyn StorageBackend) -> Result<T>,
) -> Result<T> {
    with_shared(settings, async |storage| work(&*storage).await).await
}

/// The same with an agent's memory on the store.
pub(crate) async fn with_agent<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&AgentStorage) -> Result<T>,
) -> Result<T> {
    with_shared(settings, async |storage| work(&AgentStorage::new(storage)?).await).await
}
