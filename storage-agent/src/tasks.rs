//! Task contexts: one partition each, `task:{session}:{task}`, with a version an item.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use storage_core::{
    Commit, Error, Item, Json, Operation, Order, Outcome, Partition, Precondition, Query, Result,
    StorageBackend, optional_ttl_millis, sequence_key,
};

use crate::{SessionStore, shared::Shared, shared::expire};

/// What the partition of each task context is named by.
pub(crate) const KIND: &str = "task";

/// How many versions of a task context are kept unless set otherwise.
pub const TASK_VERSIONS: u64 = 20;

/// What tasks know: a JSON value each, of which the last versions are kept, on every store with partitions.
///
/// A task belongs to a session, whose cleanup removes it, or to none. Versions are numbered from 1 without gaps. An empty
/// id of a task or a session, and one too long for a key, is `InvalidInput`. Other errors are those of the storage.
#[derive(Debug, Clone)]
pub struct TaskContextStore {
    shared: Shared,
    sessions: SessionStore,
    keep: u64,
    ttl: Option<Duration>,
}

/// The attributes of a version's item; its body is the context.
#[derive(Deserialize)]
struct Attributes {
    /// Of one that an import brought; else it is when the item was written.
    #[serde(default, with = "crate::time::optional")]
    created_at: Option<SystemTime>,
}

/// One version of a task's context.
#[derive(Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskContext {
    /// Its number; 1 is the first.
    pub version: u64,
    /// The context.
    pub context: Json,
    /// When it was stored, by the clock of the store where that was.
    #[serde(with = "crate::time")]
    pub created_at: SystemTime,
}

/// Without the context: values never appear in logs.
impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("version", &self.version)
            .field("context", &self.context)
            .field("created_at", &self.created_at)
            .finish()
    }
}

impl TaskContextStore {
    /// Task contexts in `storage`, of which [`TASK_VERSIONS`] are kept, without expiry.
    ///
    /// # Errors
    /// `Unsupported` where the storage has no partitions.
    pub fn new(storage: Arc<dyn StorageBackend>) -> Result<Self> {
        let shared = Shared::with_collections(storage)?;
        Ok(Self::on(shared.clone(), SessionStore::on(shared)))
    }

    pub(crate) fn on(shared: Shared, sessions: SessionStore) -> Self {
        Self { shared, sessions, keep: TASK_VERSIONS, ttl: None }
    }

    /// How many versions are kept.
    ///
    /// # Errors
    /// `InvalidInput` for zero: the latest is always kept.
    pub fn with_versions(mut self, keep: u64) -> Result<Self> {
        if keep == 0 {
            return Err(Error::invalid_input("one version of a task context is kept at least"));
        }
        self.keep = keep;
        Ok(self)
    }

    /// How long a task context stays after its last version; `None`: until it is deleted or cleaned up.
    ///
    /// # Errors
    /// `InvalidInput` for zero and for more than 100 years.
    pub fn with_ttl(mut self, ttl: Option<Duration>) -> Result<Self> {
        optional_ttl_millis(ttl)?;
        self.ttl = ttl;
        Ok(self)
    }

    /// Whose expiry a new version refreshes; a store of sessions with its default settings unless set otherwise.
    #[must_use]
    pub fn with_sessions(mut self, sessions: SessionStore) -> Self {
        self.sessions = sessions;
        self
    }

    /// Stores a new version and returns its number. The oldest beyond those that are kept go in the same step.
    ///
    /// # Errors
    /// `InvalidInput` where the context is longer than the storage lets a value be.
    pub async fn store_task_context(&self, session: Option<&str>, task: &str, context: Json) -> Result<u64> {
        self.shared.measured("store_task_context", self.store(session, task, context, Vec::new())).await
    }

