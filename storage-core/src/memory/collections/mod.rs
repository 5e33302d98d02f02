//! Partitions of ordered items in memory.

mod partition;

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{MemoryBackend, NAME, named};
use crate::{
    Clock, CollectionStore, Commit, Committed, Error, Item, MAX_PAGE_BYTES, Order, Page, Partition,
    PartitionInfo, Query, Result, check_key,
};
use partition::Stored;

/// How many partitions a listing looks at under one lock.
const LISTED: usize = 256;

/// Every partition, by its text.
pub(super) struct Partitions {
    clock: Arc<dyn Clock>,
    stored: Mutex<BTreeMap<String, Stored>>,
}

impl Partitions {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, stored: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        self.lock().retain(|_, stored| stored.is_live(now));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, commit: &Commit) -> Result<Committed> {
        let now = self.clock.now();
        let mut all = self.lock();
        let name = commit.partition.as_str();
        if let Some(stored) = all.get_mut(name).filter(|stored| stored.is_live(now)) {
            return stored.commit(commit, now);
        }
        let mut fresh = Stored::new(now);
        let committed = fresh.commit(commit, now)?;
        if commit.operations.is_empty() {
            return Ok(Committed { version: 0, ..committed });
        }
        all.insert(name.to_owned(), fresh);
        Ok(committed)
    }

    /// Runs `look` on a partition that is there.
    fn look<T: Default>(&self, partition: &Partition, look: impl FnOnce(&Stored) -> T) -> T {
        let now = self.clock.now();
        let all = self.lock();
        all.get(partition.as_str()).filter(|stored| stored.is_live(now)).map(look).unwrap_or_default()
    }

    /// The next partitions of a range after a text, and the text to go on from.
    fn listed(&self, after: Bound<&str>, upper: &str) -> (Vec<PartitionInfo>, Option<String>) {
        let now = self.clock.now();
        let all = self.lock();
        let seen: Vec<_> = all.range::<str, _>((after, Bound::Excluded(upper))).take(LISTED).collect();
        let next = seen.last().filter(|_| seen.len() == LISTED).map(|(name, _)| (*name).clone());
        let live = seen.into_iter().filter(|(_, stored)| stored.is_live(now));
        (
            live.filter_map(|(name, stored)| Some(stored.info(Partition::from_text(name).ok()?))).collect(),
            next,
        )
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitions")
    }
}

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
