//! The backend: checks what it is given, enters, and names the operation in errors.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::TryFutureExt;
use storage_core::{
    Batch, Capabilities, CollectionStore, Cursor, Entry, ErrorKind, Expected, Expiry, Health, Json, PubSub,
    Record, Result, Scan, ScanPage, Stats, StorageBackend, StoreHealth, check_entry, check_key,
    check_page_limit, check_swap,
    engine::{Deadline, Lifecycle},
    optional_ttl_millis, ttl_millis,
};

use crate::{
    RedisConfig,
    error::NAME,
    work::{operations::Connected, scan, stats},
};

/// The whole contract on a Redis server or a Redis Cluster.
///
/// Entries are plain Redis strings: the key is namespace and key, the value is the JSON text, expiry is Redis's own.
/// Connections are shared by all callers and replaced when they break. See the crate's documentation for what Redis
/// keeps through a crash.
#[derive(Debug)]
pub struct RedisBackend {
    config: RedisConfig,
    lifecycle: Lifecycle<Connected>,
}

impl RedisBackend {
    /// A backend that is not connected yet. No I/O.
    ///
    /// # Errors
    /// `Config` where a field of the configuration holds what it may not.
    pub fn new(config: RedisConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, lifecycle: Lifecycle::new() })
    }

    /// What there is while connected. `disconnect` waits for the requests under way, not for who holds this.
    pub(crate) fn enter(&self) -> Result<Arc<Connected>> {
        self.lifecycle.value()
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.config.operation_timeout)
    }
}

/// Names the operation in an error. No `async fn`: that would hold `work` twice, and every call allocates it.
fn at<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
    work.map_err(move |error| error.at(NAME, operation))
}

/// Names the operation and the key in an error.
fn about<T>(
    operation: &'static str,
    key: &str,
    work: impl Future<Output = Result<T>>,
) -> impl Future<Output = Result<T>> {
    work.map_err(move |error| error.at(NAME, operation).with_key(key))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StorageBackend for RedisBackend {
    async fn connect(&self) -> Result<()> {
        let (deadline, config) = (self.deadline(), self.config.clone());
        let open = || async move { deadline.answer(ErrorKind::Timeout, Connected::open(&config)).await };
        at("connect", self.lifecycle.connect(deadline, open)).await
    }

    async fn disconnect(&self) -> Result<()> {
        let close = |connected: Arc<Connected>| async move {
            connected.closed.cancel();
            connected.router.close().await;
            Ok(())
        };
        at("disconnect", self.lifecycle.disconnect(self.deadline(), close)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        let work = async {
            check_key(key)?;
            let connected = self.enter()?;
            connected.get(key, connected.deadline()).await
        };
        about("get", key, work).await
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        let work = async {
            let ttl = check_entry(key, &value, ttl, self.config.max_value_bytes)?;
            self.enter()?.set(key, &value, ttl).await
        };
        about("set", key, work).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let work = async {
            check_key(key)?;
            self.enter()?.delete(key).await
        };
        about("delete", key, work).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let work = async {
            check_key(key)?;
            self.enter()?.exists(key).await
        };
        about("exists", key, work).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let work = async {
            let scan = Scan::keys(pattern)?;
            let connected = self.enter()?;
            let (mut keys, mut after, deadline) = (Vec::new(), None, connected.deadline());
            loop {
                let page = scan::page(&connected, &scan, after.as_ref(), usize::MAX, deadline).await?;
                for record in page.items {
                    keys.push(record?.key);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        };
        at("keys", work).await
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
        Some(self)
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        let work = async {
            keys.iter().try_for_each(|key| check_key(key))?;
            let connected = self.enter()?;
            let found = connected.get_many(keys, connected.deadline()).await?;
            Ok(found.into_iter().map(|own| own.map_err(|error| error.at(NAME, "get_many"))).collect())
        };
        at("get_many", work).await
    }

    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        let work = async {
            entries.iter().try_for_each(|entry| entry.check(self.config.max_value_bytes))?;
            self.enter()?.set_many(&entries).await
        };
        at("set_many", work).await
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        let work = async {
            keys.iter().try_for_each(|key| check_key(key))?;
            self.enter()?.delete_many(keys).await
        };
        at("delete_many", work).await
    }

    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        let work = async {
            check_page_limit(limit)?;
            let connected = self.enter()?;
            let page = scan::page(&connected, scan, after, limit, connected.deadline()).await?;
            Ok(page.at(NAME, "scan_page"))
        };
        at("scan_page", work).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let work = async {
            let ttl = check_swap(key, new.as_ref(), ttl, self.config.max_value_bytes)?;
            self.enter()?.compare_and_set(key, &expected, new.as_ref(), ttl).await
        };
        about("compare_and_set", key, work).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let work = async {
            check_key(key)?;
            let ttl = optional_ttl_millis(ttl)?;
            self.enter()?.increment(key, by, ttl).await
        };
        about("increment", key, work).await
    }

    async fn apply(&self, batch: Batch) -> Result<()> {
        let work = async {
            batch.check(self.config.max_value_bytes)?;
            self.enter()?.apply(&batch).await
        };
        at("apply", work).await
    }

    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        let work = async {
            check_key(key)?;
            self.enter()?.ttl(key).await
        };
        about("ttl", key, work).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        let work = async {
            check_key(key)?;
            let ttl = ttl_millis(ttl)?;
            self.enter()?.expire(key, ttl).await
        };
        about("expire", key, work).await
    }

    async fn persist(&self, key: &str) -> Result<bool> {
        let work = async {
            check_key(key)?;
            self.enter()?.persist(key).await
        };
        about("persist", key, work).await
    }

    /// Redis removes what has expired by itself: always 0.
    async fn cleanup(&self) -> Result<u64> {
        at("cleanup", async { self.enter().map(|_| 0) }).await
    }

    /// A read and a write in one round trip to the server, or to each primary of a cluster: what they say of a key that nobody
    /// uses, and which they leave as it is. So a replica, a server that is out of memory, that has too few replicas or cannot
    /// save its snapshots, and a user who may only read are told apart from one that works. Nothing is tried again: it is
    /// what the server says now.
    async fn health(&self) -> Health {
        let start = Instant::now();
        match self.enter() {
            Ok(connected) => stats::health(&connected).await,
            Err(error) => {
                let error = error.at(NAME, "health");
                Health { stores: vec![StoreHealth::failed(NAME, start.elapsed(), &error)] }
            }
        }
    }

    /// `entries` and `bytes` are those of the whole database and server, other namespaces included.
    async fn stats(&self) -> Result<Stats> {
        let work = async {
            let connected = self.enter()?;
            stats::stats(&connected).await
        };
        at("stats", work).await
    }
}