    /// Stores a new version only if the latest has the number `expected`; 0: only if there is none.
    ///
    /// # Errors
    /// `Conflict`, changing nothing, where the latest is another; else as
    /// [`store_task_context`](Self::store_task_context).
    pub async fn compare_and_set_task_context(
        &self,
        session: Option<&str>,
        task: &str,
        expected: u64,
        context: Json,
    ) -> Result<u64> {
        let latest = match expected {
            0 => vec![Precondition::Version(0)],
            // Numbers have no gaps: the latest is the one that has no next.
            _ => vec![
                Precondition::Present(sequence_key("", expected)),
                Precondition::Absent(sequence_key("", expected.saturating_add(1))),
            ],
        };
        self.shared.measured("compare_and_set_task_context", self.store(session, task, context, latest)).await
    }

    async fn store(
        &self,
        session: Option<&str>,
        task: &str,
        context: Json,
        preconditions: Vec<Precondition>,
    ) -> Result<u64> {
        let append = Operation::append("", Json::parse("{}")?, context.into_text().into_bytes());
        let trim = Operation::Trim { items: Some(self.keep), bytes: None, max_age: None };
        let mut commit =
            Commit::new(partition(session, task)?).with(append).with(trim).expire(expire(self.ttl));
        commit.preconditions = preconditions;
        if let Some(session) = session {
            self.sessions.touch(session).await;
        }
        let committed = self.shared.collections()?.commit(commit).await?;
        match committed.outcomes.first() {
            Some(Outcome::Appended { sequence, .. }) => Ok(*sequence),
            _ => Err(Error::corrupt("the store did not answer with the number of the version")),
        }
    }

    /// The latest version, or `None` where there is none.
    ///
    /// # Errors
    /// `Corrupt` where the item is no context; else as [`TaskContextStore`] says.
    pub async fn get_task_context(&self, session: Option<&str>, task: &str) -> Result<Option<TaskContext>> {
        let read = async { Ok(self.versions(session, task, 1).await?.into_iter().next()) };
        self.shared.measured("get_task_context", read).await
    }

    /// The latest versions, the newest first.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero or more than 10,000; else as [`get_task_context`](Self::get_task_context).
    pub async fn get_task_context_versions(
        &self,
        session: Option<&str>,
        task: &str,
        limit: usize,
    ) -> Result<Vec<TaskContext>> {
        self.shared.measured("get_task_context_versions", self.versions(session, task, limit)).await
    }

    async fn versions(&self, session: Option<&str>, task: &str, limit: usize) -> Result<Vec<TaskContext>> {
        let mut query = Query::all(partition(session, task)?, limit).order(Order::Descending);
        let mut found = Vec::new();
        loop {
            let page = self.shared.collections()?.query(query.clone()).await?;
            let next = query.after(&page);
            for item in page.items {
                found.push(decode(item)?);
            }
            match next {
                Some(next) if found.len() < limit => query = Query { limit: limit - found.len(), ..next },
                _ => return Ok(found),
            }
        }
    }

    /// Deletes all versions; true where there were any. The next is number 1 again.
    ///
    /// # Errors
    /// As [`TaskContextStore`] says.
    pub async fn delete_task_context(&self, session: Option<&str>, task: &str) -> Result<bool> {
        let write = async { self.shared.collections()?.delete_partition(&partition(session, task)?).await };
        self.shared.measured("delete_task_context", write).await
    }
}

fn decode(item: Item) -> Result<TaskContext> {
    let version = item.sort.parse().map_err(|_| Error::corrupt("the item has no version number"))?;
    let Attributes { created_at } = item.attributes.decode()?;
    let text = String::from_utf8(item.body.into()).map_err(|_| Error::corrupt("the context is not UTF-8"))?;
    let context = Json::from_stored(&item.sort, text)?;
    Ok(TaskContext { version, context, created_at: created_at.unwrap_or(item.written_at) })
}

fn partition(session: Option<&str>, task: &str) -> Result<Partition> {
    if session.is_some_and(str::is_empty) || task.is_empty() {
        return Err(Error::invalid_input("the id of a task or a session may not be empty"));
    }
    // No session has an empty id, so tasks of none meet nobody's.
    Partition::new(KIND, &[session.unwrap_or_default(), task])
}
