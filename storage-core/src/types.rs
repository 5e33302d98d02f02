//! The small types of the trait: entries, atomic batches, expiries, capabilities, health and statistics.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{Error, ErrorKind, Json, Result, check_key, check_value_size, optional_ttl_millis};

/// One entry to write.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Json,
    /// The time to live; `None` keeps the entry for good and removes an earlier expiry.
    pub ttl: Option<Duration>,
}

impl Entry {
    /// An entry that does not expire.
    pub fn new(key: impl Into<String>, value: Json) -> Self {
        Self { key: key.into(), value, ttl: None }
    }

    /// The same entry with a time to live.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Checks the key, the value's size and the time to live.
    ///
    /// # Errors
    /// `InvalidInput` naming the key.
    pub fn check(&self, max_value_bytes: usize) -> Result<()> {
        check_key(&self.key)?;
        check_value_size(&self.value, max_value_bytes).map_err(|error| error.with_key(&self.key))?;
        optional_ttl_millis(self.ttl).map_err(|error| error.with_key(&self.key))?;
        Ok(())
    }
}

/// Checks what `set` is given; every backend calls it before any I/O.
///
/// # Errors
/// `InvalidInput` naming the key.
pub fn check_entry(
    key: &str,
    value: &Json,
    ttl: Option<Duration>,
    max_value_bytes: usize,
) -> Result<Option<u64>> {
    check_key(key)?;
    check_value_size(value, max_value_bytes).map_err(|error| error.with_key(key))?;
    optional_ttl_millis(ttl).map_err(|error| error.with_key(key))
}

/// Checks what `compare_and_set` is given and returns the time to live in milliseconds. What is expected may have any size:
/// a store may spell what was written longer.
///
/// # Errors
/// `InvalidInput` naming the key.
pub fn check_swap(
    key: &str,
    new: Option<&Json>,
    ttl: Option<Duration>,
    max_value_bytes: usize,
) -> Result<Option<u64>> {
    check_key(key)?;
    if let Some(value) = new {
        check_value_size(value, max_value_bytes).map_err(|error| error.with_key(key))?;
    }
    optional_ttl_millis(ttl).map_err(|error| error.with_key(key))
}

/// Writes that take effect all or nothing, in the order given, and what they require.
///
/// ```
/// use storage_core::{Batch, Json};
///
/// let batch = Batch::new().set("order:1", Json::parse("{}")?, None).delete("quote:1");
/// assert_eq!(batch.keys().collect::<Vec<_>>(), ["order:1", "quote:1"]);
/// # Ok::<(), storage_core::Error>(())
/// ```
///
/// With requirements it is a step that nobody gets in between, over several keys:
///
/// ```
/// use storage_core::{Batch, ErrorKind, Expected, Json, MemoryBackend, StorageBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let storage = MemoryBackend::new();
/// storage.connect().await?;
/// let book = Batch::new()
///     .require("order:1", Expected::Absent)
///     .set("order:1", Json::from(1), None)
///     .delete("quote:1");
/// storage.apply(book.clone()).await?;
/// let twice = storage.apply(book).await.unwrap_err();
/// assert_eq!((twice.kind(), twice.key()), (ErrorKind::Conflict, Some("order:1")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Batch {
    requirements: Vec<(String, Expected)>,
    operations: Vec<BatchOperation>,
}

/// One write of a [`Batch`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BatchOperation {
    /// Writes an entry.
    Set(Entry),
    /// Deletes a key; one that is not there is no error.
    Delete(String),
}

impl BatchOperation {
    /// The key that is written or deleted.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Set(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition: the batch is applied only where the entry is what is `expected` before it, whether the batch writes
    /// the key or not. Several must all hold. A batch of nothing but conditions changes nothing and tells whether they hold.
    #[must_use]
    pub fn require(mut self, key: impl Into<String>, expected: Expected) -> Self {
        self.requirements.push((key.into(), expected));
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: Json, ttl: Option<Duration>) -> Self {
        self.operations.push(BatchOperation::Set(Entry { key: key.into(), value, ttl }));
        self
    }

    /// Adds a deletion.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push(BatchOperation::Delete(key.into()));
        self
    }

    /// All keys that it names: those of the conditions, then those of the operations.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let required = self.requirements.iter().map(|(key, _)| &**key);
        required.chain(self.operations.iter().map(BatchOperation::key))
    }

    /// The conditions, in order.
    #[must_use]
    pub fn requirements(&self) -> &[(String, Expected)] {
        &self.requirements
    }

    /// The operations, in order.
    #[must_use]
    pub fn operations(&self) -> &[BatchOperation] {
        &self.operations
    }

    /// The operations with only the last one of each key: what is left to see once all have taken effect.
    #[must_use]
    pub fn last_per_key(&self) -> BTreeMap<&str, &BatchOperation> {
        self.operations.iter().map(|operation| (operation.key(), operation)).collect()
    }

    /// What `apply` answers where the entry of `key` is not as required.
    #[must_use]
    pub fn conflict(key: &str) -> Error {
        Error::new(ErrorKind::Conflict, "the entry is not what the batch requires").with_key(key)
    }

    /// Checks every condition and operation.
    ///
    /// # Errors
    /// `InvalidInput` naming the first wrong key.
    pub fn check(&self, max_value_bytes: usize) -> Result<()> {
        self.requirements.iter().try_for_each(|(key, _)| check_key(key))?;
        self.operations.iter().try_for_each(|operation| match operation {
            BatchOperation::Set(entry) => entry.check(max_value_bytes),
            BatchOperation::Delete(key) => check_key(key),
        })
    }
}

