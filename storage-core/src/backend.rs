//! The first of the three traits: key/value with expiry.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;

use crate::{
    Batch, Capabilities, CollectionStore, Cursor, DEFAULT_MAX_VALUE_BYTES, Entry, Error, Expected, Expiry,
    Health, Json, PubSub, Record, Result, Scan, ScanPage, Stats, StoreHealth, check_page_limit,
    engine::all_written,
};

/// How many reads the provided methods keep in flight at once.
const PARALLEL: usize = 16;
/// How many entries a page of the provided scan has at most: its memory is bounded by this.
const SCAN_CHUNK: usize = 256;

/// The key that a check of [`health`](StorageBackend::health) asks for. Nothing is kept there: a check may delete it.
pub const HEALTH_KEY: &str = "storage-health:probe";

/// A store of JSON entries by key, with expiry. Object-safe: callers hold one `Arc<dyn StorageBackend>`.
///
/// # Contract
///
/// - **Keys** are UTF-8 of 1 to 1,024 bytes without NUL, compared byte for byte. **Values** are [`Json`] up to the
///   backend's size limit. Anything else is `InvalidInput` before any I/O.
/// - **Expiry** is kept to the millisecond and never rounded down; zero is `InvalidInput`; an expired key is gone at
///   once for every operation.
/// - **Every call ends** within the backend's deadline. A write whose answer was lost is `OutcomeUnknown`; every other
///   failed write applied nothing.
/// - **Dropping a future** leaks nothing and blocks nobody; a write then happened whole or not at all.
/// - **Lifecycle**: building a backend does no I/O; before the first `connect` and after `disconnect` every operation is
///   `NotConnected`; both may be repeated.
/// - **A text that is not JSON** is `Corrupt` naming its key, and harms no other entry of the same call.
///
/// The seven methods without a body are enough for a backend of your own: everything else is either correct on top of
/// them or answers `Unsupported` where a generic version would race. The crate `storage-conformance` tests all of it.
///
/// # Wrappers
///
/// A wrapper forwards *every* method, or the wrapped backend loses what it can do. Put
/// `#[deny(clippy::missing_trait_methods)]` on the `impl`.
#[async_trait]
pub trait StorageBackend: Send + Sync + std::fmt::Debug {
    /// Opens the store. On a connected backend it does nothing; after `disconnect` it opens the store again.
    ///
    /// # Errors
    /// `Unavailable`, `Unauthorized`, `Timeout` or `Config`; the backend then stays unconnected and may be tried again.
    async fn connect(&self) -> Result<()>;

    /// Waits for the writes under way and closes the store. On an unconnected backend it does nothing.
    ///
    /// # Errors
    /// What the store said on closing; the backend is unconnected in any case.
    async fn disconnect(&self) -> Result<()>;

    /// The value of `key`, or `None` where there is none or it has expired.
    ///
    /// # Errors
    /// `Corrupt` where the stored text is not JSON; else as the trait says.
    async fn get(&self, key: &str) -> Result<Option<Json>>;

    /// Writes value and expiry in one step, over whatever is there. Without `ttl` an earlier expiry is removed.
    ///
    /// # Errors
    /// As the trait says.
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()>;

    /// Deletes `key`; true where it was there and had not expired.
    ///
    /// # Errors
    /// As the trait says.
    async fn delete(&self, key: &str) -> Result<bool>;

    /// Whether `key` is there and has not expired. Does not read the value: a corrupt one exists.
    ///
    /// # Errors
    /// As the trait says.
    async fn exists(&self, key: &str) -> Result<bool>;

    /// The keys that match a pattern ([`Glob`](crate::Glob) has the grammar), sorted by bytes, without duplicates.
    ///
    /// # Errors
    /// `InvalidInput` for a pattern that is none; else as the trait says.
    async fn keys(&self, pattern: &str) -> Result<Vec<String>>;

