//! Partitions of ordered items, in two tables beside `kv_store`.
//!
//! Whoever changes a partition locks its row first, and nothing else: so commits to one partition come one after the
//! other, and none waits for two.

mod append;
mod commit;
mod hidden;
mod needs;
mod plan;
mod read;
mod schema;
mod sql;

use std::sync::LazyLock;

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use storage_core::{
    CollectionStore, Commit, Committed, Error, Item, Page, Partition, PartitionInfo, Query, Result, check_key,
};

use crate::{
    PostgresBackend,
    backend::{named, on_key},
};

pub(crate) use schema::prepare;
pub(crate) use sql::Sql;

/// No sort key of 1,024 bytes comes after this.
static END: LazyLock<String> = LazyLock::new(|| "\u{10ffff}".repeat(257));

/// A number that is never below zero.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CollectionStore for PostgresBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        named("commit", commit.check(self.config.max_value_bytes))?;
        on_key("commit", commit.partition.as_str(), async { self.enter()?.pool.commit(&commit).await }).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        named("query", query.check())?;
        named("query", async { self.enter()?.pool.page(&query).await }.await)
    }

    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        named("items", sorts.iter().try_for_each(|sort| check_key(sort)))?;
        named("items", async { self.enter()?.pool.items(partition, sorts).await }.await)
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        on_key("partition", partition.as_str(), async { self.enter()?.pool.info(partition).await }).await
    }

    fn partitions(&self, kind: &str, segments: &[&str]) -> BoxStream<'_, Result<PartitionInfo>> {
        let range = Partition::range(kind, segments);
        let listing = async move {
            let (lower, upper, own) = range?;
            let own = match own {
                Some(own) => self.enter()?.pool.info(&own).await?,
                None => None,
            };
            let pages = stream::try_unfold(Some(lower), move |from| {
                let upper = upper.clone();
                async move {
                    let Some(from) = from else { return Ok(None) };
                    let (listed, next) = self.enter()?.pool.listed(&from, &upper).await?;
                    Ok::<_, Error>(Some((stream::iter(listed.into_iter().map(Ok)), next)))
                }
            });
            Ok::<_, Error>(stream::iter(own.map(Ok)).chain(pages.try_flatten()))
        };
        stream::once(listing).try_flatten().map(|item| named("partitions", item)).boxed()
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        on_key("delete_partition", partition.as_str(), async {
            self.enter()?.pool.delete_partition(partition).await
        })
        .await
    }
}
