//! The backend: checks, then work for the writer or a reader.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::join;
use storage_core::{
    Batch, BatchOperation, Capabilities, CollectionStore, Cursor, Entry, Error, ErrorKind, Expected, Expiry,
    HEALTH_KEY, Health, Json, PubSub, Record, Result, Scan, ScanPage, Stats, StorageBackend, StoreHealth,
    add_integer, check_entry, check_key, check_page_limit, check_swap, engine::Deadline, optional_ttl_millis,
    ttl_millis,
};

use crate::{
    SqliteConfig,
    connections::file::beside,
    error::Answer,
    statements::{
        entries::{Asked, Found, View, text_of},
        pages::{PAGE_ROWS, Place},
    },
    store::Store,
    work::writes::Steps,
};

/// The backend's name.
pub(crate) const NAME: &str = "sqlite";

/// A SQLite file as a store, see the [crate documentation](crate).
#[derive(Debug)]
pub struct SqliteBackend {
    pub(crate) store: Arc<Store>,
}

impl SqliteBackend {
    /// A backend on the file of `config`, unconnected. Does no I/O.
    ///
    /// # Errors
    /// `Config` naming the setting that is wrong.
    pub fn new(config: SqliteConfig) -> Result<Self> {
        config.check().map_err(|error| error.at(NAME, "new"))?;
        Ok(Self { store: Store::new(config) })
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        match self.store.find(Asked::Expiry, key).await? {
            Found::Expiry(expiry) => Ok(expiry),
            _ => Ok(None),
        }
    }

    async fn set_expiry(&self, key: &str, ttl_millis: Option<u64>) -> Result<bool> {
        let name = key.to_owned();
        let set = move |view: &View<'_>| view.set_expiry(&name, ttl_millis).map(i64::from);
        self.store.write(key.len(), Steps::One, set).await.map(|set| set > 0)
    }
}

