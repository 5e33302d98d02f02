//! The in-memory backend: a product of its own, and the reference for the others in tests.

mod channels;
mod collections;
mod store;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::task::coop::consume_budget;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Batch, BatchOperation, Capabilities, Clock, CollectionStore, Cursor, DEFAULT_MAX_VALUE_BYTES,
    DEFAULT_OPERATION_TIMEOUT, Entry, Expected, Expiry, Glob, Health, Json, PubSub, Record, Result, Scan,
    ScanPage, Stats, SteadyClock, StorageBackend, StoreHealth, SweepConfig, SystemClock, add_integer,
    check_entry, check_key, check_page_limit, check_swap,
    engine::{Deadline, Lifecycle, spawn_sweeper},
    ttl_millis,
};
use channels::Channels;
use collections::Partitions;
use store::{Guard, Store};

/// The backend's name.
const NAME: &str = "memory";
/// How many entries a page has at most, and how many are looked at for it under one lock.
const PAGE: usize = 256;
const LOOKED_AT: usize = 1_024;

/// How a [`MemoryBackend`] is set up.
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    /// The clock that judges expiry.
    pub clock: Arc<dyn Clock>,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// How expired entries are removed in the background; `None` leaves it to [`cleanup`](StorageBackend::cleanup).
    pub sweep: Option<SweepConfig>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            sweep: Some(SweepConfig::default()),
        }
    }
}

/// The whole contract in the memory of this process: for tests, for caches, for demos.
///
/// Entries live as long as the backend does, through `disconnect` and `connect`. Nothing is shared between two of them.
///
/// ```
/// use storage_core::{Json, MemoryBackend, StorageBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let storage = MemoryBackend::new();
/// storage.connect().await?;
/// assert_eq!(storage.increment("seen", 2, None).await?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryBackend {
    store: Arc<Store>,
    partitions: Arc<Partitions>,
    channels: Channels,
    lifecycle: Lifecycle<Connected>,
    max_value_bytes: usize,
    sweep: Option<SweepConfig>,
}

/// What there is only while connected.
struct Connected {
    _sweeper: Option<AbortOnDropHandle<()>>,
}

