//! The backend that follows the routing table.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use storage_core::{
    Batch, Capabilities, CollectionStore, Cursor, Entry, Error, ErrorKind, Expected, Expiry, Glob, Health,
    Json, PubSub, Record, Result, Scan, ScanPage, Stats, StorageBackend,
    engine::{Deadline, Lifecycle, all_written},
};

use crate::{Routes, Store};

pub(crate) const NAME: &str = "hybrid";

/// Two stores behind one trait, see the [crate documentation](crate).
///
/// A listing tells only the keys that are routed to the store they lie in, so it names exactly what `get` would find.
#[derive(Debug)]
pub struct HybridBackend {
    durable: Arc<dyn StorageBackend>,
    ephemeral: Arc<dyn StorageBackend>,
    routes: Routes,
    /// Each store has one of its own; this one keeps the two together.
    lifecycle: Lifecycle<()>,
}

impl HybridBackend {
    /// Durable keys to the first, ephemeral ones to the second. Does no I/O.
    #[must_use]
    pub fn new(durable: Arc<dyn StorageBackend>, ephemeral: Arc<dyn StorageBackend>, routes: Routes) -> Self {
        Self { durable, ephemeral, routes, lifecycle: Lifecycle::new() }
    }

    /// The routing table.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    fn store(&self, store: Store) -> &dyn StorageBackend {
        match store {
            Store::Durable => &*self.durable,
            Store::Ephemeral => &*self.ephemeral,
        }
    }

    pub(crate) fn of(&self, key: &str) -> &dyn StorageBackend {
        self.store(self.routes.store(key))
    }

    /// Splits what concerns keys by their store, remembering where each stood.
    fn split<T>(&self, items: impl IntoIterator<Item = T>, key: impl Fn(&T) -> &str) -> [Vec<(usize, T)>; 2] {
        let (durable, ephemeral) = items
            .into_iter()
            .enumerate()
            .partition(|(_, item)| self.routes.store(key(item)) == Store::Durable);
        [durable, ephemeral]
    }
}

