//! Removing sessions that nobody uses, with what belongs to them.

use std::{
    collections::HashSet,
    future::ready,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use storage_core::{ErrorKind, Expected, Partition, PartitionInfo, Record, Result, Scan, StorageExt};

use super::{SessionStore, key, list::decode, touch::interval};
use crate::{
    checkpoints::thread_partition,
    conversations,
    shared::{CHECKPOINTS, Shared, is_tag},
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
    /// Sessions that nobody used and that stayed, because a retention policy keeps those with their tag.
    pub tagged: u64,
}

impl SessionStore {
    /// Removes the sessions that were not used for `max_idle`, whatever their status, and what belongs to them: the
    /// conversation `conversation:{id}`, the task contexts `task:{id}:…`, and the checkpoints of the thread whose id is the
    /// session's. Also removes what belongs to sessions that had a conversation or a task and have expired.
    ///
    /// Ages are judged by the clock of the store, whatever this machine's says. A session is in use while it or anything that
    /// belongs to it is written to; a document whose writer's clock was behind tells by its expiry that it was. The session
    /// goes first, and only if nobody has changed it since it was read; then what belongs to it, each only if nobody has
    /// written to it since. So a session that is used at the same time stays. Its document notes the use of a conversation or
    /// a task now and then only: one that says nothing for twice that time (two minutes, or a fiftieth of a shorter expiry) is idle, none
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
        self.shared.measured("cleanup_expired_sessions", self.cleanup(max_idle, None, false)).await
    }

    /// The same, but for sessions whose metadata has the tag; a dry run only says what would go.
    pub(crate) async fn cleanup(
        &self,
        max_idle: Duration,
        tag: Option<&str>,
        dry_run: bool,
    ) -> Result<Cleanup> {
        let idle_since = self.shared.past(max_idle).await?;
        let silent = max_idle.max(2 * interval(self.ttl));
        let silent_since = idle_since.checked_sub(silent - max_idle).unwrap_or(SystemTime::UNIX_EPOCH);
        let run = Run {
            shared: &self.shared,
            idle_since,
            silent_since,
            // An entry that was written at `silent_since` expires then.
            expires_by: self.ttl.and_then(|ttl| silent_since.checked_add(ttl)),
            working: self.working(idle_since).await?,
            tag,
            dry: dry_run.then(Mutex::default),
        };
        let all = Scan::entries(&format!("{}*", super::PREFIX))?.with_expiry();
        let idle = self.shared.storage.scan(all).map(|record| run.remove_idle(record));
        let mut removed = sum(idle.buffer_unordered(PARALLEL)).await?;
        if self.shared.storage.collections().is_some() {
            for kind in [conversations::KIND, tasks::KIND] {
                let orphans = self.shared.storage.partitions(kind, &[]).map(|info| run.remove_orphan(info));
                removed = removed.plus(sum(orphans.buffer_unordered(PARALLEL)).await?);
            }
        }
        tracing::info!(?removed, dry_run, "removed idle sessions");
        Ok(removed)
    }

    /// The sessions with tasks that were written to since: asked for once, because Redis looks at all keys to list some.
    async fn working(&self, since: SystemTime) -> Result<HashSet<String>> {
        if self.shared.storage.collections().is_none() {
            return Ok(HashSet::new());
        }
        let tasks = self.shared.storage.partitions(tasks::KIND, &[]);
        let written = tasks.try_filter(|info| ready(info.updated_at > since));
        written.map_ok(|info| owner(&info)).try_collect().await
    }
}

/// One cleanup.
struct Run<'a> {
    shared: &'a Shared,
    /// What was last written to later is in use.
    idle_since: SystemTime,
    /// A session that was last written to later may be in use without saying so.
    silent_since: SystemTime,
    /// A session that expires later may be in use, whatever the clock of who wrote its document said.
    expires_by: Option<SystemTime>,
    /// The sessions with tasks in use.
    working: HashSet<String>,
    /// Sessions whose metadata has this member stay.
    tag: Option<&'a str>,
    /// The keys and partitions that a dry run has counted.
    dry: Option<Mutex<HashSet<String>>>,
}

