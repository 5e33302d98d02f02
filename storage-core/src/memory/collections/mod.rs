//! Partitions of ordered items in memory.

mod partition;
mod partitions;

use std::ops::Bound;

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{MemoryBackend, NAME, named};
use crate::{
    CollectionStore, Commit, Committed, Error, Item, MAX_PAGE_BYTES, Order, Page, Partition, PartitionInfo,
    Query, Result, check_key,
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
    fn partitions_at(&self, operation: &'static str) -> Result<&Partitions> {
        self.lifecycle.enter().map(|_| &*self.partitions).map_err(|error| error.at(NAME, operation))
    }
}

#[async_trait]
impl CollectionStore for MemoryBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        named("commit", commit.check(self.max_value_bytes))?;
        named("commit", self.partitions_at("commit")?.commit(&commit))
    }

    async fn query(&self, query: Query) -> Result<Page> {
        named("query", query.check())?;
        let partitions = self.partitions_at("query")?;
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
        let partitions = self.partitions_at("items")?;
        let found =
            partitions.look(partition, |stored| Some(sorts.iter().map(|sort| stored.item(sort)).collect()));
        Ok(found.unwrap_or_else(|| vec![None; sorts.len()]))
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        let partitions = self.partitions_at("partition")?;
        Ok(partitions.look(partition, |stored| Some(stored.info(partition.clone()))))
    }

    fn partitions(&self, kind: &str, segments: &[&str]) -> BoxStream<'_, Result<PartitionInfo>> {
        let range = named("partitions", Partition::range(kind, segments));
        let listing = async move {
            let (lower, upper, own) = range?;
            let own = match own {
                Some(own) => self.partition(&own).await?,
                None => None,
            };
            let pages = stream::try_unfold(Some(None::<String>), move |after| {
                let (lower, upper) = (lower.clone(), upper.clone());
                async move {
                    let Some(after) = after else { return Ok(None) };
                    let from = after.as_deref().map_or(Bound::Included(&*lower), Bound::Excluded);
                    let (listed, next) = self.partitions_at("partitions")?.listed(from, &upper);
                    Ok::<_, Error>(Some((stream::iter(listed.into_iter().map(Ok)), next.map(Some))))
                }
            });
            Ok::<_, Error>(stream::iter(own.map(Ok)).chain(pages.try_flatten()))
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let partitions = self.partitions_at("delete_partition")?;
        let now = partitions.clock.now();
        Ok(partitions.lock().remove(partition.as_str()).is_some_and(|stored| stored.is_live(now)))
    }
}
