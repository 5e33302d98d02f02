//! The backend: checks, connects, and hands over to the pool.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use storage_core::{
    Batch, Capabilities, CollectionStore, Entry, Error, Expected, Expiry, Health, Json, Lease, Lifecycle,
    PubSub, Record, Result, Scan, Stats, StorageBackend, StoreHealth, check_entry, check_key, check_swap,
    optional_ttl_millis, spawn_sweeper, ttl_millis,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    PostgresConfig,
    group::Queues,
    kinds::{Swap, Write},
    pool::Pool,
    scan::Cursor,
    sql::Query,
    store::{column, signed},
};

/// The backend's name.
const NAME: &str = "postgres";

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

pub(crate) struct Connected {
    pub(crate) pool: Arc<Pool>,
    queues: Queues,
    _sweeper: Option<AbortOnDropHandle<()>>,
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

    async fn open(&self) -> Result<Connected> {
        let pool = Arc::new(Pool::open(Arc::clone(&self.config)).await?);
        let sweeper = self.config.sweep.map(|sweep| {
            let pool = Arc::clone(&pool);
            spawn_sweeper(sweep, move || {
                let pool = Arc::clone(&pool);
                async move { pool.sweep(pool.deadline(), sweep.batch).await }
            })
        });
        let queues = Queues::new(&pool, self.config.pool_max);
        Ok(Connected { pool, queues, _sweeper: sweeper })
    }

    pub(crate) fn enter(&self) -> Result<Lease<Connected>> {
        self.lifecycle.enter()
    }

    /// Removes a batch after the other until nothing is left or the time is up.
    async fn sweep_all(&self, pool: &Pool) -> Result<u64> {
        let batch = self.config.sweep.unwrap_or_default().batch.max(1);
        let deadline = pool.deadline();
        let mut removed = 0;
        loop {
            let swept = match pool.sweep(deadline, batch).await {
                Err(_) if removed > 0 => return Ok(removed),
                swept => swept?,
            };
            removed += swept;
            if swept < u64::from(batch) {
                return Ok(removed);
            }
        }
    }
}

/// Names backend and operation in an error.
pub(crate) fn named<T>(operation: &'static str, answer: Result<T>) -> Result<T> {
    answer.map_err(|error| error.at(NAME, operation))
}

