//! The index of a buyer's sessions: one JSON array of session ids, as the Python seller agent writes it.

use super::entity::{BUYER_SESSIONS, SESSION};
use crate::{Change, Json, Result, StorageBackend, StorageExt};

pub(super) async fn add(
    storage: &(impl StorageBackend + ?Sized),
    pricing_key: &str,
    session_id: &str,
) -> Result<()> {
    SESSION.key(storage, "update", session_id)?;
    let key = BUYER_SESSIONS.key(storage, "update", pricing_key)?;
    let added = storage.update(&key, None, |found| {
        let mut ids = ids(found)?;
        if ids.iter().any(|id| id == session_id) {
            return Ok(Change::Keep);
        }
        ids.push(session_id.to_owned());
        Ok(Change::Set(Json::from_serialize(&ids)?))
    });
    added.await.map(drop).map_err(|error| error.at(storage.name(), "update").with_key(&key))
}

pub(super) async fn remove(
    storage: &(impl StorageBackend + ?Sized),
    pricing_key: &str,
    session_id: &str,
) -> Result<bool> {
    let key = BUYER_SESSIONS.key(storage, "update", pricing_key)?;
    let mut removed = false;
    let update = storage.update(&key, None, |found| {
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
    update.await.map_err(|error| error.at(storage.name(), "update").with_key(&key))?;
    Ok(removed)
}

/// Anything but an array of strings is corrupt: to write over it would lose it.
fn ids(found: Option<&Json>) -> Result<Vec<String>> {
    found.map_or_else(|| Ok(Vec::new()), Json::decode)
}
