//! How much a read looks at, and a step writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use storage_agent::checkpoints::{CheckpointerBackend, ListCheckpoints, Payload};
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Item, Json, MemoryBackend, Page, Partition, PartitionInfo,
    Query, Result, ScanPage, StorageBackend,
};

use crate::cases::{WithValue, noise, of_thread, plain};

/// Counts the items that are read, and the operations that are committed.
#[derive(Debug)]
struct Counting {
    inner: MemoryBackend,
    read: AtomicUsize,
    calls: AtomicUsize,
    operations: AtomicUsize,
}

impl Counting {
    fn taken(&self) -> (usize, usize, usize) {
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

async fn counting() -> (Arc<Counting>, CheckpointerBackend) {
    let zero = || AtomicUsize::new(0);
    let counting =
        Arc::new(Counting { inner: MemoryBackend::new(), read: zero(), calls: zero(), operations: zero() });
    counting.connect().await.unwrap();
    (Arc::clone(&counting), CheckpointerBackend::new(counting))
}

#[tokio::test]
async fn the_latest_and_ten_of_ten_thousand_read_no_more_than_they_return() {
    let (counting, checkpointer) = counting().await;
    for number in 0..10_000 {
        checkpointer.put(&plain("long", "", number, None)).await.unwrap();
    }
    counting.taken();
    checkpointer.get("long", "", None).await.unwrap().unwrap();
    // The checkpoint, and the look that it is still there.
    assert_eq!(counting.taken().0, 2);
    let ten = ListCheckpoints { limit: Some(10), ..of_thread("long") };
    let of_root = ListCheckpoints { checkpoint_ns: Some(String::new()), ..ten.clone() };
    assert_eq!(checkpointer.list(&of_root).await.unwrap().len(), 10);
    assert_eq!(counting.taken(), (10, 1, 0));
    // Over all namespaces, each through its entry in the index.
    assert_eq!(checkpointer.list(&ten).await.unwrap().len(), 10);
    assert_eq!(counting.taken(), (20, 2, 0));
}

#[tokio::test]
async fn a_step_costs_the_store_as_much_at_the_end_of_a_history_as_at_its_beginning() {
    let (counting, checkpointer) = counting().await;
    let all = noise(7, 1_000 * 1_100);
    let mut most = (0, 0, 0);
    for number in 0..1_000usize {
        let list = Payload::new("msgpack", all[..(number + 1) * 1_100].to_vec());
        let new =
            plain("flat", "", number, number.checked_sub(1)).with("messages", number as i64, Some(list));
        checkpointer.advance(&new, &[]).await.unwrap();
        let (read, calls, operations) = counting.taken();
        most = (most.0.max(read), most.1.max(calls), most.2.max(operations));
    }
    assert!(most.0 <= 3 && most.1 <= 2 && most.2 < 150, "{most:?}");
}