/// [`named`] for a call that concerns one key.
pub(crate) async fn on_key<T>(
    operation: &'static str,
    key: &str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    call.await.map_err(|error| error.at(NAME, operation).with_key(key))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StorageBackend for PostgresBackend {
    async fn connect(&self) -> Result<()> {
        named("connect", self.lifecycle.connect(self.open()).await)
    }

    async fn disconnect(&self) -> Result<()> {
        let close = |connected: Arc<Connected>| async move {
            let pool = Arc::clone(&connected.pool);
            drop(connected);
            pool.close().await;
            Ok(())
        };
        named("disconnect", self.lifecycle.disconnect(close).await)
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        named("get", check_key(key))?;
        let limit = self.config.operation_timeout;
        on_key("get", key, async { self.enter()?.queues.gets.submit(key.to_owned(), limit).await }).await
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        let ttl = named("set", check_entry(key, &value, ttl, self.config.max_value_bytes))?;
        let write = Write { key: key.to_owned(), value, ttl: ttl.map(signed) };
        let limit = self.config.operation_timeout;
        on_key("set", key, async { self.enter()?.queues.sets.submit(write, limit).await }).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        named("delete", check_key(key))?;
        let limit = self.config.operation_timeout;
        on_key("delete", key, async { self.enter()?.queues.deletes.submit(key.to_owned(), limit).await })
            .await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        named("exists", check_key(key))?;
        let limit = self.config.operation_timeout;
        on_key("exists", key, async { self.enter()?.queues.exists.submit(key.to_owned(), limit).await }).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let scan = named("keys", Scan::keys(pattern))?;
        let lease = named("keys", self.enter())?;
        let deadline = lease.pool.deadline();
        let mut keys = Vec::new();
        let mut next = Some(Cursor::new(scan));
        while let Some(cursor) = next {
            let (items, after) = named("keys", cursor.page(&lease.pool, deadline).await)?;
            for item in items {
                keys.push(named("keys", item)?.key);
            }
            next = after;
        }
        Ok(keys)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }

    fn pub_sub(&self) -> Option<&dyn PubSub> {
        None
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        named("get_many", keys.iter().try_for_each(|key| check_key(key)))?;
        let found = named("get_many", async { self.enter()?.pool.get_many(keys).await }.await)?;
        Ok(found.into_iter().map(|value| named("get_many", value)).collect())
    }

    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        let limit = self.config.max_value_bytes;
        named("set_many", entries.iter().try_for_each(|entry| entry.check(limit)))?;
        named("set_many", async { self.enter()?.pool.set_many(&entries).await }.await)
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        named("delete_many", keys.iter().try_for_each(|key| check_key(key)))?;
        named("delete_many", async { self.enter()?.pool.delete(keys).await }.await)
    }

    fn scan(&self, scan: Scan) -> BoxStream<'_, Result<Record>> {
        let pages = stream::try_unfold(Some(Cursor::new(scan)), move |cursor| async move {
            let Some(cursor) = cursor else { return Ok(None) };
            let lease = named("scan", self.enter())?;
            let page = named("scan", cursor.page(&lease.pool, lease.pool.deadline()).await)?;
            Ok::<_, Error>(Some(page))
        });
        let items = pages.map_ok(|items| stream::iter(items).map(Ok)).try_flatten();
        // A corrupt entry is an item: it does not end the stream, as an error of the stream itself does.
        items.map(|item| item.and_then(|item| named("scan", item))).boxed()
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
        let (owned, limit) = (key.to_owned(), self.config.operation_timeout);
        let work = async {
            let queues = &self.enter()?.queues;
            match (expected, new) {
                (Expected::Absent, None) => Ok(!queues.exists.submit(owned, limit).await?),
                (Expected::Absent, Some(value)) => {
                    queues.creates.submit(Write { key: owned, value, ttl }, limit).await
                }
                (Expected::Value(expected), new) => {
                    queues.swaps.submit(Swap { key: owned, expected, new, ttl }, limit).await
                }
            }
        };
        on_key("compare_and_set", key, work).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        named("increment", check_key(key))?;
        let ttl = named("increment", optional_ttl_millis(ttl))?.map(signed);
        on_key("increment", key, async { self.enter()?.pool.increment(key, by, ttl).await }).await
    }

    async fn apply(&self, batch: Batch) -> Result<()> {
        named("apply", batch.check(self.config.max_value_bytes))?;
        named("apply", async { self.enter()?.pool.apply(&batch).await }.await)
    }

    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        named("ttl", check_key(key))?;
        on_key("ttl", key, async { self.enter()?.pool.ttl(key).await }).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        named("expire", check_key(key))?;
        let ttl = signed(named("expire", ttl_millis(ttl))?);
        on_key("expire", key, async { self.enter()?.pool.expire(key, ttl).await }).await
    }

    async fn persist(&self, key: &str) -> Result<bool> {
        named("persist", check_key(key))?;
        on_key("persist", key, async { self.enter()?.pool.persist(key).await }).await
    }

    /// As many batches as the deadline lets through.
    async fn cleanup(&self) -> Result<u64> {
        named("cleanup", async { self.sweep_all(&self.enter()?.pool).await }.await)
    }

    async fn health(&self) -> Health {
        let start = Instant::now();
        let answer = async {
            let lease = self.enter()?;
            lease.pool.query(lease.pool.deadline(), Query::Ping, &[]).await
        };
        let answer = named("health", answer.await);
        Health { stores: vec![StoreHealth::new(NAME, start.elapsed(), answer.err().as_ref())] }
    }

    async fn stats(&self) -> Result<Stats> {
        named("stats", async { stats(&self.enter()?.pool, &self.config.table()).await }.await)
    }
}

async fn stats(pool: &Pool, table: &str) -> Result<Stats> {
    let rows = pool.query(pool.deadline(), Query::Stats, &[&table]).await?;
    let mut stats = Stats { backend: NAME.to_owned(), ..Stats::default() };
    if let Some(row) = rows.first() {
        stats.entries = u64::try_from(column::<i64>(row, 0)?).ok();
        stats.bytes = u64::try_from(column::<i64>(row, 1)?).ok();
        let (connections, idle) = pool.size();
        stats.details = BTreeMap::from([
            ("server_version".to_owned(), column(row, 2)?),
            ("pool_connections".to_owned(), connections.to_string()),
            ("pool_idle".to_owned(), idle.to_string()),
        ]);
    }
    Ok(stats)
}
