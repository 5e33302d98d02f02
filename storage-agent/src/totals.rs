//! What is stored, whoever wrote it.

use std::future::ready;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use storage_core::{Partition, PartitionInfo, Query, Result, StorageExt};

use crate::{
    SessionStore,
    checkpoints::CheckpointerBackend,
    conversations, memories,
    shared::{CHECKPOINTS, Shared, THREADS},
    tasks,
};

/// How many threads are looked at at a time.
const PARALLEL: usize = 16;

/// What is in the storage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Sessions.
    pub sessions: u64,
    /// Sessions whose status is [`ACTIVE`](crate::ACTIVE).
    pub active_sessions: u64,
    /// Conversations.
    pub conversations: u64,
    /// Messages.
    pub messages: u64,
    /// Task contexts, whatever versions they have.
    pub tasks: u64,
    /// Memories, with those that have expired and are not removed yet.
    pub memories: u64,
    /// Threads, LangGraph's and others.
    pub threads: u64,
    /// Checkpoints of all threads.
    pub checkpoints: u64,
    /// The bytes of conversations, task contexts, memories and threads: keys, attributes and bodies.
    pub bytes: u64,
}

/// Partitions, summed up.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    partitions: u64,
    items: u64,
    bytes: u64,
    checkpoints: u64,
}

impl Totals {
    pub(crate) async fn of(
        shared: &Shared,
        sessions: &SessionStore,
        checkpointer: &CheckpointerBackend,
    ) -> Result<Self> {
        let counter = Counter { shared, checkpointer };
        let ((sessions, active_sessions), conversations, tasks, memories, graph, plain) = tokio::try_join!(
            sessions.count(),
            counter.sum(conversations::KIND),
            counter.sum(tasks::KIND),
            counter.sum(memories::KIND),
            counter.sum(THREADS),
            counter.sum(CHECKPOINTS)
        )?;
        Ok(Self {
            sessions,
            active_sessions,
            conversations: conversations.partitions,
            messages: conversations.items,
            tasks: tasks.partitions,
            memories: memories.items,
            threads: graph.partitions + plain.partitions,
            checkpoints: graph.checkpoints + plain.checkpoints,
            bytes: conversations.bytes + tasks.bytes + memories.bytes + graph.bytes + plain.bytes,
        })
    }
}

struct Counter<'a> {
    shared: &'a Shared,
    checkpointer: &'a CheckpointerBackend,
}

impl Counter<'_> {
    /// Sums up the partitions of a kind, in bounded memory.
    async fn sum(&self, kind: &str) -> Result<Sum> {
        let partitions = self.shared.storage.partitions(kind, &[]);
        let counted = partitions.map(|info| self.count(info)).buffer_unordered(PARALLEL);
        counted.try_fold(Sum::default(), |sum, one| ready(Ok(sum.plus(one)))).await
    }

    async fn count(&self, info: Result<PartitionInfo>) -> Result<Sum> {
        let info = info?;
        let checkpoints = match info.partition.kind() {
            THREADS => match self.checkpointer.described(info.clone()).await? {
                Some(thread) => thread.checkpoints,
                None => return Ok(Sum::default()),
            },
            CHECKPOINTS => self.plain_checkpoints(&info.partition).await?,
            _ => 0,
        };
        Ok(Sum { partitions: 1, items: info.items, bytes: info.bytes, checkpoints })
    }

    /// How many checkpoints a thread of [`CheckpointStore`](crate::checkpoints::CheckpointStore) has: it keeps an item of
    /// this prefix for each.
    async fn plain_checkpoints(&self, partition: &Partition) -> Result<u64> {
        let mut next = Some(Query::prefix(partition.clone(), "d:", 1_000).without_bodies());
        let mut count = 0;
        while let Some(query) = next {
            let page = self.shared.collections()?.query(query.clone()).await?;
            count += page.items.len() as u64;
            next = query.after(&page);
        }
        Ok(count)
    }
}

impl Sum {
    fn plus(self, other: Self) -> Self {
        Self {
            partitions: self.partitions + other.partitions,
            items: self.items + other.items,
            bytes: self.bytes + other.bytes,
            checkpoints: self.checkpoints + other.checkpoints,
        }
    }
}
