//! The backend: checks what it is given, and hands over to work that runs by itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use storage_core::{
    Batch, Capabilities, CollectionStore, Cursor, Entry, ErrorKind, Expected, Expiry, Health, Json, PubSub,
    Record, Result, Scan, ScanPage, Stats, StorageBackend, StoreHealth, check_entry, check_key,
    check_page_limit, check_swap,
    engine::{Combiner, Deadline, Lifecycle},
    optional_ttl_millis, ttl_millis,
};
use tokio::runtime::Handle;

use crate::{
    config::PostgresConfig,
    connections::executor::Executor,
    error::{NAME, named, on_key},
    statements::value::signed,
    work::{
        batch,
        connected::{Connected, call},
        groups::{Kind, Shared},
        kinds::{Swap, Write},
        queues::{Queues, submit},
        scan, store, sweep,
    },
};

/// The whole contract on Postgres 12 and later.
///
/// Expiry is judged by the server's clock, keys are listed in the order of their bytes whatever the database's
/// collation is, and values are JSONB: equal when they come back, though members may be in another order and numbers
/// spelled in another way.
#[derive(Debug)]
pub struct PostgresBackend {
    pub(crate) config: Arc<PostgresConfig>,
    lifecycle: Lifecycle<Connected>,
}

impl PostgresBackend {
    /// A backend that is not connected yet; does no I/O.
    ///
    /// # Errors
    /// `Config` where the settings contradict each other.
    pub fn new(config: PostgresConfig) -> Result<Self> {
        config.check().map_err(|error| error.at(NAME, "new"))?;
        Ok(Self { config: Arc::new(config), lifecycle: Lifecycle::new() })
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.config.operation_timeout)
    }

    /// Does work that changes nothing, or nothing that matters.
    pub(crate) async fn read<T, F>(&self, work: impl FnOnce(Executor) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        call(self.lifecycle.enter()?, ErrorKind::Timeout, work).await
    }

    /// Does work that may change something.
    pub(crate) async fn write<T, F>(&self, work: impl FnOnce(Executor) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        call(self.lifecycle.enter()?, ErrorKind::OutcomeUnknown, work).await
    }

    /// Does what callers share.
    async fn submit<K: Kind>(
        &self,
        queue: impl FnOnce(&Queues) -> &Combiner<Shared<K>>,
        item: K::Item,
    ) -> Result<K::Answer> {
        let lease = self.lifecycle.enter()?;
        let queues = Arc::clone(&lease.here().queues);
        submit(queue(&queues), item, lease.into(), self.deadline()).await
    }

    async fn swap(
        &self,
        key: String,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<i64>,
    ) -> Result<bool> {
        match (expected, new) {
            (Expected::Absent, None) => Ok(!self.submit(|queues| &queues.exists, key).await?),
            (Expected::Absent, Some(value)) => {
                self.submit(|queues| &queues.creates, Write { key, value, ttl }).await
            }
            (Expected::Value(expected), new) => {
                self.submit(|queues| &queues.swaps, Swap { key, expected, new, ttl }).await
            }
        }
    }
}

