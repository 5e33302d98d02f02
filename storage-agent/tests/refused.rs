//! A store that takes no writes for a while: what can be read of memories is answered.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is a failed test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use storage_agent::{ListNamespaces, MemoryStore, MemoryTtl, SearchMemories};
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Error, ErrorKind, Item, Json, MemoryBackend, Page, Partition,
    PartitionInfo, Query, Result, ScanPage, StorageBackend,
};

/// A memory backend that refuses commits while this is set, as a disk that is full does.
#[derive(Debug)]
struct Refusing {
    store: MemoryBackend,
    refuses: AtomicBool,
}

#[async_trait]
impl StorageBackend for Refusing {
    async fn connect(&self) -> Result<()> {
        self.store.connect().await
    }
    async fn disconnect(&self) -> Result<()> {
        self.store.disconnect().await
    }
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        self.store.get(key).await
    }
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        self.store.set(key, value, ttl).await
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        self.store.delete(key).await
    }
    async fn exists(&self, key: &str) -> Result<bool> {
        self.store.exists(key).await
    }
    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        self.store.keys(pattern).await
    }
    fn collections(&self) -> Option<&dyn CollectionStore> {
        Some(self)
    }
}

#[async_trait]
impl CollectionStore for Refusing {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Full, "the disk is full"));
        }
        self.store.commit(commit).await
    }
    async fn query(&self, query: Query) -> Result<Page> {
        self.store.query(query).await
    }
    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        self.store.items(partition, sorts).await
    }
    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        self.store.partition(partition).await
    }
    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>> {
        self.store.partitions_page(kind, segments, after, limit).await
    }
    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        self.store.delete_partition(partition).await
    }
}

#[tokio::test]
async fn memories_are_read_where_their_expiry_cannot_be_refreshed() {
    let storage = Arc::new(Refusing { store: MemoryBackend::new(), refuses: AtomicBool::new(false) });
    storage.connect().await.unwrap();
    let memories = MemoryStore::new(storage.clone()).unwrap();
    let put = async |key: &str, ttl: Duration| {
        memories.put(&["a", "b"], key, Json::parse("{}").unwrap(), MemoryTtl::After(ttl)).await
    };
    put("gone", Duration::from_millis(1)).await.unwrap();
    put("k", Duration::from_secs(600)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = memories.get(&["a", "b"], "k").await.unwrap();

    storage.refuses.store(true, Ordering::SeqCst);
    assert_eq!(memories.get(&["a", "b"], "k").await.unwrap(), before);
    assert_eq!(memories.get(&["a", "b"], "gone").await.unwrap(), None);
    // It removes none of the expired that it meets.
    let found = memories.search(&["a"], &SearchMemories::default()).await.unwrap();
    assert_eq!(found.first(), before.as_ref());
    assert_eq!(found.len(), 1);
    assert_eq!(memories.list_namespaces(&ListNamespaces::default()).await.unwrap(), [["a", "b"]]);
    assert_eq!(put("k", Duration::from_secs(1)).await.unwrap_err().kind(), ErrorKind::Full);

    storage.refuses.store(false, Ordering::SeqCst);
    assert_eq!(
        memories.search(&["a"], &SearchMemories::default()).await.unwrap()[0].version,
        before.unwrap().version
    );
    assert_eq!(memories.remove_expired().await.unwrap(), 0, "the search removed what had expired");
}