/// Names operation and key in an error.
pub(crate) async fn at<T>(
    operation: &'static str,
    key: impl Into<Option<&str>>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    work.await.map_err(|error| {
        let error = error.at(NAME, operation);
        match key.into() {
            Some(key) => error.with_key(key),
            None => error,
        }
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StorageBackend for SqliteBackend {
    async fn connect(&self) -> Result<()> {
        at("connect", None, self.store.connect()).await
    }

    async fn disconnect(&self) -> Result<()> {
        at("disconnect", None, self.store.disconnect()).await
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        let work = async {
            check_key(key)?;
            match self.store.find(Asked::Value, key).await? {
                Found::Value(text) => text.map(|text| text_of(key, text)).transpose(),
                _ => {
                    let name = key.to_owned();
                    self.store.read(move |view| Ok(view.value(&name)??)).await
                }
            }
        };
        at("get", key, work).await
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        let work = async {
            let ttl = check_entry(key, &value, ttl, self.store.config.max_value_bytes)?;
            let name = key.to_owned();
            let weight = key.len() + value.len();
            let put = move |view: &View<'_>| view.put(&name, &value, ttl).map(|()| 1);
            self.store.write(weight, Steps::One, put).await.map(drop)
        };
        at("set", key, work).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let work = async {
            check_key(key)?;
            let name = key.to_owned();
            let remove = move |view: &View<'_>| view.remove(&name).map(i64::from);
            self.store.write(key.len(), Steps::One, remove).await.map(|removed| removed > 0)
        };
        at("delete", key, work).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let work = async {
            check_key(key)?;
            Ok(self.expiry(key).await?.is_some())
        };
        at("exists", key, work).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        let work = async {
            let scan = Scan::keys(pattern)?;
            let (mut keys, mut next) = (Vec::new(), Some(Place::of(None, scan.glob().literal_prefix())?));
            while let Some(from) = next {
                let page = self.store.page(scan.clone(), from, PAGE_ROWS).await?;
                // A key that cannot be read is none: a scan says so.
                keys.extend(page.items.into_iter().flatten().map(|record| record.key));
                next = page.next.map(|cursor| cursor.place()).transpose()?;
            }
            Ok(keys)
        };
        let deadline = Deadline::after(self.store.config.operation_timeout);
        at("keys", None, deadline.answer(ErrorKind::Timeout, work)).await
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn max_value_bytes(&self) -> usize {
        self.store.config.max_value_bytes
    }

    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }

    fn pub_sub(&self) -> Option<&dyn PubSub> {
        None
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        let work = async {
            let names = owned(keys)?;
            let answers = self.store.read(move |view| view.at_once(|| get_each(view, &names))).await?;
            Ok(answers.into_iter().map(|answer| answer.map_err(|e| e.at(NAME, "get_many"))).collect())
        };
        at("get_many", None, work).await
    }

    async fn set_many(&self, entries: Vec<Entry>) -> Result<()> {
        let work = async {
            entries.iter().try_for_each(|entry| entry.check(self.store.config.max_value_bytes))?;
            let weight = entries.iter().map(entry_weight).sum();
            let put = move |view: &View<'_>| {
                entries.iter().try_fold(0, |n, entry| put_entry(view, entry).map(|()| n + 1))
            };
            self.store.write(weight, Steps::Many, put).await.map(drop)
        };
        at("set_many", None, work).await
    }

    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        let work = async {
            let names = owned(keys)?;
            let weight = names.iter().map(String::len).sum();
            let remove = move |view: &View<'_>| remove_each(view, &names);
            self.store.write(weight, Steps::Many, remove).await.map(i64::unsigned_abs)
        };
        at("delete_many", None, work).await
    }

    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        let work = async {
            check_page_limit(limit)?;
            let from = Place::of(after, scan.glob().literal_prefix())?;
            Ok(self.store.page(scan.clone(), from, limit).await?.at(NAME, "scan_page"))
        };
        at("scan_page", None, work).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let work = async {
            let ttl = check_swap(key, new.as_ref(), ttl, self.store.config.max_value_bytes)?;
            let name = key.to_owned();
            let weight = key.len() + new.as_ref().map_or(0, Json::len);
            let swap = move |view: &View<'_>| swap(view, &name, &expected, new.as_ref(), ttl).map(i64::from);
            self.store.write(weight, Steps::One, swap).await.map(|swapped| swapped > 0)
        };
        at("compare_and_set", key, work).await
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let work = async {
            check_key(key)?;
            let ttl = optional_ttl_millis(ttl)?;
            let name = key.to_owned();
            self.store.write(key.len(), Steps::One, move |view| increment(view, &name, by, ttl)).await
        };
        at("increment", key, work).await
    }

    async fn apply(&self, batch: Batch) -> Result<()> {
        let work = async {
            batch.check(self.store.config.max_value_bytes)?;
            let weight = batch.operations().iter().map(operation_weight).sum();
            self.store.write(weight, Steps::Many, move |view| apply(view, &batch).map(|()| 1)).await.map(drop)
        };
        at("apply", None, work).await
    }

    async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        let work = async {
            check_key(key)?;
            self.expiry(key).await
        };
        at("ttl", key, work).await
    }

    async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        let work = async {
            check_key(key)?;
            let ttl = ttl_millis(ttl)?;
            self.set_expiry(key, Some(ttl)).await
        };
        at("expire", key, work).await
    }

    async fn persist(&self, key: &str) -> Result<bool> {
        let work = async {
            check_key(key)?;
            self.set_expiry(key, None).await
        };
        at("persist", key, work).await
    }

    /// Removes what fits into the time of one operation, batch by batch: fewer than there are when there are millions.
    async fn cleanup(&self) -> Result<u64> {
        let start = Instant::now();
        let work = async {
            let mut removed = 0;
            loop {
                let batch = self.store.sweep().await?;
                removed += batch;
                let is_late = || start.elapsed() >= self.store.config.operation_timeout / 2;
                if batch == 0 || is_late() {
                    while !is_late() && self.store.merge().await? {}
                    return Ok(removed);
                }
            }
        };
        at("cleanup", None, work).await
    }

    async fn health(&self) -> Health {
        let start = Instant::now();
        let reads = at("health", None, self.expiry(HEALTH_KEY));
        let (reads, writes) = join!(reads, at("health", None, self.store.check_writes()));
        let health = StoreHealth::new(NAME, start.elapsed(), reads.err().as_ref(), writes.err().as_ref());
        let behind = self.store.config.publisher.as_ref().and_then(|publisher| publisher.behind());
        Health { stores: vec![StoreHealth { behind, ..health }] }
    }

    async fn stats(&self) -> Result<Stats> {
        let log = beside(&self.store.config.path, "-wal");
        at("stats", None, self.store.read(move |view| stats(view, &log))).await
    }
}

