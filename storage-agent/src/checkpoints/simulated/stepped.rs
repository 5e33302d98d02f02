//! A memory store whose every call waits once before it happens and once after, so that whoever polls decides the order; and a
//! seeded scheduler, which polls one task at a time and kills some.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Item, Json, MemoryBackend, Page, Partition, PartitionInfo,
    Query, Result, ScanPage, StorageBackend,
};

#[derive(Debug)]
pub(super) struct Stepped(pub(super) Arc<MemoryBackend>);

impl Stepped {
    fn store(&self) -> &dyn CollectionStore {
        self.0.collections().unwrap()
    }
}

async fn step() {
    let mut polled = false;
    poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
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
        self.0.connect().await
    }
    async fn disconnect(&self) -> Result<()> {
        self.0.disconnect().await
    }
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        stepped(self.0.get(key)).await
    }
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        stepped(self.0.set(key, value, ttl)).await
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        stepped(self.0.delete(key)).await
    }
    async fn exists(&self, key: &str) -> Result<bool> {
        stepped(self.0.exists(key)).await
    }
    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        stepped(self.0.keys(pattern)).await
    }
    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }
}

#[async_trait]
impl CollectionStore for Stepped {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        stepped(self.store().commit(commit)).await
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

/// Polls tasks in an order that the seed decides until all have ended; one of `killed` polls drops its task instead.
pub(super) fn run(random: &mut fastrand::Rng, mut tasks: Vec<BoxFuture<'_, ()>>, killed: Option<u32>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while !tasks.is_empty() {
        let chosen = random.usize(..tasks.len());
        let dies = killed.is_some_and(|one_of| random.u32(..one_of) == 0);
        if dies || tasks[chosen].as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(chosen));
        }
    }
}
