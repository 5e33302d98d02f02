//! The keys of managed databases that are encrypted.

use std::sync::Arc;

use storage_core::{Error, Result};
use storage_managed::home::Home;

use crate::Settings;

const KEYS: &str = "STORAGE_MANAGED_KEYS";
const KEY_FILE: &str = "STORAGE_MANAGED_KEY_FILE";

/// The home behind encryption, where keys are set.
pub(crate) fn encrypted(home: Arc<dyn Home>, settings: &Settings) -> Result<Arc<dyn Home>> {
    match (settings.get(KEYS), settings.get(KEY_FILE)) {
        (None, None) => Ok(home),
        (Some(_), Some(_)) => {
            Err(Error::config(format!("{KEYS} and {KEY_FILE} are both set")).with_hint("keep one of them"))
        }
        (Some(text), None) => of_text(home, text),
        (None, Some(path)) => of_file(home, path),
    }
}

#[cfg(feature = "managed-encryption")]
fn of_text(home: Arc<dyn Home>, text: &str) -> Result<Arc<dyn Home>> {
    let keys = storage_managed::home::Keys::parse(text);
    let keys =
        keys.map_err(|error| Error::config(format!("{KEYS}: {}", error.message())).with_hint_of(&error))?;
    Ok(Arc::new(storage_managed::home::EncryptedHome::new(home, keys)))
}

#[cfg(feature = "managed-encryption")]
#[allow(clippy::unnecessary_wraps, reason = "a build without encryption refuses it")]
fn of_file(home: Arc<dyn Home>, path: &str) -> Result<Arc<dyn Home>> {
    Ok(Arc::new(storage_managed::home::EncryptedHome::with_key_file(home, path)))
}

#[cfg(feature = "managed-encryption")]
pub(crate) fn generate(id: &str) -> Result<String> {
    storage_managed::home::Keys::generate(id)
}

#[cfg(not(feature = "managed-encryption"))]
fn of_text(_: Arc<dyn Home>, _: &str) -> Result<Arc<dyn Home>> {
    Err(missing(KEYS))
}

#[cfg(not(feature = "managed-encryption"))]
fn of_file(_: Arc<dyn Home>, _: &str) -> Result<Arc<dyn Home>> {
    Err(missing(KEY_FILE))
}

#[cfg(not(feature = "managed-encryption"))]
pub(crate) fn generate(_: &str) -> Result<String> {
    Err(missing("a key"))
}

#[cfg(not(feature = "managed-encryption"))]
fn missing(what: &str) -> Error {
    let feature = "managed-encryption";
    Error::config(format!("{what} needs the feature `{feature}` of storage-factory"))
        .with_hint(format!("build with --features {feature}"))
}