/// The keys, checked, for another thread.
fn owned(keys: &[&str]) -> Result<Vec<String>> {
    keys.iter().map(|key| check_key(key).map(|()| (*key).to_owned())).collect()
}

fn entry_weight(entry: &Entry) -> usize {
    entry.key.len() + entry.value.len()
}

fn operation_weight(operation: &BatchOperation) -> usize {
    match operation {
        BatchOperation::Set(entry) => entry_weight(entry),
        operation => operation.key().len(),
    }
}

fn get_each(view: &View<'_>, keys: &[String]) -> Answer<Vec<Result<Option<Json>>>> {
    keys.iter().map(|key| view.check().and_then(|()| view.value(key))).collect()
}

fn put_entry(view: &View<'_>, entry: &Entry) -> Answer<()> {
    view.check()?;
    view.put(&entry.key, &entry.value, optional_ttl_millis(entry.ttl)?)
}

fn remove_each(view: &View<'_>, keys: &[String]) -> Answer<i64> {
    keys.iter().try_fold(0, |removed, key| {
        view.check()?;
        Ok(removed + i64::from(view.remove(key)?))
    })
}

/// Whether an entry is what is expected. One that cannot be read is not absent.
fn matches(view: &View<'_>, key: &str, expected: &Expected) -> Answer<bool> {
    match expected {
        Expected::Absent => Ok(view.expiry(key)?.is_none()),
        expected => Ok(expected.matches(view.value(key)??.as_ref())),
    }
}

fn swap(
    view: &View<'_>,
    key: &str,
    expected: &Expected,
    new: Option<&Json>,
    ttl_millis: Option<u64>,
) -> Answer<bool> {
    if !matches(view, key, expected)? {
        return Ok(false);
    }
    match new {
        Some(value) => view.put(key, value, ttl_millis)?,
        None => drop(view.remove(key)?),
    }
    Ok(true)
}

fn increment(view: &View<'_>, key: &str, by: i64, ttl_millis: Option<u64>) -> Answer<i64> {
    let found = view.value(key)??;
    let sum = add_integer(found.as_ref(), by)?;
    match found {
        Some(_) => view.replace(key, &Json::from(sum))?,
        None => view.put(key, &Json::from(sum), ttl_millis)?,
    }
    Ok(sum)
}

fn apply(view: &View<'_>, batch: &Batch) -> Answer<()> {
    for (key, expected) in batch.requirements() {
        view.check()?;
        if !matches(view, key, expected)? {
            return Err(Batch::conflict(key).into());
        }
    }
    batch.operations().iter().try_for_each(|operation| match operation {
        BatchOperation::Set(entry) => put_entry(view, entry),
        BatchOperation::Delete(key) => view.remove(key).map(drop),
        _ => Err(Error::unsupported(NAME, "apply").into()),
    })
}

fn stats(view: &View<'_>, log: &Path) -> Answer<Stats> {
    let number = |sql| {
        let number = view.db.query_row(sql, [], |row| row.get::<_, i64>(0));
        number.map(i64::unsigned_abs)
    };
    let entries = number("SELECT count(*) FROM kv_store")?;
    let bytes = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
    let journal_mode = view.db.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))?;
    let details = BTreeMap::from([
        ("journal_mode".to_owned(), journal_mode),
        ("sqlite_version".to_owned(), rusqlite::version().to_owned()),
        ("wal_bytes".to_owned(), fs::metadata(log).map_or(0, |file| file.len()).to_string()),
    ]);
    Ok(Stats { backend: NAME.to_owned(), entries: Some(entries), bytes: Some(bytes), details })
}
