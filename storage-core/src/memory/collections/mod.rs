//! Partitions of ordered items in memory.

mod partition;
mod partitions;
mod search;

use async_trait::async_trait;

use tokio::task::coop::consume_budget;

use super::{MemoryBackend, NAME, named};
use crate::{
    CollectionStore, Commit, Committed, Cursor, Hit, Item, MAX_PAGE_BYTES, Order, Page, Partition,
    PartitionInfo, Query, Result, ScanPage, Search, check_key, check_page_limit,
};
pub(super) use partitions::Partitions;

/// The items of a query, cut at its limit and at the bytes of a page.
fn page<'a>(items: impl Iterator<Item = (&'a String, &'a Item)>, query: &Query) -> Page {
    let mut page = Page::default();
    let mut bytes = 0;
    for (_, item) in items {
        let body = if query.bodies { item.body.len() } else { 0 };
        bytes += body + item.attributes.len();
        if page.items.len() == query.limit || (bytes > MAX_PAGE_BYTES && !page.items.is_empty()) {
            page.more = true;
            break;
        }
        page.items.push(if query.bodies {
            item.clone()
        } else {
            Item { body: bytes::Bytes::new(), ..item.clone() }
        });
    }
    page
}

impl MemoryBackend {
    async fn partitions_at(&self, operation: &'static str) -> Result<&Partitions> {
        consume_budget().await;
        self.lifecycle.enter().map(|_| &*self.partitions).map_err(|error| error.at(NAME, operation))
    }
}

#[async_trait]
impl CollectionStore for MemoryBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        named("commit", commit.check(self.max_value_bytes))?;
        named("commit", self.partitions_at("commit").await?.commit(&commit))
    }

    async fn query(&self, query: Query) -> Result<Page> {
        named("query", query.check())?;
        let partitions = self.partitions_at("query").await?;
        Ok(partitions.look(&query.partition, |stored| {
            let items = stored.range(&query.from, query.to.as_deref());
            match query.order {
                Order::Ascending => page(items, &query),
                Order::Descending => page(items.rev(), &query),
            }
        }))
    }

    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        named("items", sorts.iter().try_for_each(|sort| check_key(sort)))?;
        let partitions = self.partitions_at("items").await?;
        let found =
            partitions.look(partition, |stored| Some(sorts.iter().map(|sort| stored.item(sort)).collect()));
        Ok(found.unwrap_or_else(|| vec![None; sorts.len()]))
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        let partitions = self.partitions_at("partition").await?;
        Ok(partitions.look(partition, |stored| Some(stored.info(partition.clone()))))
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
            let partitions = self.partitions_at("partitions_page").await?;
            match (after, own) {
                (None, Some(own)) => {
                    let own = partitions.look(&own, |stored| Some(stored.info(own.clone())));
                    Ok(ScanPage::new(own.into_iter().map(Ok).collect(), Some(Cursor::at(&lower)?)))
                }
                (after, _) => {
                    let from = after.map_or(Ok(lower), Cursor::place)?;
                    partitions.listed(&from, &upper, limit)
                }
            }
        };
        named("partitions_page", page.await)
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let partitions = self.partitions_at("delete_partition").await?;
        let now = partitions.clock.now();
        Ok(partitions.lock().remove(partition.as_str()).is_some_and(|stored| stored.is_live(now)))
    }

    fn searches(&self, _: &str) -> bool {
        true
    }

    async fn search(&self, search: Search) -> Result<Vec<Hit>> {
        named("search", search.check())?;
        let partitions = self.partitions_at("search").await?;
        named("search", search::hits(partitions, &search))
    }
}