impl Run<'_> {
    async fn remove_idle(&self, record: Result<Record>) -> Result<Cleanup> {
        let nothing = Cleanup::default();
        let (record, session) = match record.and_then(|record| Ok((decode(&record)?, record))) {
            Ok((session, record)) => (record, session),
            // Another program's document is not ours to remove.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(nothing),
            Err(error) => return Err(error),
        };
        let id = record.key.strip_prefix(super::PREFIX).unwrap_or_default();
        // Whoever writes after this finds a refresh due, so that the swap below misses. Twice, for clocks that differ.
        let later = record.expires_at.zip(self.expires_by).is_some_and(|(expires_at, by)| expires_at > by);
        if session.updated_at > self.silent_since || later {
            return Ok(nothing);
        }
        let Some(belongings) = self.idle_belongings(id).await? else { return Ok(nothing) };
        if self.tag.is_some_and(|tag| is_tag(session.metadata.get(tag))) {
            return Ok(Cleanup { tagged: 1, ..nothing });
        }
        let Some(document) = record.value else { return Ok(nothing) };
        let gone = match self.counts(&record.key) {
            Some(first) => first,
            None => {
                let expected = Expected::Value(document);
                self.shared.storage.compare_and_set(&record.key, expected, None, None).await?
            }
        };
        if !gone {
            return Ok(nothing);
        }
        // Its tasks are orphans now.
        Ok(Cleanup { sessions: 1, ..self.remove(belongings).await? })
    }

    async fn remove_orphan(&self, info: Result<PartitionInfo>) -> Result<Cleanup> {
        let info = info?;
        let id = owner(&info);
        // A task of no session has no owner, and is nobody's orphan.
        if info.updated_at > self.idle_since || id.is_empty() || self.is_there(&id).await? {
            return Ok(Cleanup::default());
        }
        let Some(mut belongings) = self.idle_belongings(&id).await? else { return Ok(Cleanup::default()) };
        if info.partition.kind() == tasks::KIND {
            belongings.push(info);
        }
        self.remove(belongings).await
    }

    async fn is_there(&self, id: &str) -> Result<bool> {
        match key(id) {
            Ok(key) if self.has_counted(&key) => Ok(false),
            Ok(key) => self.shared.storage.exists(&key).await,
            // Too long for a session, though not for a task.
            Err(_) => Ok(false),
        }
    }

    /// The partitions that belong to a session, its tasks aside; `None` where one of all is in use.
    async fn idle_belongings(&self, id: &str) -> Result<Option<Vec<PartitionInfo>>> {
        let mut found = Vec::new();
        let Some(collections) = self.shared.storage.collections() else { return Ok(Some(found)) };
        if self.working.contains(id) {
            return Ok(None);
        }
        for partition in belongings(id) {
            found.extend(collections.partition(&partition).await?);
        }
        // One that was emptied a moment ago is about to expire, and no sign of use.
        found.retain(|info| info.items > 0 || info.expires_at.is_none());
        Ok(found.iter().all(|info| info.updated_at <= self.idle_since).then_some(found))
    }

    async fn remove(&self, belongings: Vec<PartitionInfo>) -> Result<Cleanup> {
        let mut removed = Cleanup::default();
        for info in belongings {
            let kind = info.partition.kind().to_owned();
            let gone = match self.counts(info.partition.as_str()) {
                Some(first) => first,
                None => self.shared.delete_unchanged(info).await?,
            };
            let gone = u64::from(gone);
            match kind.as_str() {
                conversations::KIND => removed.conversations += gone,
                tasks::KIND => removed.tasks += gone,
                _ => removed.threads += gone,
            }
        }
        Ok(removed)
    }

    /// Whether a dry run counts this, which it does once; `None` where this is none.
    fn counts(&self, name: &str) -> Option<bool> {
        Some(self.counted()?.insert(name.to_owned()))
    }

    fn has_counted(&self, name: &str) -> bool {
        self.counted().is_some_and(|counted| counted.contains(name))
    }

    fn counted(&self) -> Option<MutexGuard<'_, HashSet<String>>> {
        Some(self.dry.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The partitions of what belongs to a session, its tasks aside. An id that none can have, such as one that is too long, has none.
pub(crate) fn belongings(id: &str) -> impl Iterator<Item = Partition> {
    let of = |kind| Partition::new(kind, &[id]);
    [of(conversations::KIND), thread_partition(id), of(CHECKPOINTS)].into_iter().flatten()
}

/// The session that a conversation or a task belongs to; empty for none.
fn owner(info: &PartitionInfo) -> String {
    info.partition.segments().into_iter().next().unwrap_or_default()
}

impl Cleanup {
    fn plus(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            conversations: self.conversations + other.conversations,
            tasks: self.tasks + other.tasks,
            threads: self.threads + other.threads,
            tagged: self.tagged + other.tagged,
        }
    }
}

async fn sum(parts: impl futures::Stream<Item = Result<Cleanup>>) -> Result<Cleanup> {
    parts.try_fold(Cleanup::default(), async |sum, part| Ok(sum.plus(part))).await
}
