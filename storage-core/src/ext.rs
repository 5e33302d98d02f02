//! Typed and convenience calls on every backend.

use std::{future::Future, ops::Deref, sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Cursor, DEFAULT_OPERATION_TIMEOUT, Error, ErrorKind, Expected, Json, Listing, PartitionInfo, Record,
    Result, Scan, StorageBackend,
    engine::{Deadline, Order, Passed, Place, back_off, latest},
    listing, optional_ttl_millis,
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

impl Change {
    /// What to write, `None` to delete; nothing at all where the entry stays as it was `found`.
    fn of(self, found: Option<&Json>) -> Option<Option<Json>> {
        match self {
            Self::Set(value) => Some(Some(value)),
            Self::Delete if found.is_some() => Some(None),
            Self::Delete | Self::Keep => None,
        }
    }
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
    /// that is now there. `change` may run several times. Callers of one process queue by key, which spares them
    /// conflicts; one that does not go on, such as a future that is kept without being polled, is passed after some 100 ms.
    /// A wrapper must not call it from within its own `get` or `compare_and_set`: the inner call would wait for the outer one.
    ///
    /// # Errors
    /// What `change` answers; `Conflict` when the tries are used up; `Unsupported` on a backend without
    /// `compare_and_set`; else as `get` and `compare_and_set`.
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

    /// [`update`](Self::update) on every backend: where there is no `compare_and_set`, it excludes the other callers of
    /// `update_unguarded` in this process, and nobody else. **What another process, or a plain `set`, writes between its
    /// read and its write is lost.**
    ///
    /// There a caller waits up to 5 s for those before it. One that does not go on for half a second, or takes more than 5 s
    /// for its read and write, is passed: before its write it begins anew.
    ///
    /// # Errors
    /// As `update`; without `compare_and_set` also `Timeout`, with nothing written, where it does not come about in time, and
    /// `OutcomeUnknown` where it was passed while it wrote; else as `get`, `set` and `delete`.
    fn update_unguarded<F>(
        &self,
        key: &str,
        ttl: Option<Duration>,
        change: F,
    ) -> impl Future<Output = Result<Option<Json>>> + Send
    where
        F: FnMut(Option<&Json>) -> Result<Change> + Send,
    {
        async move {
            match self.capabilities().compare_and_set {
                true => update(self, key, ttl, change).await,
                false => update_alone(self, key, ttl, change).await,
            }
        }
    }

    /// The entries that match, as a stream in bounded memory, which may be spawned, returned and kept: each of its steps is
    /// a [`scan_page`](StorageBackend::scan_page) with a deadline of its own, and it keeps nothing of the store between them.
    ///
    /// An entry that is there throughout comes exactly once, one that comes or goes meanwhile may or may not come. Ordered by
    /// bytes on SQL stores and in memory, unordered on Redis. An item that is a `Corrupt` error names its key and does not
    /// end the stream; any other error ends it.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use futures::TryStreamExt;
    /// use storage_core::{Json, MemoryBackend, Record, Result, Scan, StorageBackend, StorageExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let storage: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    /// storage.connect().await?;
    /// storage.set("deal:1", Json::from(5), None).await?;
    /// let deals = storage.scan(Scan::entries("deal:*")?);
    /// let deals = tokio::spawn(deals.try_collect::<Vec<Record>>()).await.expect("no panic")?;
    /// assert_eq!(deals[0].key, "deal:1");
    /// # Ok(())
    /// # }
    /// ```
    fn scan(self: &Arc<Self>, scan: Scan) -> BoxStream<'static, Result<Record>>
    where
        Self: 'static,
    {
        records(Arc::clone(self), scan)
    }

    /// [`scan`](Self::scan) on a backend that is only borrowed.
    fn records(&self, scan: Scan) -> BoxStream<'_, Result<Record>> {
        records(self, scan)
    }

    /// The [partitions](crate::CollectionStore) of a kind whose first segments are `segments`, as [`scan`](Self::scan) streams
    /// entries. A store without collections answers one `Unsupported`.
    fn partitions(
        self: &Arc<Self>,
        kind: &str,
        segments: &[&str],
    ) -> BoxStream<'static, Result<PartitionInfo>>
    where
        Self: 'static,
    {
        let storage = Arc::clone(self);
        let (kind, segments) = (Arc::<str>::from(kind), segments.iter().map(|&segment| segment.to_owned()));
        let segments: Arc<[String]> = segments.collect();
        let page = move |after: Option<Cursor>, limit| {
            let (storage, kind, segments) = (Arc::clone(&storage), Arc::clone(&kind), Arc::clone(&segments));
            async move {
                let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
                let unsupported = || Error::unsupported(storage.name(), "partitions");
                let collections = storage.collections().ok_or_else(unsupported)?;
                collections.partitions_page(&kind, &segments, after.as_ref(), limit).await
            }
        };
        listing::stream(page, |info: &PartitionInfo| info.partition.as_str())
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
            let mut records = records(self, scan);
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

/// The records of a scan on a backend that is borrowed or shared.
fn records<'a, B, S>(storage: S, scan: Scan) -> BoxStream<'a, Result<Record>>
where
    B: StorageBackend + ?Sized,
    S: Deref<Target = B> + Clone + Send + Sync + 'a,
{
    let scan = Arc::new(scan);
    let page = move |after: Option<Cursor>, limit| {
        let (storage, scan) = (storage.clone(), Arc::clone(&scan));
        async move { storage.scan_page(&scan, after.as_ref(), limit).await }
    };
    listing::stream(page, |record: &Record| &record.key)
}

fn decode<T: DeserializeOwned>(
    backend: &'static str,
    operation: &'static str,
    key: &str,
    value: &Json,
) -> Result<T> {
    value.decode().map_err(|error| error.at(backend, operation).with_key(key))
}

/// How long a caller queues: long enough for a crowd on a healthy store, and no longer than one call on a dead one.
const PATIENCE: Duration = DEFAULT_OPERATION_TIMEOUT;

async fn update<B, F>(backend: &B, key: &str, ttl: Option<Duration>, mut change: F) -> Result<Option<Json>>
where
    B: StorageBackend + ?Sized,
    F: FnMut(Option<&Json>) -> Result<Change> + Send,
{
    let place = |error: Error| error.at(backend.name(), "update").with_key(key);
    optional_ttl_millis(ttl).map_err(place)?;
    if !backend.capabilities().compare_and_set {
        let hint = "update_unguarded changes it, without regard to other processes";
        return Err(Error::unsupported(backend.name(), "update").with_key(key).with_hint(hint));
    }
    let patience = Deadline::after(PATIENCE);
    let mut queue = admitted(key, patience).await;
    for attempt in 0..UPDATE_TRIES {
        let found = queue.run(latest(backend.get(key))).await?;
        let Some(new) = change(found.as_ref()).map_err(place)?.of(found.as_ref()) else { return Ok(found) };
        let new_ttl = ttl.filter(|_| new.is_some());
        let expected = Expected::from_read(found);
        if queue.run(backend.compare_and_set(key, expected, new.clone(), new_ttl)).await? {
            return Ok(new);
        }
        queue.run(back_off(attempt)).await;
        if queue.is_passed() {
            // It was slow, like many on a busy machine: all who were passed would race on without end.
            queue = admitted(key, patience).await;
        }
    }
    Err(place(Error::new(
        ErrorKind::Conflict,
        format!("others changed the entry {UPDATE_TRIES} times in a row"),
    )))
}

/// A place in the queue of a key. It spares conflicts and nothing depends on it: who is not admitted in time goes on.
async fn admitted(key: &str, patience: Deadline) -> Place {
    let queue = Place::join(key, Order::Advisory);
    if patience.within(queue.admitted()).await.is_none() {
        queue.leave();
    }
    queue
}

async fn update_alone<B, F>(
    backend: &B,
    key: &str,
    ttl: Option<Duration>,
    mut change: F,
) -> Result<Option<Json>>
where
    B: StorageBackend + ?Sized,
    F: FnMut(Option<&Json>) -> Result<Change> + Send,
{
    let place = |error: Error| error.at(backend.name(), "update_unguarded").with_key(key);
    optional_ttl_millis(ttl).map_err(place)?;
    let deadline = Deadline::after(PATIENCE);
    while !deadline.has_passed() {
        // A new place each time: one that was passed stays so.
        let queue = Place::join(key, Order::Exclusive);
        if deadline.within(queue.admitted()).await.is_none() {
            break;
        }
        // Passed before it wrote anything, it begins anew.
        let Ok(found) = queue.run_unless_passed(latest(backend.get(key))).await else { continue };
        let found = found?;
        let Some(new) = change(found.as_ref()).map_err(place)?.of(found.as_ref()) else { return Ok(found) };
        match queue.run_unless_passed(write(backend, key, new.as_ref(), ttl)).await {
            Ok(written) => return written.map(|()| new),
            Err(Passed { begun: false }) => {}
            Err(Passed { begun: true }) => {
                let message = "the call was not polled, or not answered, for so long that others went on";
                return Err(place(Error::new(ErrorKind::OutcomeUnknown, message)));
            }
        }
    }
    Err(place(deadline.error(ErrorKind::Timeout)))
}

async fn write<B: StorageBackend + ?Sized>(
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
