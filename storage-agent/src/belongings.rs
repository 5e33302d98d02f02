//! What belongs to a user and to a session: what forgets and what exports both ask here.

use std::{collections::HashSet, future::ready, time::SystemTime};

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use storage_core::{Partition, PartitionInfo, Result, Scan, StorageExt};

pub(crate) use crate::sessions::belongings as of_session;
use crate::{
    AgentStorage, UserData, conversations, sessions,
    shared::{CHECKPOINTS, THREADS},
    tasks,
};

/// What the partitions of sessions, tasks and threads are named by. Memories are not partitions of anybody: they lie together.
pub(crate) const KINDS: [&str; 4] = [conversations::KIND, tasks::KIND, THREADS, CHECKPOINTS];

/// The key of an entry, and when it expires.
pub(crate) type Key = (String, Option<SystemTime>);

impl AgentStorage {
    /// The keys of a user's sessions, with their expiries where they are asked for.
    pub(crate) fn sessions_of(
        &self,
        user_id: &str,
        with_expiry: bool,
    ) -> Result<BoxStream<'static, Result<Key>>> {
        let scan = Scan::keys(&format!("{}*", sessions::PREFIX))?.filter("user_id", user_id);
        let scan = if with_expiry { scan.with_expiry() } else { scan };
        let found = self.shared.storage.scan(scan);
        Ok(found.map_ok(|record| (record.key, record.expires_at)).boxed())
    }

    /// The task contexts of sessions, among those whose partitions begin with `segments`: of many sessions all are asked for
    /// once, because Redis looks at all keys to list some.
    pub(crate) fn tasks_of<'a>(
        &self,
        segments: &[&str],
        sessions: &'a HashSet<String>,
    ) -> BoxStream<'a, Result<PartitionInfo>> {
        let is_of_one = |info: &PartitionInfo| {
            info.partition.segments().first().is_some_and(|session| sessions.contains(session))
        };
        let listed = self.shared.storage.partitions(tasks::KIND, segments);
        listed.try_filter(move |info| ready(is_of_one(info))).boxed()
    }

    /// The threads that are a user's by name or metadata; not those of the user's sessions.
    pub(crate) fn threads_of<'a>(
        &'a self,
        user_id: &'a str,
        data: &'a UserData,
    ) -> BoxStream<'a, Result<Partition>> {
        let listed =
            stream::iter([CHECKPOINTS, THREADS]).flat_map(|kind| self.shared.storage.partitions(kind, &[]));
        let is_of_user = move |info: PartitionInfo| async move {
            let partition = info.partition;
            let is_of_user = match partition.kind() {
                CHECKPOINTS => self.checkpoints().is_of(&partition, user_id, data).await?,
                _ => self.checkpointer().is_of(&partition, user_id, data).await?,
            };
            Ok(is_of_user.then_some(partition))
        };
        listed.try_filter_map(is_of_user).boxed()
    }
}

/// The id of a session, by the key of its document.
pub(crate) fn session_id(key: &str) -> &str {
    key.strip_prefix(sessions::PREFIX).unwrap_or_default()
}