/// Where a listing stands: in which store, and where there.
#[derive(Serialize, Deserialize)]
struct Place {
    store: Store,
    inner: Option<String>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StorageBackend for HybridBackend {
    /// Both or neither: half a storage would lose half the data of every caller that does not look. Ends when both have
    /// ended, whether or not its caller waits.
    async fn connect(&self) -> Result<()> {
        let (durable, ephemeral) = (Arc::clone(&self.durable), Arc::clone(&self.ephemeral));
        let open = || async move {
            let opened = tokio::join!(durable.connect(), ephemeral.connect());
            if opened.0.is_err() || opened.1.is_err() {
                close(&durable, &ephemeral).await.ok();
            }
            opened.0.and(opened.1)
        };
        // Each store limits itself.
        self.lifecycle.connect(Deadline::never(), open).await
    }

    async fn disconnect(&self) -> Result<()> {
        let (durable, ephemeral) = (Arc::clone(&self.durable), Arc::clone(&self.ephemeral));
        let close = |_| async move { close(&durable, &ephemeral).await };
        self.lifecycle.disconnect(Deadline::never(), close).await
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        self.of(key).get(key).await
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        self.of(key).set(key, value, ttl).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.of(key).delete(key).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.of(key).exists(key).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let glob = Glob::new(pattern).map_err(|error| error.at(NAME, "keys"))?;
        if let Some(store) = self.routes.store_of_pattern(&glob) {
            return self.store(store).keys(pattern).await;
        }
        let (durable, ephemeral) =
            tokio::try_join!(self.durable.keys(pattern), self.ephemeral.keys(pattern))?;
        let durable = durable.into_iter().filter(|key| self.routes.store(key) == Store::Durable);
        let ephemeral = ephemeral.into_iter().filter(|key| self.routes.store(key) == Store::Ephemeral);
        let mut keys: Vec<String> = durable.chain(ephemeral).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let (durable, ephemeral) = (self.durable.capabilities(), self.ephemeral.capabilities());
        durable.intersection(ephemeral)
    }

    /// Of the store that takes less.
    fn max_value_bytes(&self) -> usize {
        self.durable.max_value_bytes().min(self.ephemeral.max_value_bytes())
    }

    fn collections(&self) -> Option<&dyn CollectionStore> {
        let both = self.durable.collections().is_some() && self.ephemeral.collections().is_some();
        both.then_some(self)
    }

    fn pub_sub(&self) -> Option<&dyn PubSub> {
        self.ephemeral.pub_sub().or_else(|| self.durable.pub_sub())
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        let [durable, ephemeral] = self.split(keys.iter().copied(), |key| key);
        let (durable, ephemeral) =
            tokio::try_join!(read_part(&*self.durable, durable), read_part(&*self.ephemeral, ephemeral))?;
        let mut found: Vec<_> = durable.into_iter().chain(ephemeral).collect();
        found.sort_unstable_by_key(|(place, _)| *place);
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }

    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        let check = |entry: &Entry| entry.check(self.of(&entry.key).max_value_bytes());
        // Both stores check again; here so that a wrong entry of one store stops the other too.
        entries.iter().try_for_each(check).map_err(|error| error.at(NAME, "set_many"))?;
        let [durable, ephemeral] = self.split(entries, |entry| &entry.key);
        let (durable, ephemeral) =
            tokio::join!(write_part(&*self.durable, durable), write_part(&*self.ephemeral, ephemeral));
        let written = all_written([durable, ephemeral].into_iter().flatten());
        written.map(drop).map_err(|error| error.at(NAME, "set_many"))
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        keys.iter()
            .try_for_each(|key| storage_core::check_key(key))
            .map_err(|error| error.at(NAME, "delete_many"))?;
        let [durable, ephemeral] = self.split(keys.iter().copied(), |key| key);
        let (durable, ephemeral) =
            tokio::join!(delete_part(&*self.durable, durable), delete_part(&*self.ephemeral, ephemeral));
        let deleted = all_written([durable, ephemeral].into_iter().flatten());
        deleted.map(|counts| counts.into_iter().sum()).map_err(|error| error.at(NAME, "delete_many"))
    }

    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        let place =
            after.map(Cursor::place::<Place>).transpose().map_err(|error| error.at(NAME, "scan_page"))?;
        let only = self.routes.store_of_pattern(scan.glob());
        let store = place.as_ref().map(|place| place.store).or(only).unwrap_or(Store::Durable);
        let inner = place.and_then(|place| place.inner).map(|inner| inner.parse()).transpose()?;
        let mut page = self.store(store).scan_page(scan, inner.as_ref(), limit).await?;
        page.items.retain(|record| {
            let key = record.as_ref().map_or_else(Error::key, |record| Some(&record.key));
            key.is_none_or(|key| self.routes.store(key) == store)
        });
        let place = match (page.next.take(), store) {
            (Some(cursor), store) => Some(Place { store, inner: Some(cursor.to_string()) }),
            // One store after the other.
            (None, Store::Durable) if only.is_none() => Some(Place { store: Store::Ephemeral, inner: None }),
            (None, _) => None,
        };
        page.next = place.as_ref().map(Cursor::at).transpose()?;
        Ok(page)
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        self.of(key).compare_and_set(key, expected, new, ttl).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        self.of(key).increment(key, by, ttl).await
    }

    async fn apply(&self, batch: Batch) -> Result<()> {
        // The size of values is for the store to judge, once it is known which.
        batch.check(usize::MAX).map_err(|error| error.at(NAME, "apply"))?;
        let store = batch.keys().next().map_or(Store::Durable, |key| self.routes.store(key));
        if let Some(key) = batch.keys().find(|key| self.routes.store(key) != store) {
            let message = "the keys of the batch lie in two stores, which cannot change in one step";
            let error = Error::new(ErrorKind::Unsupported, message).at(NAME, "apply").with_key(key);
            return Err(error.with_hint("route the prefixes to one store, or apply a batch to each"));
        }
        self.store(store).apply(batch).await
    }

    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        self.of(key).ttl(key).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        self.of(key).expire(key, ttl).await
    }

    async fn persist(&self, key: &str) -> Result<bool> {
        self.of(key).persist(key).await
    }

    async fn cleanup(&self) -> Result<u64> {
        let (durable, ephemeral) = tokio::join!(self.durable.cleanup(), self.ephemeral.cleanup());
        Ok(durable? + ephemeral?)
    }

    async fn health(&self) -> Health {
        let (mut durable, ephemeral) = tokio::join!(self.durable.health(), self.ephemeral.health());
        durable.stores.extend(ephemeral.stores);
        durable
    }

    async fn stats(&self) -> Result<Stats> {
        let (durable, ephemeral) = tokio::try_join!(self.durable.stats(), self.ephemeral.stats())?;
        let sum = |left: Option<u64>, right: Option<u64>| Some(left? + right?);
        let mut stats = Stats {
            backend: NAME.to_owned(),
            entries: sum(durable.entries, ephemeral.entries),
            bytes: sum(durable.bytes, ephemeral.bytes),
            ..Stats::default()
        };
        for part in [durable, ephemeral] {
            for (name, detail) in part.details {
                stats.details.insert(format!("{}.{name}", part.backend), detail);
            }
        }
        Ok(stats)
    }
}

async fn close(durable: &Arc<dyn StorageBackend>, ephemeral: &Arc<dyn StorageBackend>) -> Result<()> {
    // `join`, here and for writes: `try_join` would drop the call to one store where the other fails.
    let (durable, ephemeral) = tokio::join!(durable.disconnect(), ephemeral.disconnect());
    durable.and(ephemeral)
}

type Placed<T> = Vec<(usize, T)>;

async fn read_part(store: &dyn StorageBackend, keys: Placed<&str>) -> Result<Placed<Result<Option<Json>>>> {
    // A store that is down fails no call that does not need it.
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (places, keys): (Vec<usize>, Vec<&str>) = keys.into_iter().unzip();
    Ok(places.into_iter().zip(store.get_many(&keys).await?).collect())
}

/// `None` where there is nothing to write: what is not begun says nothing about the whole.
async fn write_part(store: &dyn StorageBackend, entries: Placed<Entry>) -> Option<Result<()>> {
    if entries.is_empty() {
        return None;
    }
    Some(store.set_many(entries.into_iter().map(|(_, entry)| entry).collect()).await)
}

async fn delete_part(store: &dyn StorageBackend, keys: Placed<&str>) -> Option<Result<u64>> {
    if keys.is_empty() {
        return None;
    }
    let keys: Vec<&str> = keys.into_iter().map(|(_, key)| key).collect();
    Some(store.delete_many(&keys).await)
}
