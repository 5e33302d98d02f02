//! Typed and convenience calls on every backend.

use std::{
    future::Future,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::LazyLock,
    time::Duration,
};

use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    DEFAULT_OPERATION_TIMEOUT, Error, ErrorKind, Expected, Json, Listing, Result, Scan, StorageBackend,
    optional_ttl_millis,
};

/// How often [`StorageExt::update`] tries before it gives up with `Conflict`.
pub const UPDATE_TRIES: u32 = 64;

/// What the closure of [`StorageExt::update`] wants.
#[derive(Debug, Clone)]
pub enum Change {
    /// Write this value.
    Set(Json),
    /// Delete the entry.
    Delete,
    /// Leave it as it is.
    Keep,
}

/// Typed and convenience calls, on every [`StorageBackend`].
///
/// ```
/// use storage_core::{MemoryBackend, StorageBackend, StorageExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
/// struct Budget { usd: u64 }
///
/// let storage = MemoryBackend::new();
/// storage.connect().await?;
/// storage.set_as("budget:1", &Budget { usd: 500 }, None).await?;
/// assert_eq!(storage.get_as::<Budget>("budget:1").await?, Some(Budget { usd: 500 }));
/// # Ok(())
/// # }
/// ```
pub trait StorageExt: StorageBackend {
    /// [`get`](StorageBackend::get), decoded straight from the text.
    ///
    /// # Errors
    /// `Corrupt` naming the key where the value has another shape; else as `get`.
    fn get_as<T: DeserializeOwned>(&self, key: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        async move {
            let found = self.get(key).await?;
            found.map(|value| decode(self.name(), "get", key, &value)).transpose()
        }
    }

    /// [`set`](StorageBackend::set) of anything that serializes.
    ///
    /// # Errors
    /// `InvalidInput` where it does not serialize to a value that every store can keep; else as `set`.
    fn set_as<T: Serialize + Sync + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<()>> + Send {
        let value = Json::from_serialize(value);
        async move {
            let value = value.map_err(|error| error.at(self.name(), "set").with_key(key))?;
            self.set(key, value, ttl).await
        }
    }

