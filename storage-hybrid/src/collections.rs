//! Partitions, routed by their kind as keys are by their prefix.

use async_trait::async_trait;
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Error, Hit, Item, Page, Partition, PartitionInfo, Query,
    Result, ScanPage, Search,
};

use crate::{HybridBackend, backend::NAME};

impl HybridBackend {
    fn collections_of(&self, text: &str) -> Result<&dyn CollectionStore> {
        self.of(text).collections().ok_or_else(|| Error::unsupported(NAME, "collections"))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CollectionStore for HybridBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.collections_of(commit.partition.as_str())?.commit(commit).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        self.collections_of(query.partition.as_str())?.query(query).await
    }

    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        self.collections_of(partition.as_str())?.items(partition, sorts).await
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        self.collections_of(partition.as_str())?.partition(partition).await
    }

    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>> {
        self.collections_of(&format!("{kind}:"))?.partitions_page(kind, segments, after, limit).await
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        self.collections_of(partition.as_str())?.delete_partition(partition).await
    }

    fn searches(&self, kind: &str) -> bool {
        self.collections_of(&format!("{kind}:")).is_ok_and(|collections| collections.searches(kind))
    }

    async fn search(&self, search: Search) -> Result<Vec<Hit>> {
        self.collections_of(&format!("{}:", search.kind))?.search(search).await
    }
}