    /// The backend's name in errors, logs and health, such as `sqlite`.
    fn name(&self) -> &'static str {
        "custom"
    }

    /// Which optional operations there are.
    fn capabilities(&self) -> Capabilities {
        Capabilities::BASIC
    }

    /// The longest value that it takes, in bytes of JSON text.
    fn max_value_bytes(&self) -> usize {
        DEFAULT_MAX_VALUE_BYTES
    }

    /// Partitions of ordered items, where the store has them.
    fn collections(&self) -> Option<&dyn CollectionStore> {
        None
    }

    /// Messages between processes, where the store has them.
    fn pub_sub(&self) -> Option<&dyn PubSub> {
        None
    }

    /// The values of several keys, in their order; a key may stand there twice. Each has a result of its own, so that
    /// one corrupt entry harms no other.
    ///
    /// # Errors
    /// What concerns the whole call, such as `InvalidInput` for one of the keys.
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        keys.iter().try_for_each(|key| crate::check_key(key))?;
        let mut found = Vec::with_capacity(keys.len());
        for window in keys.chunks(PARALLEL) {
            let mut reads = Vec::with_capacity(window.len());
            for key in window {
                reads.push(self.get(key));
            }
            for answer in join_all(reads).await {
                found.push(split_corrupt(answer)?);
            }
        }
        Ok(found)
    }

    /// Writes several entries; of a key that is there twice the last one stands. Each entry is written whole, the call
    /// is not atomic: use [`apply`](Self::apply) for that.
    ///
    /// # Errors
    /// `InvalidInput` before anything is written; `OutcomeUnknown` where some entries were written, or may have been, and
    /// others were not; any other error says that none was.
    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        for entry in &entries {
            entry.check(usize::MAX)?;
        }
        let mut answers = Vec::with_capacity(entries.len());
        // One after the other: the order of two writes to one key counts.
        for entry in entries {
            answers.push(self.set(&entry.key, entry.value, entry.ttl).await);
            if answers.last().is_some_and(Result::is_err) {
                break;
            }
        }
        all_written(answers).map(drop)
    }

    /// Deletes several keys; returns how many were there. A key given twice counts once. Not atomic.
    ///
    /// # Errors
    /// As [`set_many`](Self::set_many).
    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        keys.iter().try_for_each(|key| crate::check_key(key))?;
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.delete(key).await);
            if answers.last().is_some_and(Result::is_err) {
                break;
            }
        }
        Ok(all_written(answers)?.into_iter().map(u64::from).sum())
    }

    /// A page of the entries that match: the first, or the one that `after` leads to. [`StorageExt::scan`] makes a stream
    /// of them.
    ///
    /// - A page has `limit` items at most; on Redis about so many, and at least what one step of SCAN finds. It ends early
    ///   where its values are large. Only `next: None` is the end: a page before it may be empty.
    /// - Through all pages an entry that is there throughout comes exactly once; on Redis (see
    ///   [`may_repeat`](ScanPage::may_repeat)) at least once, and the stream leaves out what comes again. One that comes or
    ///   goes meanwhile may or may not come.
    /// - Ordered by bytes on SQL stores and in memory, where a cursor is the last key and stays good for ever; unordered on
    ///   Redis, where a cursor is good until the server's keys are deleted as a whole or the nodes of a cluster change.
    /// - No connection, snapshot or lock is kept between two pages.
    ///
    /// The provided method lists all keys for each page.
    ///
    /// [`StorageExt::scan`]: crate::StorageExt::scan
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero, and for a cursor that is none of this listing; else as the trait says.
    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        check_page_limit(limit)?;
        let after = after.map(Cursor::place::<String>).transpose()?;
        let mut keys = self.keys(scan.glob().as_str()).await?;
        let start = after.map_or(0, |after| keys.partition_point(|key| *key <= after));
        let mut page = keys.split_off(start);
        let more = page.len() > limit.min(SCAN_CHUNK);
        page.truncate(limit.min(SCAN_CHUNK));
        let next = page.last().filter(|_| more).map(Cursor::at).transpose()?;
        Ok(ScanPage::new(generic_page(self, scan, page).await?, next))
    }

    /// Writes `new` (or deletes, for `None`) only if the entry is what is `expected`; true where it was. Values compare
    /// as [`Json`] does. `ttl` is that of `new`; without it an earlier expiry is removed.
    ///
    /// # Errors
    /// `Unsupported` where the backend cannot do it in one atomic step.
    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let _ = (key, expected, new, ttl);
        Err(Error::unsupported(self.name(), "compare_and_set"))
    }

    /// Adds `by` to an integer and returns the sum. A key that is not there counts as 0 and is created with `ttl`; the
    /// expiry of one that is there stays as it is.
    ///
    /// # Errors
    /// `InvalidInput`, changing nothing, where the value is no 64-bit integer (a number with an integral value such as
    /// `5.0` is one) or the sum would overflow; `Unsupported` where the backend cannot do it in one atomic step.
    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let _ = (key, by, ttl);
        Err(Error::unsupported(self.name(), "increment"))
    }

    /// Checks what the batch [requires](Batch::require), then applies its operations, all or nothing, as if one after the
    /// other; no reader sees a part of it, and nobody writes between the check and the operations.
    ///
    /// # Errors
    /// `Conflict`, changing nothing, naming the first key that is not as required; `Unsupported` where the backend has no atomic batches, or where the keys span stores or Redis Cluster slots.
    async fn apply(&self, batch: Batch) -> Result<()> {
        let _ = batch;
        Err(Error::unsupported(self.name(), "apply"))
    }

    /// How long an entry stays; `None` where there is none.
    ///
    /// # Errors
    /// `Unsupported` where the backend cannot tell.
    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        let _ = key;
        Err(Error::unsupported(self.name(), "ttl"))
    }

    /// Gives an entry a new time to live from now; false where there is none. The value stays as it is.
    ///
    /// # Errors
    /// `InvalidInput` for a zero `ttl`; `Unsupported` where the backend cannot do it in one atomic step.
    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        let _ = (key, ttl);
        Err(Error::unsupported(self.name(), "expire"))
    }

    /// Removes the expiry of an entry; false where there is no entry, true where it now stays for good.
    ///
    /// # Errors
    /// `Unsupported` where the backend cannot do it in one atomic step.
    async fn persist(&self, key: &str) -> Result<bool> {
        let _ = key;
        Err(Error::unsupported(self.name(), "persist"))
    }

    /// Removes the rows of expired entries now instead of in the background; returns how many. A value written since is
    /// never removed. Where the server does this by itself the answer is 0.
    ///
    /// # Errors
    /// `Unsupported` where the backend has no such thing.
    async fn cleanup(&self) -> Result<u64> {
        Err(Error::unsupported(self.name(), "cleanup"))
    }

    /// Whether reads and writes of each store work. Never fails: what is wrong stands in the result. The write that tells
    /// changes nothing; here it deletes a key that nobody else may use, [`HEALTH_KEY`].
    async fn health(&self) -> Health {
        let start = Instant::now();
        let (reads, writes) = futures::join!(self.exists(HEALTH_KEY), self.delete(HEALTH_KEY));
        let (reads, writes) = (reads.err(), writes.err());
        let health = StoreHealth::new(self.name(), start.elapsed(), reads.as_ref(), writes.as_ref());
        Health { stores: vec![health] }
    }

    /// What the store says about itself.
    ///
    /// # Errors
    /// `Unsupported` where the backend has nothing to say.
    async fn stats(&self) -> Result<Stats> {
        Err(Error::unsupported(self.name(), "stats"))
    }
}

/// Keeps a corrupt entry as its own result and lets any other error fail the call.
fn split_corrupt(found: Result<Option<Json>>) -> Result<Result<Option<Json>>> {
    match found {
        Err(error) if error.kind() != crate::ErrorKind::Corrupt => Err(error),
        own => Ok(own),
    }
}

async fn generic_page<B: StorageBackend + ?Sized>(
    backend: &B,
    scan: &Scan,
    keys: Vec<String>,
) -> Result<Vec<Result<Record>>> {
    if !scan.reads_values() {
        return Ok(keys.into_iter().filter_map(|key| scan.record(key, None, None)).map(Ok).collect());
    }
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let values = backend.get_many(&names).await?;
    let records = keys.into_iter().zip(values).filter_map(|(key, value)| match value {
        Ok(value) => scan.record(key, Some(value?), None).map(Ok),
        Err(error) => Some(Err(error)),
    });
    Ok(records.collect())
}
