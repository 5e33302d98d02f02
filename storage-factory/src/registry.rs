//! Backends of third parties, by type name and URL scheme.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use storage_core::{Error, Result, StorageBackend};

use crate::Settings;

type Open = Arc<dyn Fn(&Settings) -> Result<Arc<dyn StorageBackend>> + Send + Sync>;

struct Registered {
    schemes: Vec<String>,
    open: Open,
}

static REGISTRY: RwLock<BTreeMap<String, Registered>> = RwLock::new(BTreeMap::new());

/// What the factory itself answers to; nobody may take it over.
const RESERVED: [&str; 13] = [
    "memory",
    "sqlite",
    "redis",
    "postgres",
    "hybrid",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis+unix",
    "unix",
    "postgresql",
    "file",
    "managed",
];

/// Makes a backend of your own selectable by `STORAGE_TYPE` and by the scheme of `DATABASE_URL`, for the whole process.
/// `open` builds it from the settings without I/O.
///
/// ```
/// use std::sync::Arc;
/// use storage_core::MemoryBackend;
/// use storage_factory::{Settings, get_storage_backend, register_backend};
///
/// register_backend("scratch", &["scratch"], |_settings| Ok(Arc::new(MemoryBackend::new())))?;
/// let settings = Settings::new().with("DATABASE_URL", "scratch://anything")?;
/// assert_eq!(get_storage_backend(&settings)?.name(), "memory");
/// # Ok::<(), storage_core::Error>(())
/// ```
///
/// # Errors
/// `Config` where the name or a scheme is empty, built in, or registered already.
pub fn register_backend<F>(type_name: &str, schemes: &[&str], open: F) -> Result<()>
where
    F: Fn(&Settings) -> Result<Arc<dyn StorageBackend>> + Send + Sync + 'static,
{
    let name = type_name.to_ascii_lowercase();
    let schemes: Vec<String> = schemes.iter().map(|scheme| scheme.to_ascii_lowercase()).collect();
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    for candidate in schemes.iter().chain([&name]) {
        let taken = registry.contains_key(candidate)
            || registry.values().any(|other| other.schemes.contains(candidate));
        if candidate.is_empty() || taken || RESERVED.contains(&candidate.as_str()) {
            return Err(Error::config(format!(
                "the storage type or scheme `{}` is taken",
                candidate.escape_debug()
            )));
        }
    }
    registry.insert(name, Registered { schemes, open: Arc::new(open) });
    Ok(())
}

fn read<T>(look: impl FnOnce(&BTreeMap<String, Registered>) -> T) -> T {
    look(&REGISTRY.read().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn has_type(name: &str) -> bool {
    read(|registry| registry.contains_key(name))
}

pub(crate) fn type_of_scheme(scheme: &str) -> Option<String> {
    let has = |registered: &Registered| registered.schemes.iter().any(|own| own == scheme);
    read(|registry| registry.iter().find(|(_, registered)| has(registered)).map(|(name, _)| name.clone()))
}

pub(crate) fn open(name: &str, settings: &Settings) -> Result<Arc<dyn StorageBackend>> {
    // Taken out first: a backend may be built from another registered one.
    match read(|registry| registry.get(name).map(|registered| Arc::clone(&registered.open))) {
        Some(open) => open(settings),
        None => Err(Error::config(format!("Unknown storage type `{name}`"))),
    }
}

/// `; registered: …`, or nothing.
pub(crate) fn names_for_hint() -> String {
    let names = read(|registry| registry.keys().cloned().collect::<Vec<_>>());
    if names.is_empty() { String::new() } else { format!("; registered: {}", names.join(", ")) }
}
