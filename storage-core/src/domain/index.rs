//! The index of a buyer's sessions: one JSON array of session ids, as the Python seller agent writes it.

use super::entity::{BUYER_SESSIONS, SESSION};
use serde::de::DeserializeOwned;

use crate::{Change, ErrorKind, Json, Listing, Result, StorageBackend, StorageExt};

pub(super) async fn add(
    storage: &(impl StorageBackend + ?Sized),
    session_id: &str,
    pricing_key: &str,
) -> Result<()> {
    SESSION.key(storage, "update", session_id)?;
    let key = BUYER_SESSIONS.key(storage, "update", pricing_key)?;
    let added = storage.update_unguarded(&key, None, |found| {
        let mut ids = ids(found)?;
        if ids.iter().any(|id| id == session_id) {
            return Ok(Change::Keep);
        }
        ids.push(session_id.to_owned());
        Ok(Change::Set(Json::from_serialize(&ids)?))
    });
    added.await.map(drop)
}

pub(super) async fn remove(
    storage: &(impl StorageBackend + ?Sized),
    session_id: &str,
    pricing_key: &str,
) -> Result<bool> {
    let key = BUYER_SESSIONS.key(storage, "update", pricing_key)?;
    let mut removed = false;
    let update = storage.update_unguarded(&key, None, |found| {
        let mut ids = ids(found)?;
        let before = ids.len();
        ids.retain(|id| id != session_id);
        removed = ids.len() < before;
        match removed {
            false => Ok(Change::Keep),
            // An index without sessions reads as none at all, here and in Python.
            true if ids.is_empty() => Ok(Change::Delete),
            true => Ok(Change::Set(Json::from_serialize(&ids)?)),
        }
    });
    update.await?;
    Ok(removed)
}

/// The documents of the sessions in a buyer's index, in one call.
pub(super) async fn sessions<T: DeserializeOwned>(
    storage: &(impl StorageBackend + ?Sized),
    pricing_key: &str,
) -> Result<Listing<T>> {
    let ids: Vec<String> = BUYER_SESSIONS.get(storage, pricing_key).await?.unwrap_or_default();
    // Python may have listed what is no id: such a session cannot exist.
    let keys: Vec<String> = ids.iter().filter_map(|id| SESSION.key(storage, "get_many", id).ok()).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut found = Listing::default();
    for (key, document) in names.iter().zip(storage.get_many(&names).await?) {
        let decoded = document.and_then(|document| document.map(|document| document.decode()).transpose());
        match decoded.map_err(|error| error.at(storage.name(), "get_many").with_key(key)) {
            Ok(session) => found.entries.extend(session),
            Err(error) if error.kind() == ErrorKind::Corrupt => found.corrupt.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Anything but an array of strings is corrupt: to write over it would lose it.
fn ids(found: Option<&Json>) -> Result<Vec<String>> {
    found.map_or_else(|| Ok(Vec::new()), Json::decode)
}
