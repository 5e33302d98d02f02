//! Forgetting a session or a user, with everything that belongs to them.

use std::{collections::HashSet, future::ready};

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use storage_core::{ErrorKind, Result};

use crate::{AgentStorage, UserData, belongings, conversations, sessions};

/// How much is deleted at a time.
const PARALLEL: usize = 16;
/// How many sessions of a user are looked up before they are deleted.
const SESSIONS: usize = 10_000;

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Forgotten {
    /// Sessions.
    pub sessions: u64,
    /// Conversations.
    pub conversations: u64,
    /// The messages in them.
    pub messages: u64,
    /// Task contexts.
    pub tasks: u64,
    /// Threads of checkpoints.
    pub threads: u64,
    /// Memories.
    pub memories: u64,
}

impl AgentStorage {
    /// Deletes a session, its conversation, its task contexts, and the threads of checkpoints that have its id.
    ///
    /// The session goes last: after an error, and where the program dies, the next call goes on. What is written to the
    /// session meanwhile may stay. Nothing else does, no mark of a deleted thread either.
    ///
    /// # Errors
    /// `InvalidInput` for an empty id; else as the storage.
    pub async fn delete_session(&self, id: &str) -> Result<Forgotten> {
        let work = async {
            sessions::key(id)?;
            let ids = HashSet::from([id.to_owned()]);
            let tasks = self.delete_tasks(&[id], &ids).await?;
            Ok(self.forget_session(id).await?.plus(tasks))
        };
        self.shared.measured("delete_session", work).await
    }

    /// Deletes a user's sessions with what belongs to them as [`delete_session`](Self::delete_session) does, the user's
    /// threads and memories. Looks at every session and every thread once.
    ///
    /// After an error, and where the program dies, the next call goes on. What a program writes for the user meanwhile may
    /// stay: call it once more when that has ended. What stands in other users' data about this one is not found.
    ///
    /// Whose a conversation, a task or a thread is, its session says, or the thread's metadata. **What belonged to a session that
    /// has expired by itself names no user any more and is not found**: a [`RetentionPolicy`](crate::RetentionPolicy) for sessions, or
    /// [`cleanup_expired_sessions`](Self::cleanup_expired_sessions), removes it as what belongs to no session.
    ///
    /// # Errors
    /// `InvalidInput` for an empty id and an empty prefix, before anything is deleted; else as the storage.
    pub async fn delete_user(&self, user_id: &str, data: &UserData) -> Result<Forgotten> {
        let work = Box::pin(async {
            data.check(user_id)?;
            let (mut forgotten, mut more) = (Forgotten::default(), true);
            // Those that come meanwhile are not waited for: a writer that goes on would never let it end.
            while more {
                let found = self.sessions_of(user_id, false)?.take(SESSIONS);
                let id = |(key, _): (String, _)| belongings::session_id(&key).to_owned();
                let ids: HashSet<String> = found.map_ok(id).try_collect().await?;
                more = ids.len() >= SESSIONS;
                // Asked for once, because Redis looks at all keys to list some; before the sessions, which name them.
                forgotten = forgotten.plus(self.delete_tasks(&[], &ids).await?);
                let each = stream::iter(ids).map(|id| async move { self.forget_session(&id).await });
                forgotten = forgotten.plus(sum(each.buffer_unordered(PARALLEL)).await?);
            }
            forgotten = forgotten.plus(self.delete_threads(user_id, data).await?);
            for namespace in &data.namespaces {
                let labels: Vec<&str> = namespace.iter().map(String::as_str).collect();
                forgotten.memories += match self.memories().delete_namespace(&labels).await {
                    // No memory can be in a namespace that there cannot be, as that of a very long id.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => 0,
                    deleted => deleted?,
                };
            }
            tracing::info!(?forgotten, "deleted a user");
            Ok(forgotten)
        });
        self.shared.measured("delete_user", work).await
    }

    /// A session without its tasks.
    async fn forget_session(&self, id: &str) -> Result<Forgotten> {
        let store = self.shared.collections()?;
        let mut forgotten = Forgotten::default();
        for partition in belongings::of_session(id) {
            let Some(info) = store.partition(&partition).await? else { continue };
            let gone = u64::from(store.delete_partition(&partition).await?);
            if partition.kind() == conversations::KIND {
                forgotten.conversations += gone;
                forgotten.messages += gone * info.items;
            } else {
                forgotten.threads += gone;
            }
        }
        // Without a check of the id: another program's document may have an empty one.
        let key = format!("{}{id}", sessions::PREFIX);
        forgotten.sessions = u64::from(self.shared.storage.delete(&key).await?);
        Ok(forgotten)
    }

    /// Deletes the task contexts of sessions, among those whose partitions begin with `segments`.
    async fn delete_tasks(&self, segments: &[&str], sessions: &HashSet<String>) -> Result<Forgotten> {
        let store = self.shared.collections()?;
        let deleted = self
            .tasks_of(segments, sessions)
            .map_ok(|info| async move { store.delete_partition(&info.partition).await })
            .try_buffer_unordered(PARALLEL);
        let tasks = deleted.try_fold(0, |sum, gone| ready(Ok(sum + u64::from(gone)))).await?;
        Ok(Forgotten { tasks, ..Forgotten::default() })
    }

    /// Deletes the threads that are the user's by name or metadata.
    async fn delete_threads(&self, user_id: &str, data: &UserData) -> Result<Forgotten> {
        let store = self.shared.collections()?;
        let threads = self
            .threads_of(user_id, data)
            .try_fold(0, async |sum, thread| Ok(sum + u64::from(store.delete_partition(&thread).await?)));
        Ok(Forgotten { threads: threads.await?, ..Forgotten::default() })
    }
}

impl Forgotten {
    fn plus(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            conversations: self.conversations + other.conversations,
            messages: self.messages + other.messages,
            tasks: self.tasks + other.tasks,
            threads: self.threads + other.threads,
            memories: self.memories + other.memories,
        }
    }
}

async fn sum(parts: impl futures::Stream<Item = Result<Forgotten>>) -> Result<Forgotten> {
    parts.try_fold(Forgotten::default(), |sum, part| ready(Ok(sum.plus(part)))).await
}
