//! Partitions of ordered items, in two tables beside `kv_store`.
//!
//! Whoever changes a partition locks its row first, and nothing else: so commits to one partition come one after the
//! other, and none waits for two.

mod append;
mod commit;
mod known;
mod needs;
mod plan;
mod read;
mod text;

use async_trait::async_trait;
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Hit, Item, Page, Partition, PartitionInfo, Query, Result,
    ScanPage, Search, check_key, check_page_limit,
};

use crate::{
    backend::PostgresBackend,
    error::{named, on_key},
    statements::partition_schema::Collections,
};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CollectionStore for PostgresBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        named("commit", commit.check(self.config.max_value_bytes))?;
        let partition = commit.partition.clone();
        let name = partition.as_str();
        let work = self.write(|executor| commit::commit(executor, commit));
        on_key("commit", name, self.wrote(&[name], work)).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        named("query", query.check())?;
        let name = query.partition.as_str();
        named("query", self.look(&[name], |executor| read::page(executor, query.clone())).await)
    }

    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        named("items", sorts.iter().try_for_each(|sort| check_key(sort)))?;
        let names = [partition.as_str()];
        let found = self.look(&names, |executor| {
            let sorts = sorts.iter().map(|sort| (*sort).to_owned()).collect();
            read::items(executor, partition.clone(), sorts)
        });
        named("items", found.await)
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        let names = [partition.as_str()];
        let found = self.look(&names, |executor| read::partition(executor, partition.clone()));
        on_key("partition", partition.as_str(), found).await
    }

    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>> {
        let page = async {
            check_page_limit(limit)?;
            let (lower, upper, own) = Partition::range(kind, segments)?;
            if let (None, Some(own)) = (after, own) {
                let own =
                    self.look(&[own.as_str()], |executor| read::partition(executor, own.clone())).await?;
                return Ok(ScanPage::new(own.into_iter().map(Ok).collect(), Some(Cursor::at(&lower)?)));
            }
            let from = after.map_or(Ok(lower), Cursor::place)?;
            self.look(&[], |executor| read::listed(executor, from.clone(), upper.clone(), limit)).await
        };
        named("partitions_page", page.await)
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let (name, owned) = (partition.as_str(), partition.clone());
        let work = self.write(|executor| read::delete_partition(executor, owned));
        on_key("delete_partition", name, self.wrote(&[name], work)).await
    }

    fn searches(&self, _: &str) -> bool {
        self.lifecycle.enter().is_ok_and(|lease| lease.here().schema().collections == Collections::Whole)
    }

    async fn search(&self, search: Search) -> Result<Vec<Hit>> {
        let hits = async {
            search.check()?;
            let names: Vec<&str> = search.partitions.iter().map(Partition::as_str).collect();
            self.look(&names, |executor| text::search(executor, search.clone())).await
        };
        named("search", hits.await)
    }
}