/// What `compare_and_set` expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// No entry, or an expired one.
    Absent,
    /// An entry with an equal value.
    Value(Json),
}

impl Expected {
    /// `Absent` for `None`: what a `get` returned is what is expected.
    #[must_use]
    pub fn from_read(value: Option<Json>) -> Self {
        value.map_or(Self::Absent, Self::Value)
    }

    /// Whether `found` is what is expected.
    #[must_use]
    pub fn matches(&self, found: Option<&Json>) -> bool {
        match (self, found) {
            (Self::Absent, None) => true,
            (Self::Value(expected), Some(found)) => expected == found,
            _ => false,
        }
    }
}

/// How long an entry that is there will stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// For good.
    Never,
    /// For this long, counted from the answer.
    After(Duration),
}

/// Which of the optional operations a backend has. What is absent answers `Unsupported`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// `compare_and_set`.
    pub compare_and_set: bool,
    /// `increment`.
    pub increment: bool,
    /// `apply`.
    pub apply: bool,
    /// `ttl`, `expire` and `persist`.
    pub expiry: bool,
    /// `cleanup`.
    pub cleanup: bool,
    /// `stats`.
    pub stats: bool,
}

impl Capabilities {
    /// The seven required operations and what is built on them.
    pub const BASIC: Self = Self {
        compare_and_set: false,
        increment: false,
        apply: false,
        expiry: false,
        cleanup: false,
        stats: false,
    };
    /// Everything.
    pub const FULL: Self = Self {
        compare_and_set: true,
        increment: true,
        apply: true,
        expiry: true,
        cleanup: true,
        stats: true,
    };

    /// What both have: the capabilities of something that stands on two backends.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self {
            compare_and_set: self.compare_and_set && other.compare_and_set,
            increment: self.increment && other.increment,
            apply: self.apply && other.apply,
            expiry: self.expiry && other.expiry,
            cleanup: self.cleanup && other.cleanup,
            stats: self.stats && other.stats,
        }
    }
}

/// Whether reads and writes work.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Each store that the backend stands on.
    pub stores: Vec<StoreHealth>,
}

impl Health {
    /// `Healthy` where reads and writes of every store work, `Unhealthy` where neither work on any, `Degraded` between.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        if self.reads() && self.writes() {
            HealthStatus::Healthy
        } else if self.stores.iter().any(|store| store.reads() || store.writes()) {
            HealthStatus::Degraded
        } else {
            HealthStatus::Unhealthy
        }
    }

    /// Whether reads of every store work.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.stores.iter().all(StoreHealth::reads)
    }

    /// Whether writes of every store work: readiness, as orchestrators ask for it.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.stores.iter().all(StoreHealth::writes)
    }
}

/// See [`Health::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Reads and writes of every store work.
    Healthy,
    /// Something works, and something does not.
    Degraded,
    /// Nothing works.
    Unhealthy,
}

impl HealthStatus {
    /// The status in `snake_case`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// Whether reads and writes of one store work.
///
/// ```
/// use std::time::Duration;
/// use storage_core::{Error, ErrorKind, StoreHealth};
///
/// let readonly = Error::new(ErrorKind::Unavailable, "the server is a replica");
/// let health = StoreHealth::new("redis", Duration::from_millis(1), None, Some(&readonly));
/// assert!(health.reads() && !health.writes());
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct StoreHealth {
    /// The backend's name, with the server's address where there are several.
    pub store: String,
    /// How long the check took.
    pub latency: Duration,
    /// Why reads do not work, where they do not.
    pub read_error: Option<String>,
    /// Why writes do not work, where they do not.
    pub write_error: Option<String>,
    /// How far what is read may be behind what was written, where reads come from a copy.
    pub behind: Option<Duration>,
}

impl StoreHealth {
    /// The health of one store from the errors of a read and of a write, where they failed.
    #[must_use]
    pub fn new(store: &str, latency: Duration, reads: Option<&Error>, writes: Option<&Error>) -> Self {
        let (read_error, write_error) = (reads.map(ToString::to_string), writes.map(ToString::to_string));
        Self { store: store.to_owned(), latency, read_error, write_error, behind: None }
    }

    /// The health of a store of which neither reads nor writes work, for one and the same reason.
    #[must_use]
    pub fn failed(store: &str, latency: Duration, error: &Error) -> Self {
        Self::new(store, latency, Some(error), Some(error))
    }

    /// Whether reads work.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.read_error.is_none()
    }

    /// Whether writes work.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.write_error.is_none()
    }
}

/// What a store says about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// The backend's name.
    pub backend: String,
    /// The entries in it, expired ones that are not swept yet included; an estimate where the store only estimates.
    pub entries: Option<u64>,
    /// The bytes that it takes, where the store knows.
    pub bytes: Option<u64>,
    /// What else the store tells, by the store's own names.
    pub details: BTreeMap<String, String>,
}