    /// Writes `value` only if there is no entry; true where it was written. For locks and other firsts.
    ///
    /// # Errors
    /// As [`compare_and_set`](StorageBackend::compare_and_set).
    fn set_if_absent(
        &self,
        key: &str,
        value: Json,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<bool>> + Send {
        async move { self.compare_and_set(key, Expected::Absent, Some(value), ttl).await }
    }

    /// Reads an entry, lets `change` decide, and writes only if nobody wrote in between; else it reads again, up to
    /// [`UPDATE_TRIES`] times. No update is lost, and none is applied twice.
    ///
    /// `ttl` is that of the written value; without it an earlier expiry is removed, as with `set`. Returns the value
    /// that is now there. `change` may run several times. On a backend without `compare_and_set` updates exclude each
    /// other within this process alone. A wrapper must not call it from within its own `get`, `set` or
    /// `compare_and_set`: the inner call would wait for the outer one.
    ///
    /// # Errors
    /// What `change` answers; `Conflict` when the tries are used up; else as `get` and `compare_and_set`.
    fn update<F>(
        &self,
        key: &str,
        ttl: Option<Duration>,
        change: F,
    ) -> impl Future<Output = Result<Option<Json>>> + Send
    where
        F: FnMut(Option<&Json>) -> Result<Change> + Send,
    {
        update(self, key, ttl, change)
    }

    /// Everything a scan finds, decoded, in byte order of the keys; entries that cannot be read are listed apart.
    ///
    /// # Errors
    /// What ends the scan.
    fn collect<T: DeserializeOwned + Send>(
        &self,
        scan: Scan,
    ) -> impl Future<Output = Result<Listing<(String, T)>>> + Send {
        async move {
            if !scan.wants_values() {
                return Err(Error::invalid_input("collect needs a scan of entries").at(self.name(), "scan"));
            }
            let mut found = Listing::default();
            let mut records = self.scan(scan);
            while let Some(record) = records.next().await {
                let decoded = record.and_then(|record| {
                    let value = record
                        .value
                        .ok_or_else(|| Error::invalid_input("collect needs a scan of entries"))?;
                    Ok((decode(self.name(), "scan", &record.key, &value)?, record.key))
                });
                match decoded {
                    Ok((value, key)) => found.entries.push((key, value)),
                    Err(error) if error.kind() == ErrorKind::Corrupt => found.corrupt.push(error),
                    Err(error) => return Err(error),
                }
            }
            // Free where the store lists in order; Redis does not.
            found.entries.sort_by(|left, right| left.0.cmp(&right.0));
            found.corrupt.sort_by(|left, right| left.key().cmp(&right.key()));
            Ok(found)
        }
    }
}

impl<B: StorageBackend + ?Sized> StorageExt for B {}

fn decode<T: DeserializeOwned>(
    backend: &'static str,
    operation: &'static str,
    key: &str,
    value: &Json,
) -> Result<T> {
    value.decode().map_err(|error| error.at(backend, operation).with_key(key))
}

/// Callers of one process who update the same key queue here instead of making each other retry. Keys share stripes.
static STRIPES: LazyLock<Vec<Mutex<()>>> = LazyLock::new(|| (0..1024).map(|_| Mutex::new(())).collect());

/// How long a caller queues where `compare_and_set` keeps it from losing anything: long enough for a crowd on a healthy
/// store, and no longer than one call on a dead one.
const PATIENCE: Duration = DEFAULT_OPERATION_TIMEOUT;

/// Waits for the stripe of a key: for good where the stripe alone excludes others, else for [`PATIENCE`].
async fn turn(key: &str, alone: bool) -> Option<MutexGuard<'static, ()>> {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    let stripes = &*STRIPES;
    let stripe = stripes.get(usize::try_from(hash % stripes.len() as u64).ok()?)?;
    match alone {
        true => Some(stripe.lock().await),
        false => tokio::time::timeout(PATIENCE, stripe.lock()).await.ok(),
    }
}

async fn update<B, F>(backend: &B, key: &str, ttl: Option<Duration>, mut change: F) -> Result<Option<Json>>
where
    B: StorageBackend + ?Sized,
    F: FnMut(Option<&Json>) -> Result<Change> + Send,
{
    let place = |error: Error| error.at(backend.name(), "update").with_key(key);
    optional_ttl_millis(ttl).map_err(place)?;
    let atomic = backend.capabilities().compare_and_set;
    let _turn = turn(key, !atomic).await;
    for attempt in 0..UPDATE_TRIES {
        let found = backend.get(key).await?;
        let new = match change(found.as_ref()).map_err(place)? {
            Change::Set(value) => Some(value),
            Change::Delete if found.is_some() => None,
            Change::Delete | Change::Keep => return Ok(found),
        };
        if !atomic {
            write_alone(backend, key, new.as_ref(), ttl).await?;
            return Ok(new);
        }
        let new_ttl = ttl.filter(|_| new.is_some());
        if backend.compare_and_set(key, Expected::from_read(found), new.clone(), new_ttl).await? {
            return Ok(new);
        }
        // Others write here too: spread out, longer each time, up to about 50 ms.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..=200 << attempt.min(8)))).await;
    }
    Err(place(Error::new(
        ErrorKind::Conflict,
        format!("others changed the entry {UPDATE_TRIES} times in a row"),
    )))
}

async fn write_alone<B: StorageBackend + ?Sized>(
    backend: &B,
    key: &str,
    new: Option<&Json>,
    ttl: Option<Duration>,
) -> Result<()> {
    match new {
        Some(value) => backend.set(key, value.clone(), ttl).await,
        None => backend.delete(key).await.map(|_| ()),
    }
}
