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

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use storage_core::{
    CollectionStore, Commit, Committed, Error, Item, Page, Partition, PartitionInfo, Query, Result, check_key,
};

use crate::{
    backend::PostgresBackend,
    error::{named, on_key},
};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CollectionStore for PostgresBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        named("commit", commit.check(self.config.max_value_bytes))?;
        let partition = commit.partition.clone();
        let work = self.write(|executor| commit::commit(executor, commit));
        on_key("commit", partition.as_str(), work).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        named("query", query.check())?;
        named("query", self.read(|executor| read::page(executor, query)).await)
    }

    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        named("items", sorts.iter().try_for_each(|sort| check_key(sort)))?;
        let (partition, sorts) = (partition.clone(), sorts.iter().map(|sort| (*sort).to_owned()).collect());
        named("items", self.read(|executor| read::items(executor, partition, sorts)).await)
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        let owned = partition.clone();
        on_key("partition", partition.as_str(), self.read(|executor| read::partition(executor, owned))).await
    }

    fn partitions(&self, kind: &str, segments: &[&str]) -> BoxStream<'_, Result<PartitionInfo>> {
        let range = Partition::range(kind, segments);
        let listing = async move {
            let (lower, upper, own) = range?;
            let own = match own {
                Some(own) => self.read(|executor| read::partition(executor, own)).await?,
                None => None,
            };
            let pages = stream::try_unfold(Some(lower), move |from| {
                let upper = upper.clone();
                async move {
                    let Some(from) = from else { return Ok(None) };
                    let (listed, next) = self.read(|executor| read::listed(executor, from, upper)).await?;
                    Ok::<_, Error>(Some((stream::iter(listed.into_iter().map(Ok)), next)))
                }
            });
            Ok::<_, Error>(stream::iter(own.map(Ok)).chain(pages.try_flatten()))
        };
        stream::once(listing).try_flatten().map(|item| named("partitions", item)).boxed()
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let owned = partition.clone();
        let work = self.write(|executor| read::delete_partition(executor, owned));
        on_key("delete_partition", partition.as_str(), work).await
    }
}
