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
    engine::{Deadline, Lifecycle},
    optional_ttl_millis, ttl_millis,
};
use tokio::runtime::Handle;

use crate::{
    config::PostgresConfig,
    error::{NAME, named, on_key},
    statements::value::signed,
    work::{
        batch,
        connected::{Connected, To, call},
        kinds::{Swap, Write},
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
    pub(crate) lifecycle: Lifecycle<Connected>,
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

    /// Of the server that is read from, where there is one. Where it fails reads go to the primary.
    async fn health_of_reads(&self) -> Option<StoreHealth> {
        self.config.read_url.as_ref()?;
        let start = Instant::now();
        let answer = match self.lifecycle.enter() {
            Ok(lease) => call(lease, To::Near, self.deadline(), ErrorKind::Timeout, store::look).await,
            Err(error) => Err(error),
        };
        let answer = named("health", answer);
        let health = StoreHealth::new(READS, start.elapsed(), answer.as_ref().err(), None);
        Some(StoreHealth { behind: answer.ok().flatten(), ..health })
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

/// The name of the server that is read from, in health.
const READS: &str = "postgres (reads)";

/// The keys, checked.
fn owned(keys: &[&str]) -> Result<Vec<String>> {
    keys.iter().map(|key| check_key(key).map(|()| (*key).to_owned())).collect()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StorageBackend for PostgresBackend {
    /// Opens a connection and makes what is missing of the schema, unless [`create`](PostgresConfig::create) is off. A standby
    /// that has the table can be connected to: reads work there, and writes are `Unavailable` at once. Making the indexes of a large table takes as long as it
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
        on_key("get", key, self.find(key, |queues| &queues.gets)).await
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        let ttl = named("set", check_entry(key, &value, ttl, self.config.max_value_bytes))?;
        let write = Write { key: key.to_owned(), value, ttl: ttl.map(signed) };
        on_key("set", key, self.wrote(&[key], self.submit(|queues| &queues.sets, write))).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        named("delete", check_key(key))?;
        let delete = self.submit(|queues| &queues.deletes, key.to_owned());
        on_key("delete", key, self.wrote(&[key], delete)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        named("exists", check_key(key))?;
        on_key("exists", key, self.find(key, |queues| &queues.exists)).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let scan = named("keys", Scan::keys(pattern))?;
        named("keys", self.look(&[], |executor| scan::keys(executor, scan.clone())).await)
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
        named("get_many", keys.iter().try_for_each(|key| check_key(key)))?;
        let owned = || keys.iter().map(|key| (*key).to_owned()).collect();
        let found = self.look(keys, |executor| store::get_many(executor, owned())).await;
        let found = named("get_many", found)?;
        Ok(found.into_iter().map(|value| named("get_many", value)).collect())
    }

    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        let limit = self.config.max_value_bytes;
        named("set_many", entries.iter().try_for_each(|entry| entry.check(limit)))?;
        let keys = self.names(entries.iter().map(|entry| &*entry.key));
        let write = self.write(|executor| store::set_many(executor, entries));
        named("set_many", self.wrote(&keys, write).await)
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        let owned = named("delete_many", owned(keys))?;
        let write = self.write(|executor| store::delete_many(executor, owned));
        named("delete_many", self.wrote(keys, write).await)
    }

    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        named("scan_page", check_page_limit(limit))?;
        let page = self.look(&[], |mut executor| {
            let (scan, after) = (scan.clone(), after.cloned());
            async move { scan::page(&mut executor, &scan, after.as_ref(), limit).await }
        });
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
        let swap = self.swap(key.to_owned(), expected, new, ttl);
        on_key("compare_and_set", key, self.wrote(&[key], swap)).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        named("increment", check_key(key))?;
        let ttl = named("increment", optional_ttl_millis(ttl))?.map(signed);
        let owned = key.to_owned();
        let write = self.write(|executor| store::increment(executor, owned, by, ttl));
        on_key("increment", key, self.wrote(&[key], write)).await
    }

    async fn apply(&self, batch: Batch) -> Result<()> {
        named("apply", batch.check(self.config.max_value_bytes))?;
        let keys = self.names(batch.keys());
        let write = self.write(|executor| batch::apply(executor, batch));
        named("apply", self.wrote(&keys, write).await)
    }

    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        named("ttl", check_key(key))?;
        on_key("ttl", key, self.look(&[key], |executor| store::ttl(executor, key.to_owned()))).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        named("expire", check_key(key))?;
        let (owned, ttl) = (key.to_owned(), signed(named("expire", ttl_millis(ttl))?));
        let write = self.write(|executor| store::expire(executor, owned, ttl));
        on_key("expire", key, self.wrote(&[key], write)).await
    }

    async fn persist(&self, key: &str) -> Result<bool> {
        named("persist", check_key(key))?;
        let owned = key.to_owned();
        let write = self.write(|executor| store::persist(executor, owned));
        on_key("persist", key, self.wrote(&[key], write)).await
    }

    /// As many batches as the deadline lets through.
    async fn cleanup(&self) -> Result<u64> {
        let batch = self.config.sweep.unwrap_or_default().batch.max(1);
        named("cleanup", self.read(|executor| sweep::sweep_all(executor, batch)).await)
    }

    /// One round trip: a read, and a small write that leaves nothing behind. Of a standby it says how far it is behind.
    async fn health(&self) -> Health {
        let start = Instant::now();
        let checked = named("health", self.read(store::check).await);
        let store = match checked {
            Err(error) => StoreHealth::failed(NAME, start.elapsed(), &error),
            Ok(store::Checked { reads, writes, behind }) => {
                let (reads, writes) = (named("health", reads).err(), named("health", writes).err());
                let store = StoreHealth::new(NAME, start.elapsed(), reads.as_ref(), writes.as_ref());
                StoreHealth { behind, ..store }
            }
        };
        let mut stores = vec![store];
        stores.extend(self.health_of_reads().await);
        Health { stores }
    }

    async fn stats(&self) -> Result<Stats> {
        let table = self.config.table();
        let size = named("stats", self.lifecycle.enter()).map(|connected| connected.size())?;
        named("stats", self.read(|executor| store::stats(executor, table, size)).await)
    }
}