/// The keys, checked.
fn owned(keys: &[&str]) -> Result<Vec<String>> {
    keys.iter().map(|key| check_key(key).map(|()| (*key).to_owned())).collect()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StorageBackend for PostgresBackend {
    /// Opens a connection and makes what is missing of the schema. Making the indexes of a large table takes as long as it
    /// takes, up to ten minutes; all else ends within the timeouts.
    async fn connect(&self) -> Result<()> {
        let (config, runtime) = (Arc::clone(&self.config), Handle::try_current().ok());
        named("connect", self.lifecycle.closed(self.deadline()).await)?;
        // It limits itself, step by step: who gave up making the indexes of a large table would begin anew each time.
        let connected = self.lifecycle.connect(Deadline::never(), || Connected::open(config, runtime));
        named("connect", connected.await)
    }

    async fn disconnect(&self) -> Result<()> {
        let config = Arc::clone(&self.config);
        let close = |connected: Arc<Connected>| async move {
            connected.close(&config).await;
            Ok(())
        };
        named("disconnect", self.lifecycle.disconnect(self.deadline(), close).await)
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        named("get", check_key(key))?;
        on_key("get", key, self.submit(|queues| &queues.gets, key.to_owned())).await
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        let ttl = named("set", check_entry(key, &value, ttl, self.config.max_value_bytes))?;
        let write = Write { key: key.to_owned(), value, ttl: ttl.map(signed) };
        on_key("set", key, self.submit(|queues| &queues.sets, write)).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        named("delete", check_key(key))?;
        on_key("delete", key, self.submit(|queues| &queues.deletes, key.to_owned())).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        named("exists", check_key(key))?;
        on_key("exists", key, self.submit(|queues| &queues.exists, key.to_owned())).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let scan = named("keys", Scan::keys(pattern))?;
        named("keys", self.read(|executor| scan::keys(executor, scan)).await)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn max_value_bytes(&self) -> usize {
        self.config.max_value_bytes
    }

    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }

    fn pub_sub(&self) -> Option<&dyn PubSub> {
        None
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        let keys = named("get_many", owned(keys))?;
        let found = named("get_many", self.read(|executor| store::get_many(executor, keys)).await)?;
        Ok(found.into_iter().map(|value| named("get_many", value)).collect())
    }

    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        let limit = self.config.max_value_bytes;
        named("set_many", entries.iter().try_for_each(|entry| entry.check(limit)))?;
        named("set_many", self.write(|executor| store::set_many(executor, entries)).await)
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        let keys = named("delete_many", owned(keys))?;
        named("delete_many", self.write(|executor| store::delete_many(executor, keys)).await)
    }

    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        named("scan_page", check_page_limit(limit))?;
        let (scan, after) = (scan.clone(), after.cloned());
        let page =
            self.read(
                |mut executor| async move { scan::page(&mut executor, &scan, after.as_ref(), limit).await },
            );
        named("scan_page", page.await).map(|page| page.at(NAME, "scan_page"))
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let checked = check_swap(key, new.as_ref(), ttl, self.config.max_value_bytes);
        let ttl = named("compare_and_set", checked)?.map(signed);
        on_key("compare_and_set", key, self.swap(key.to_owned(), expected, new, ttl)).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        named("increment", check_key(key))?;
        let ttl = named("increment", optional_ttl_millis(ttl))?.map(signed);
        let owned = key.to_owned();
        on_key("increment", key, self.write(|executor| store::increment(executor, owned, by, ttl))).await
    }

    async fn apply(&self, batch: Batch) -> Result<()> {
        named("apply", batch.check(self.config.max_value_bytes))?;
        named("apply", self.write(|executor| batch::apply(executor, batch)).await)
    }

    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        named("ttl", check_key(key))?;
        let owned = key.to_owned();
        on_key("ttl", key, self.read(|executor| store::ttl(executor, owned))).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        named("expire", check_key(key))?;
        let (owned, ttl) = (key.to_owned(), signed(named("expire", ttl_millis(ttl))?));
        on_key("expire", key, self.write(|executor| store::expire(executor, owned, ttl))).await
    }

    async fn persist(&self, key: &str) -> Result<bool> {
        named("persist", check_key(key))?;
        let owned = key.to_owned();
        on_key("persist", key, self.write(|executor| store::persist(executor, owned))).await
    }

    /// As many batches as the deadline lets through.
    async fn cleanup(&self) -> Result<u64> {
        let batch = self.config.sweep.unwrap_or_default().batch.max(1);
        named("cleanup", self.read(|executor| sweep::sweep_all(executor, batch)).await)
    }

    async fn health(&self) -> Health {
        let start = Instant::now();
        let answer = named("health", self.read(store::ping).await);
        Health { stores: vec![StoreHealth::new(NAME, start.elapsed(), answer.err().as_ref())] }
    }

    async fn stats(&self) -> Result<Stats> {
        let table = self.config.table();
        let size = named("stats", self.lifecycle.enter()).map(|connected| connected.size())?;
        named("stats", self.read(|executor| store::stats(executor, table, size)).await)
    }
}
