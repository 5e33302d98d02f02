//! What every store of agent memory stands on.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use storage_core::{
    Clock, CollectionStore, Commit, Committed, Error, ErrorKind, Expire, Json, Operation, Partition,
    PartitionInfo, Precondition, PutMode, Result, SearchText, StorageBackend, SystemClock,
};

use crate::metrics::Recorder;

/// What the partition of each thread of a [`CheckpointerBackend`](crate::checkpoints::CheckpointerBackend) is named by.
pub(crate) const THREADS: &str = "thread";
/// What the partition of each thread of a [`CheckpointStore`](crate::checkpoints::CheckpointStore) is named by.
pub(crate) const CHECKPOINTS: &str = "checkpoint";
/// What the partitions are named by whose commits tell the time.
const CLOCK: &str = "clock";
/// How long one of them stays.
const CLOCK_TTL: Duration = Duration::from_secs(60);

/// The storage, the clock and the counters; a clone shares them.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn StorageBackend>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) recorder: Arc<Recorder>,
    /// Whether what is written is found by its text, where the storage can search.
    pub(crate) search: bool,
}

/// What an item is found by: of its partition, its sort key or what that begins with, its attributes and its body.
pub(crate) type FoundBy = fn(&Partition, &str, &Json, &[u8]) -> Option<SearchText>;

impl Shared {
    pub(crate) fn new(storage: Arc<dyn StorageBackend>) -> Self {
        Self { storage, clock: Arc::new(SystemClock), recorder: Arc::default(), search: true }
    }

    /// The same, where the storage has partitions.
    pub(crate) fn with_collections(storage: Arc<dyn StorageBackend>) -> Result<Self> {
        let shared = Self::new(storage);
        shared.collections()?;
        Ok(shared)
    }

    pub(crate) fn collections(&self) -> Result<&dyn CollectionStore> {
        self.storage.collections().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the storage has no partitions of ordered items")
                .at(self.storage.name(), "collections")
                .with_hint("use a backend that has them, such as sqlite, postgres, redis, hybrid or memory")
        })
    }

    /// Now, to the millisecond.
    pub(crate) fn now(&self) -> SystemTime {
        crate::time::whole(self.clock.now())
    }

    /// The time `ago` by the clock of the store, which judges ages and expiry, whatever this machine's says; the beginning of
    /// time where there is no such time. A store without partitions has no clock that could be asked.
    pub(crate) async fn past(&self, ago: Duration) -> Result<SystemTime> {
        let now = match self.storage.collections() {
            Some(store) => store_now(store).await?,
            None => self.now(),
        };
        Ok(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// The time before which something is older than `max_age`, by the clock of the store; `None` without such a bound.
    pub(crate) async fn oldest(&self, max_age: Option<Duration>) -> Result<Option<SystemTime>> {
        match max_age {
            Some(age) => self.past(age).await.map(Some),
            None => Ok(None),
        }
    }

    /// Runs an operation, counts it, and names it in its error.
    pub(crate) async fn measured<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let place = |error: Error| error.at(self.storage.name(), operation);
        self.recorder.measured(operation, async { work.await.map_err(place) }).await
    }

    /// Commits, and lets what is written be found.
    pub(crate) async fn commit_found(&self, mut commit: Commit, found_by: FoundBy) -> Result<Committed> {
        let store = self.collections()?;
        if self.search && store.searches(commit.partition.kind()) {
            for operation in &mut commit.operations {
                match operation {
                    Operation::Put { sort: at, attributes, body, search, .. }
                    | Operation::Append { prefix: at, attributes, body, search, .. } => {
                        *search = found_by(&commit.partition, at, attributes, body);
                    }
                    _ => {}
                }
            }
        }
        store.commit(commit).await
    }

    /// Deletes a partition unless somebody wrote to it since `info` was read; true where it went.
    ///
    /// It is emptied at once and expires right after: whoever writes to it in between says anew when it expires, and so
    /// keeps it.
    pub(crate) async fn delete_unchanged(&self, info: PartitionInfo) -> Result<bool> {
        let commit = Commit::new(info.partition)
            .only_if(Precondition::Version(info.version))
            .with(Operation::DeleteRange { from: String::new(), to: None })
            .expire(Expire::After(Duration::from_millis(1)));
        match self.collections()?.commit(commit).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Asks for the time by a commit to a partition of this call's own, which expires right after.
async fn store_now(store: &dyn CollectionStore) -> Result<SystemTime> {
    let partition = Partition::new(CLOCK, &[&format!("{:032x}", fastrand::u128(..))])?;
    let mark = Operation::put("now", Json::from(0), "", PutMode::Upsert);
    store.commit(Commit::new(partition.clone()).with(mark).expire(Expire::After(CLOCK_TTL))).await?;
    let info = store.partition(&partition).await?;
    let message = "the time of the store could not be read: its answer took a minute";
    Ok(info.ok_or_else(|| Error::new(ErrorKind::Timeout, message))?.updated_at)
}

/// Whether a member of metadata is a tag, because of which a retention policy keeps what has it.
pub(crate) fn is_tag(member: Option<&Value>) -> bool {
    !matches!(member, None | Some(Value::Null | Value::Bool(false)))
}

/// What a write says of its partition's expiry. Never "as it was": see [`Shared::delete_unchanged`].
pub(crate) fn expire(ttl: Option<Duration>) -> Expire {
    ttl.map_or(Expire::Never, Expire::After)
}
