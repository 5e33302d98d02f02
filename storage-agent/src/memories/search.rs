//! Searching: one range of each partition, page by page, of which only the memories that may be returned are kept.

use std::{cmp::Reverse, collections::BTreeMap, time::SystemTime};

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::{Error, Json, Listing, Partition, Query, Result, StorageExt, prefix_successor};

use super::{
    item::{MemoryItem, Stored},
    layout::{KIND, check_labels, range},
    store::{MemoryStore, PARALLEL},
};
use crate::filter::Filter;

/// The most memories or namespaces of one answer, and the most that are passed over before.
const MAX_LIMIT: usize = 10_000;
const MAX_OFFSET: usize = 100_000;
/// How many memories are looked at in one step.
const PAGE: usize = 1_000;
/// How many expired memories a search removes that it meets.
const FORGOTTEN: usize = 256;

/// Which memories to find.
#[derive(Debug, Clone)]
pub struct SearchMemories {
    /// What their values must be: a JSON object whose members are values to be equal to, or objects with `$eq`, `$ne`, `$gt`,
    /// `$gte`, `$lt` and `$lte`. [`MemoryStore`] says how values are compared.
    pub filter: Option<Json>,
    /// How many at most; 10 unless set otherwise, 10,000 at most.
    pub limit: usize,
    /// How many of those found to pass over; 100,000 at most.
    pub offset: usize,
    /// Whether finding a memory refreshes its expiry; as the store is set up unless set otherwise.
    pub refresh_ttl: Option<bool>,
}

impl Default for SearchMemories {
    fn default() -> Self {
        Self { filter: None, limit: 10, offset: 0, refresh_ttl: None }
    }
}

/// The order of what is found: the latest first.
type Rank = (Reverse<SystemTime>, Reverse<u64>, Vec<String>, String);

#[derive(Default)]
struct Found {
    most: usize,
    best: BTreeMap<Rank, (Stored, Option<SystemTime>)>,
    corrupt: Vec<Error>,
}

impl Found {
    fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    fn wants(&self, stored: &Stored) -> bool {
        self.best.len() < self.most
            || self.best.last_key_value().is_some_and(|(last, _)| rank(stored) < *last)
    }

    fn add(&mut self, stored: Stored, ends: Option<SystemTime>) {
        self.best.insert(rank(&stored), (stored, ends));
        if self.best.len() > self.most {
            self.best.pop_last();
        }
    }

    fn and(mut self, other: Self) -> Self {
        for (stored, ends) in other.best.into_values() {
            self.add(stored, ends);
        }
        self.corrupt.extend(other.corrupt);
        self
    }
}

fn rank(stored: &Stored) -> Rank {
    let item = &stored.item;
    // Within a millisecond the later commit has the greater version.
    (Reverse(stored.updated_at), Reverse(item.version), stored.namespace.clone(), stored.key.clone())
}

impl MemoryStore {
    pub(super) async fn found(
        &self,
        prefix: &[&str],
        search: &SearchMemories,
    ) -> Result<Listing<MemoryItem>> {
        check_labels(prefix)?;
        check_page(search.limit, search.offset)?;
        let filter = search.filter.as_ref().map(Filter::new).transpose()?;
        if search.limit == 0 {
            return Ok(Listing::default());
        }
        let most = search.limit + search.offset;
        let found = if prefix.is_empty() {
            let every = self.shared.storage.partitions(KIND, &[]);
            let each =
                every.map(|info| async { self.best(&info?.partition, "", filter.as_ref(), most).await });
            let each = each.buffer_unordered(PARALLEL);
            each.try_fold(Found::new(most), |all, one| async { Ok(all.and(one)) }).await?
        } else {
            let (partition, sorts) = range(prefix)?;
            self.best(&partition, &sorts, filter.as_ref(), most).await?
        };
        let refresh = search.refresh_ttl.unwrap_or(self.refresh_on_read);
        let returned = found.best.into_values().skip(search.offset);
        let read = returned.map(|(stored, ends)| async move {
            if refresh && stored.lease.is_some() {
                return self.living(stored, true).await;
            }
            stored.into_memory(ends).map(Some)
        });
        let read: Vec<_> = stream::iter(read).buffered(PARALLEL).try_collect().await?;
        Ok(Listing { entries: read.into_iter().flatten().collect(), corrupt: found.corrupt })
    }

    /// The memories of a partition that come first, of those whose sort keys begin with `sorts`.
    async fn best(
        &self,
        partition: &Partition,
        sorts: &str,
        filter: Option<&Filter>,
        most: usize,
    ) -> Result<Found> {
        let (mut found, mut expired) = (Found::new(most), Vec::new());
        let mut next = Some(Query::prefix(partition.clone(), sorts, PAGE));
        while let Some(query) = next {
            let page = self.shared.collections()?.query(query.clone()).await?;
            next = query.after(&page);
            let mut wanted = Vec::new();
            for item in page.items {
                let read = Stored::decode(partition, item).and_then(|stored| {
                    let accepted = filter.map_or(Ok(true), |filter| filter.accepts(&stored.value()?))?;
                    Ok((stored, accepted))
                });
                match read {
                    Ok((stored, true)) if found.wants(&stored) => wanted.push(stored),
                    Ok(_) => {}
                    Err(error) => found.corrupt.push(error),
                }
            }
            let (alive, dead) = self.parted(wanted).await?;
            alive.into_iter().for_each(|(stored, ends)| found.add(stored, ends));
            expired.extend(dead.into_iter().take(FORGOTTEN.saturating_sub(expired.len())));
        }
        if let Err(error) = self.forget(partition, &expired).await {
            tracing::debug!(%error, "expired memories could not be removed");
        }
        Ok(found)
    }
}

/// The query for all memories whose sort keys begin with `sorts`, without their values.
pub(super) fn names(partition: &Partition, sorts: &str, limit: usize) -> Query {
    let to = prefix_successor(sorts);
    Query::range(partition.clone(), sorts, to, limit).without_bodies()
}

pub(super) fn check_page(limit: usize, offset: usize) -> Result<()> {
    if limit > MAX_LIMIT || offset > MAX_OFFSET {
        let message =
            format!("limit may be {MAX_LIMIT} and offset {MAX_OFFSET}; these are {limit} and {offset}");
        return Err(
            Error::invalid_input(message).with_hint("search below a longer namespace, or with a filter")
        );
    }
    Ok(())
}
