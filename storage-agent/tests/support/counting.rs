//! A store in memory that counts what it is asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Item, Json, MemoryBackend, Page, Partition, PartitionInfo,
    Query, Result, ScanPage, StorageBackend,
};

/// Counts the items that are read, and the operations that are committed.
#[derive(Debug)]
pub(crate) struct Counting {
    inner: MemoryBackend,
    read: AtomicUsize,
    calls: AtomicUsize,
    operations: AtomicUsize,
}

impl Counting {
    pub(crate) async fn connected() -> Arc<Self> {
        let zero = || AtomicUsize::new(0);
        let inner = MemoryBackend::new();
        let counting = Self { inner, read: zero(), calls: zero(), operations: zero() };
        counting.connect().await.unwrap();
        Arc::new(counting)
    }

    /// Since it was asked last: the items that were read, the calls, and the operations that were committed.
    pub(crate) fn taken(&self) -> (usize, usize, usize) {
        [&self.read, &self.calls, &self.operations].map(|counter| counter.swap(0, Ordering::Relaxed)).into()
    }

    fn read(&self, items: usize) {
        self.read.fetch_add(items, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl StorageBackend for Counting {
    async fn connect(&self) -> Result<()> {
        self.inner.connect().await
    }
    async fn disconnect(&self) -> Result<()> {
        self.inner.disconnect().await
    }
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        self.inner.get(key).await
    }
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        self.inner.set(key, value, ttl).await
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        self.inner.delete(key).await
    }
    async fn exists(&self, key: &str) -> Result<bool> {
        self.inner.exists(key).await
    }
    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        self.inner.keys(pattern).await
    }
    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }
}

#[async_trait]
impl CollectionStore for Counting {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.operations.fetch_add(commit.operations.len() + commit.preconditions.len(), Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(commit).await
    }
    async fn query(&self, query: Query) -> Result<Page> {
        let page = self.inner.query(query).await?;
        self.read(page.items.len());
        Ok(page)
    }
    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        let items = self.inner.items(partition, sorts).await?;
        self.read(items.iter().flatten().count());
        Ok(items)
    }
    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        self.inner.partition(partition).await
    }
    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>> {
        self.inner.partitions_page(kind, segments, after, limit).await
    }
    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        self.inner.delete_partition(partition).await
    }
}
