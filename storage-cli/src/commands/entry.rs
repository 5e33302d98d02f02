//! Commands on entries by key.

use std::time::Duration;

use serde_json::json;
use storage_core::{Entry, Expiry, StorageExt};
use storage_factory::Settings;

use crate::{
    failure::{DONE, Failure, NO, Result},
    line::one_line,
    output::{Output, counted, humane, visible},
    store::{with_made, with_store},
};

pub(super) async fn get(key: &str, settings: &Settings, out: &mut Output) -> Result<u8> {
    let found = with_store(settings, async |storage| Ok(storage.get(key).await?)).await?;
    let value = found.ok_or_else(|| Failure::not_found(key))?;
    // The value is JSON already, for people and for programs.
    out.line(one_line(&value))?;
    Ok(DONE)
}

pub(super) async fn set(entry: Entry, if_absent: bool, settings: &Settings, out: &mut Output) -> Result<u8> {
    let Entry { key, value, ttl } = entry;
    let written = with_made(settings, async |storage| {
        if if_absent {
            return Ok(storage.set_if_absent(&key, value, ttl).await?);
        }
        storage.set(&key, value, ttl).await?;
        Ok(true)
    });
    let written = written.await?;
    let expires_in = ttl.filter(|_| written).map(|ttl| ttl.as_secs_f64());
    let document = json!({"key": key, "written": written, "expires_in": expires_in});
    let shown = visible(&key);
    match (written, ttl) {
        (true, None) => out.answer(&document, format_args!("written: {shown}"))?,
        (true, Some(ttl)) => out.answer(&document, format_args!("written: {shown}, for {}", humane(ttl)))?,
        (false, _) => out.answer(&document, format_args!("not written: {shown} is there already"))?,
    }
    Ok(if written { DONE } else { NO })
}

pub(super) async fn delete(keys: &[String], settings: &Settings, out: &mut Output) -> Result<u8> {
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let deleted = with_store(settings, async |storage| Ok(storage.delete_many(&names).await?)).await?;
    let document = json!({"deleted": deleted, "asked": keys.len()});
    out.answer(
        &document,
        format_args!("deleted {} of {}", deleted, counted(keys.len() as u64, "key", "keys")),
    )?;
    Ok(if deleted > 0 { DONE } else { NO })
}

pub(super) async fn exists(key: &str, settings: &Settings, out: &mut Output) -> Result<u8> {
    let exists = with_store(settings, async |storage| Ok(storage.exists(key).await?)).await?;
    out.answer(&json!({"key": key, "exists": exists}), if exists { "yes" } else { "no" })?;
    Ok(if exists { DONE } else { NO })
}

pub(super) async fn ttl(key: &str, settings: &Settings, out: &mut Output) -> Result<u8> {
    let expiry = with_store(settings, async |storage| Ok(storage.ttl(key).await?)).await?;
    match expiry.ok_or_else(|| Failure::not_found(key))? {
        Expiry::Never => out.answer(&json!({"key": key, "expires_in": null}), "never expires")?,
        Expiry::After(left) => {
            out.answer(&json!({"key": key, "expires_in": left.as_secs_f64()}), humane(left))?;
        }
    }
    Ok(DONE)
}

pub(super) async fn increment(
    key: &str,
    by: i64,
    ttl: Option<Duration>,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let sum = with_made(settings, async |storage| Ok(storage.increment(key, by, ttl).await?)).await?;
    out.answer(&json!({"key": key, "value": sum}), sum)?;
    Ok(DONE)
}
