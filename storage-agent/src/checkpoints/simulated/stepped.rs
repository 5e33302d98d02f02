//! A memory store whose every call waits once before it happens and once after, so that whoever polls decides the order; and a
//! seeded scheduler, which polls one task at a time and kills some.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Item, Json, MemoryBackend, Page, Partition, PartitionInfo,
    Query, Result, ScanPage, StorageBackend,
};

#[derive(Debug)]
pub(super) struct Stepped {
    memory: MemoryBackend,
    /// How many commits happened.
    pub(super) commits: AtomicUsize,
}

impl Stepped {
    pub(super) fn new(memory: MemoryBackend) -> Self {
        Self { memory, commits: AtomicUsize::new(0) }
    }

    fn store(&self) -> &dyn CollectionStore {
        self.memory.collections().unwrap()
    }
}

async fn step() {
    let mut polled = false;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn stepped<T>(work: impl Future<Output = T>) -> T {
    step().await;
    let done = work.await;
    step().await;
    done
}

#[async_trait]
impl StorageBackend for Stepped {
    async fn connect(&self) -> Result<()> {
        self.memory.connect().await
    }
    async fn disconnect(&self) -> Result<()> {
        self.memory.disconnect().await
    }
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        stepped(self.memory.get(key)).await
    }
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        stepped(self.memory.set(key, value, ttl)).await
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        stepped(self.memory.delete(key)).await
    }
    async fn exists(&self, key: &str) -> Result<bool> {
        stepped(self.memory.exists(key)).await
    }
    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        stepped(self.memory.keys(pattern)).await
    }
    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }
}

#[async_trait]
impl CollectionStore for Stepped {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let work = async {
            let done = self.store().commit(commit).await;
            self.commits.fetch_add(usize::from(done.is_ok()), Ordering::SeqCst);
            done
        };
        stepped(work).await
    }
    async fn query(&self, query: Query) -> Result<Page> {
        stepped(self.store().query(query)).await
    }
    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        stepped(self.store().items(partition, sorts)).await
    }
    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        stepped(self.store().partition(partition)).await
    }
    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>> {
        stepped(self.store().partitions_page(kind, segments, after, limit)).await
    }
    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        stepped(self.store().delete_partition(partition)).await
    }
}

/// Polls tasks in an order that the seed decides until all have ended. Some sleep for long, so that much happens between two of
/// their steps; one of `killed` polls drops its task instead.
pub(super) fn run(random: &mut fastrand::Rng, tasks: Vec<BoxFuture<'_, ()>>, killed: Option<u32>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut tasks: Vec<(BoxFuture<'_, ()>, u32)> = tasks.into_iter().map(|task| (task, 0)).collect();
    while !tasks.is_empty() {
        let chosen = random.usize(..tasks.len());
        let (task, asleep) = &mut tasks[chosen];
        if *asleep > 0 {
            *asleep -= 1;
            continue;
        }
        let dies = killed.is_some_and(|one_of| random.u32(..one_of) == 0);
        if dies || task.as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(chosen));
        } else if random.u8(..6) == 0 {
            *asleep = random.u32(..80);
        }
    }
}