impl MemoryBackend {
    /// An empty store with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(MemoryConfig::default())
    }

    /// An empty store.
    #[must_use]
    pub fn with_config(config: MemoryConfig) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(config.clock));
        Self {
            store: Arc::new(Store::new(Arc::clone(&clock))),
            partitions: Arc::new(Partitions::new(clock)),
            channels: Channels::default(),
            lifecycle: Lifecycle::new(),
            max_value_bytes: config.max_value_bytes,
            sweep: config.sweep,
        }
    }

    /// Runs `work` on the store; no lock is held once it returns.
    async fn run<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Guard<'_>) -> Result<T>,
    ) -> Result<T> {
        // Nothing here ever waits: a loop of calls would leave no other task its time.
        consume_budget().await;
        let _lease = self.lifecycle.enter().map_err(|error| error.at(NAME, operation))?;
        work(&mut self.store.lock()).map_err(|error| error.at(NAME, operation))
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

/// Names the operation in an error of a check.
fn named<T>(operation: &'static str, checked: Result<T>) -> Result<T> {
    checked.map_err(|error| error.at(NAME, operation))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StorageBackend for MemoryBackend {
    async fn connect(&self) -> Result<()> {
        let (store, partitions) = (Arc::clone(&self.store), Arc::clone(&self.partitions));
        let sweep = self.sweep;
        let open = || async move {
            let sweeper = sweep.map(|sweep| {
                spawn_sweeper(sweep, move || {
                    partitions.sweep();
                    let removed = store.sweep();
                    async move { Ok(removed) }
                })
            });
            Ok(Connected { _sweeper: sweeper.transpose()? })
        };
        named("connect", self.lifecycle.connect(Deadline::after(DEFAULT_OPERATION_TIMEOUT), open).await)
    }

    async fn disconnect(&self) -> Result<()> {
        let deadline = Deadline::after(DEFAULT_OPERATION_TIMEOUT);
        named("disconnect", self.lifecycle.disconnect(deadline, |_| async { Ok(()) }).await)
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        named("get", check_key(key))?;
        self.run("get", |store| Ok(store.value(key).cloned())).await
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        let ttl = named("set", check_entry(key, &value, ttl, self.max_value_bytes))?;
        self.run("set", |store| {
            store.put(key, value, ttl);
            Ok(())
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        named("delete", check_key(key))?;
        self.run("delete", |store| Ok(store.remove(key))).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        named("exists", check_key(key))?;
        self.run("exists", |store| Ok(store.value(key).is_some())).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let glob = named("keys", Glob::new(pattern))?;
        self.run("keys", |store| {
            let matching = store.range(&glob, None).filter(|(key, slot)| store.matches(&glob, key, slot));
            Ok(matching.map(|(key, _)| key.to_owned()).collect())
        })
        .await
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn max_value_bytes(&self) -> usize {
        self.max_value_bytes
    }

    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }

    fn pub_sub(&self) -> Option<&dyn PubSub> {
        Some(self)
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        named("get_many", keys.iter().try_for_each(|key| check_key(key)))?;
        self.run("get_many", |store| Ok(keys.iter().map(|key| Ok(store.value(key).cloned())).collect())).await
    }

    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        let ttls = entries.iter().map(|e| check_entry(&e.key, &e.value, e.ttl, self.max_value_bytes));
        let ttls: Vec<_> = named("set_many", ttls.collect())?;
        self.run("set_many", |store| {
            for (entry, ttl) in entries.into_iter().zip(ttls) {
                store.put(&entry.key, entry.value, ttl);
            }
            Ok(())
        })
        .await
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        named("delete_many", keys.iter().try_for_each(|key| check_key(key)))?;
        self.run("delete_many", |store| Ok(keys.iter().map(|key| u64::from(store.remove(key))).sum())).await
    }

    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        named("scan_page", check_page_limit(limit))?;
        let after = named("scan_page", after.map(Cursor::place::<String>).transpose())?;
        self.run("scan_page", |store| page(store, scan, after.as_deref(), limit)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let ttl = named("compare_and_set", check_swap(key, new.as_ref(), ttl, self.max_value_bytes))?;
        self.run("compare_and_set", |store| {
            if !expected.matches(store.value(key)) {
                return Ok(false);
            }
            match new {
                Some(value) => store.put(key, value, ttl),
                None => drop(store.remove(key)),
            }
            Ok(true)
        })
        .await
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        named("increment", check_key(key))?;
        let ttl = named("increment", ttl.map(ttl_millis).transpose())?;
        self.run("increment", |store| {
            let found = store.value(key);
            let sum = add_integer(found, by).map_err(|error| error.with_key(key))?;
            match found.is_some() {
                true => store.replace(key, Json::from(sum)),
                false => store.put(key, Json::from(sum), ttl),
            }
            Ok(sum)
        })
        .await
    }

    async fn apply(&self, batch: Batch) -> Result<()> {
        named("apply", batch.check(self.max_value_bytes))?;
        self.run("apply", |store| {
            for (key, expected) in batch.requirements() {
                if !expected.matches(store.value(key)) {
                    return Err(Batch::conflict(key));
                }
            }
            for operation in batch.operations() {
                match operation {
                    BatchOperation::Set(entry) => {
                        store.put(&entry.key, entry.value.clone(), entry.ttl.map(ttl_millis).transpose()?);
                    }
                    BatchOperation::Delete(key) => drop(store.remove(key)),
                }
            }
            Ok(())
        })
        .await
    }

    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        named("ttl", check_key(key))?;
        self.run("ttl", |store| Ok(store.expiry(key))).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        named("expire", check_key(key))?;
        let ttl = named("expire", ttl_millis(ttl))?;
        self.run("expire", |store| Ok(store.set_expiry(key, Some(ttl)))).await
    }

    async fn persist(&self, key: &str) -> Result<bool> {
        named("persist", check_key(key))?;
        self.run("persist", |store| Ok(store.set_expiry(key, None))).await
    }

    async fn cleanup(&self) -> Result<u64> {
        self.run("cleanup", |_| Ok(())).await?;
        self.partitions.sweep();
        Ok(self.store.sweep())
    }

    async fn health(&self) -> Health {
        let start = std::time::Instant::now();
        let answer = self.run("health", |_| Ok(())).await;
        let error = answer.err();
        let health = StoreHealth::new(NAME, start.elapsed(), error.as_ref(), error.as_ref());
        Health { stores: vec![health] }
    }

    async fn stats(&self) -> Result<Stats> {
        let (entries, bytes) = self.run("stats", |store| Ok(store.size())).await?;
        let details = BTreeMap::new();
        Ok(Stats { backend: NAME.to_owned(), entries: Some(entries), bytes: Some(bytes), details })
    }
}

/// The next entries after a key.
fn page(store: &Guard<'_>, scan: &Scan, after: Option<&str>, limit: usize) -> Result<ScanPage<Record>> {
    let most = limit.min(PAGE);
    let mut range = store.range(scan.glob(), after).take(LOOKED_AT);
    let (mut items, mut last, mut seen) = (Vec::new(), None, 0);
    // Room is looked for before `next`: an entry that was taken and not returned would be skipped by the next page.
    while let Some((key, slot)) = if items.len() < most { range.next() } else { None } {
        (last, seen) = (Some(key), seen + 1);
        if store.matches(scan.glob(), key, slot) {
            let value = scan.reads_values().then(|| slot.value.clone());
            let expires_at = slot.expires_at().filter(|_| scan.wants_expiry());
            items.extend(scan.record(key.to_owned(), value, expires_at).map(Ok));
        }
    }
    let more = items.len() == most || seen == LOOKED_AT;
    let next = last.filter(|_| more).map(Cursor::at).transpose()?;
    Ok(ScanPage::new(items, next))
}

#[async_trait]
impl PubSub for MemoryBackend {
    async fn publish(&self, channel: &str, message: Json) -> Result<u64> {
        named("publish", check_key(channel))?;
        self.run("publish", |_| Ok(self.channels.publish(channel, message))).await
    }

    async fn subscribe(&self, channel: &str) -> Result<BoxStream<'static, crate::Delivery>> {
        named("subscribe", check_key(channel))?;
        self.run("subscribe", |_| Ok(self.channels.subscribe(channel))).await
    }
}
