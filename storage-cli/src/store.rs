//! From options and environment to a connected store.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use storage_agent::AgentStorage;
use storage_core::{DEFAULT_MAX_VALUE_BYTES, ErrorKind, StorageBackend};
use storage_factory::{
    SETTINGS, Settings, StorageType, connect_existing, get_storage_backend, managed_database, storage_type,
};
use storage_managed::is_in_use;

use crate::{
    args::Global,
    failure::{Result, redact},
};

/// How long closing may take where the server has been silent.
const GOODBYE: Duration = Duration::from_millis(300);

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

/// Where the store is, as far as a URL says it, for a person to see.
pub(crate) fn place(settings: &Settings) -> String {
    let urls = ["DATABASE_URL", "REDIS_URL"].iter().filter_map(|name| settings.get(name));
    // libpq's form has the password in it.
    let shown: Vec<_> = urls.filter(|url| url.contains("://") || !url.contains('=')).map(redact).collect();
    match (shown.as_slice(), storage_type(settings)) {
        ([], Ok(StorageType::Sqlite)) => format!(", {}", default_of("DATABASE_URL")),
        ([], _) => String::new(),
        (urls, _) => format!(", {}", urls.join(" and ")),
    }
}

fn default_of(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default)
}

/// The settings with another folder for the local copy of a managed database.
pub(crate) fn with_cache(settings: Settings, cache: Option<&Path>) -> Result<Settings> {
    match cache {
        Some(cache) => Ok(settings.with("STORAGE_CACHE_DIR", cache.to_string_lossy())?),
        None => Ok(settings),
    }
}

/// The settings with another folder for the local copy of a managed database where a program uses the usual one.
pub(crate) fn beside_an_agent(settings: Settings) -> Settings {
    match managed_database(&settings) {
        Ok((_, options)) if is_in_use(&options.cache) => {
            let own = own_cache(&options.cache);
            settings.clone().with("STORAGE_CACHE_DIR", own.to_string_lossy()).unwrap_or(settings)
        }
        _ => settings,
    }
}

/// Where this program has its copy of a managed database while an agent uses the usual one. It stays, for the next command.
pub(crate) fn own_cache(cache: &Path) -> PathBuf {
    let mut own = cache.as_os_str().to_owned();
    own.push("-cli");
    own.into()
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

/// Connects to the store that is there, works, and closes in any case. Makes none: what only reads, or removes, would find
/// nothing in it.
pub(crate) async fn with_shared<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(Arc<dyn StorageBackend>) -> Result<T>,
) -> Result<T> {
    until_closed(connect_existing(settings).await?, work).await
}

/// The same where the store is made if it is not there, for what writes to it.
pub(crate) async fn with_made<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&dyn StorageBackend) -> Result<T>,
) -> Result<T> {
    let storage = get_storage_backend(settings)?;
    storage.connect().await?;
    until_closed(storage, async |storage| work(&*storage).await).await
}

async fn until_closed<T>(
    storage: Arc<dyn StorageBackend>,
    work: impl AsyncFnOnce(Arc<dyn StorageBackend>) -> Result<T>,
) -> Result<T> {
    let answer = work(Arc::clone(&storage)).await;
    let closed = match &answer {
        // What is under way at a server that does not answer is not waited for once more.
        Err(failure) if failure.is_silence() => goodbye(&*storage).await,
        _ => storage.disconnect().await,
    };
    let answer = answer?;
    match closed {
        // What was asked for is done, and was said: that closing takes longer is no failure of it.
        Err(error) if error.kind() == ErrorKind::Timeout => Ok(answer),
        closed => closed.map(|()| answer).map_err(Into::into),
    }
}

/// Closes a store that may not answer any more. A SQLite file is closed in full: what was written is published, and the
/// lease given back, which the next writer would wait for.
pub(crate) async fn goodbye(storage: &dyn StorageBackend) -> storage_core::Result<()> {
    if storage.name() == "sqlite" {
        return storage.disconnect().await;
    }
    tokio::time::timeout(GOODBYE, storage.disconnect()).await.unwrap_or(Ok(()))
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

/// The same where the store is made if it is not there, for what writes to it.
pub(crate) async fn with_made_agent<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&AgentStorage) -> Result<T>,
) -> Result<T> {
    let storage = get_storage_backend(settings)?;
    storage.connect().await?;
    until_closed(storage, async |storage| work(&AgentStorage::new(storage)?).await).await
}
