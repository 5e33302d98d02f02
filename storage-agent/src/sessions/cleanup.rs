//! Removing sessions that nobody uses, with what belongs to them.

use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use storage_core::{ErrorKind, Expected, Partition, PartitionInfo, Record, Result};

use super::{SessionFilter, SessionStore, key, list::decode, touch::interval};
use crate::{
    conversations,
    shared::{CHECKPOINTS, THREADS},
    tasks,
};

/// How many sessions are looked at at a time.
const PARALLEL: usize = 16;

/// What a cleanup removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cleanup {
    /// Sessions.
    pub sessions: u64,
    /// Conversations, of those sessions and of such as had expired already.
    pub conversations: u64,
    /// Task contexts, of those sessions and of such as had expired already.
    pub tasks: u64,
    /// Threads of checkpoints, of those sessions and of such as had expired already.
    pub threads: u64,
}

impl SessionStore {
    /// Removes the sessions that were not used for `max_idle`, whatever their status, and what belongs to them: the
    /// conversation `conversation:{id}`, the task contexts `task:{id}:…`, and the checkpoints of the thread whose id is the
    /// session's. Also removes what belongs to sessions that had a conversation or a task and have expired.
    ///
    /// A session is in use while it or anything that belongs to it is written to. The session goes first, and only if
    /// nobody has changed it since it was read; then what belongs to it, each only if nobody has written to it since. So a
    /// session that is used at the same time stays. Its document notes the use of a conversation or a task now and then
    /// only: one that says nothing for twice that time (two minutes, or a fiftieth of a shorter expiry) is idle, none
    /// before, however short `max_idle` is.
    ///
    /// A conversation or a task without a session counts as one whose session has expired, also where it never had one.
    /// Threads that never had a session of their name have a retention of their own.
    ///
    /// After an error, what was removed stays removed; the call may be repeated.
    ///
    /// # Errors
    /// `Unsupported` where the storage has no `compare_and_set`; else as [`SessionStore`] says.
    pub async fn cleanup_expired_sessions(&self, max_idle: Duration) -> Result<Cleanup> {
        self.shared.measured("cleanup_expired_sessions", self.cleanup(max_idle)).await
    }

    async fn cleanup(&self, max_idle: Duration) -> Result<Cleanup> {
        let cutoff = self.cutoff(max_idle);
        let idle = self.records(&SessionFilter::default())?.map(|record| self.remove_idle(record, max_idle));
        let mut removed = sum(idle.buffer_unordered(PARALLEL)).await?;
        if let Some(collections) = self.shared.storage.collections() {
            for kind in [conversations::KIND, tasks::KIND] {
                let orphans = collections.partitions(kind, &[]).map(|info| self.remove_orphan(info, cutoff));
                removed = removed.plus(sum(orphans.buffer_unordered(PARALLEL)).await?);
            }
        }
        tracing::info!(?removed, "removed idle sessions");
        Ok(removed)
    }

    async fn remove_idle(&self, record: Result<Record>, max_idle: Duration) -> Result<Cleanup> {
        let nothing = Cleanup::default();
        let (record, session) = match record.and_then(|record| Ok((decode(&record)?, record))) {
            Ok((session, record)) => (record, session),
            // Another program's document is not ours to remove.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(nothing),
            Err(error) => return Err(error),
        };
        let id = record.key.strip_prefix(super::PREFIX).unwrap_or_default();
        // Whoever writes after this finds a refresh due, so that the swap below misses. Twice, for clocks that differ.
        if session.updated_at > self.cutoff(max_idle.max(2 * interval(self.ttl))) {
            return Ok(nothing);
        }
        let belongings = self.idle_belongings(id, self.cutoff(max_idle)).await?;
        let Some(belongings) = belongings else { return Ok(nothing) };
        let Some(document) = record.value else { return Ok(nothing) };
        let expected = Expected::Value(document);
        if !self.shared.storage.compare_and_set(&record.key, expected, None, None).await? {
            return Ok(nothing);
        }
        Ok(Cleanup { sessions: 1, ..self.remove(belongings).await? })
    }

    async fn remove_orphan(&self, info: Result<PartitionInfo>, cutoff: SystemTime) -> Result<Cleanup> {
        let info = info?;
        let id = info.partition.segments().into_iter().next().unwrap_or_default();
        // A task of no session has an empty segment there, and is nobody's orphan.
        if info.updated_at > cutoff || id.is_empty() || self.shared.storage.exists(&key(&id)?).await? {
            return Ok(Cleanup::default());
        }
        match self.idle_belongings(&id, cutoff).await? {
            Some(belongings) => self.remove(belongings).await,
            None => Ok(Cleanup::default()),
        }
    }

    /// The partitions that belong to a session; `None` where one of them is in use.
    async fn idle_belongings(&self, id: &str, cutoff: SystemTime) -> Result<Option<Vec<PartitionInfo>>> {
        let mut found = Vec::new();
        let Some(collections) = self.shared.storage.collections() else { return Ok(Some(found)) };
        for kind in [conversations::KIND, THREADS, CHECKPOINTS] {
            // An id that is too long for a partition has none.
            if let Ok(partition) = Partition::new(kind, &[id]) {
                found.extend(collections.partition(&partition).await?);
            }
        }
        if Partition::new(tasks::KIND, &[id]).is_ok() {
            found.extend(collections.partitions(tasks::KIND, &[id]).try_collect::<Vec<_>>().await?);
        }
        Ok(found.iter().all(|info| info.updated_at <= cutoff).then_some(found))
    }

    async fn remove(&self, belongings: Vec<PartitionInfo>) -> Result<Cleanup> {
        let mut removed = Cleanup::default();
        for info in belongings {
            let kind = info.partition.kind().to_owned();
            let gone = u64::from(self.shared.delete_unchanged(info).await?);
            match kind.as_str() {
                conversations::KIND => removed.conversations += gone,
                tasks::KIND => removed.tasks += gone,
                _ => removed.threads += gone,
            }
        }
        Ok(removed)
    }
}

impl Cleanup {
    fn plus(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            conversations: self.conversations + other.conversations,
            tasks: self.tasks + other.tasks,
            threads: self.threads + other.threads,
        }
    }
}

async fn sum(parts: impl futures::Stream<Item = Result<Cleanup>>) -> Result<Cleanup> {
    parts.try_fold(Cleanup::default(), async |sum, part| Ok(sum.plus(part))).await
}
