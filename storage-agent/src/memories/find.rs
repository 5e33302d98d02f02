//! Full-text search over memories.

use std::time::SystemTime;

use storage_core::{Error, ErrorKind, Hit, Listing, Partition, Query, Result, Search, SearchQuery, Snippet};

use super::{
    item::{MemoryItem, Stored},
    layout::{KIND, check_labels, range},
    search::{SearchMemories, check_page},
    store::MemoryStore,
    texts,
};
use crate::{filter::Filter, hits::Hits, texts::of_json};

/// How many memories of a store without search are read in one step.
const PAGE: usize = 500;
/// How long a snippet is, in bytes.
const SNIPPET_BYTES: usize = 160;

/// A memory that was found by its words.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct MemoryHit {
    /// The memory.
    #[serde(flatten)]
    pub memory: MemoryItem,
    /// How well it fits: greater is better, comparable within one answer alone; 0 where the store does not rank.
    pub score: f64,
    /// Where its strings hold what was asked for, 160 bytes at most.
    pub snippet: Snippet,
}

impl MemoryStore {
    /// Finds memories by the strings in their values, the best first, in a namespace and in all that begin with it, or in every
    /// namespace where `prefix` is empty. The query is written as [`SearchQuery`] has it; filter, limit, offset and refreshing are
    /// those of [`search`](Self::search). A memory is found as soon as it is put, and no longer once it has expired.
    ///
    /// Memory, SQLite and Postgres have an index, and rank each in its own way what all of them find; a call looks at the best 10,000
    /// hits. Where there is none, as on Redis, one namespace with all below it is read through in the order of its keys. Memories that a
    /// release without search put are not found by the index.
    ///
    /// # Errors
    /// `InvalidInput` for a query without words or that is too long; else as [`search`](Self::search). `Unsupported` where the store
    /// has no index and `prefix` is empty.
    pub async fn find(
        &self,
        prefix: &[&str],
        query: &str,
        search: &SearchMemories,
    ) -> Result<Listing<MemoryHit>> {
        self.shared.measured("memories.find", Box::pin(self.found_by(prefix, query, search))).await
    }

    async fn found_by(
        &self,
        prefix: &[&str],
        query: &str,
        search: &SearchMemories,
    ) -> Result<Listing<MemoryHit>> {
        check_labels(prefix)?;
        check_page(search.limit, search.offset)?;
        let wanted = Wanted {
            query: query.parse()?,
            filter: search.filter.as_ref().map(Filter::new).transpose()?,
            within: if prefix.is_empty() { None } else { Some(range(prefix)?) },
            most: search.limit + search.offset,
        };
        let mut found = match &wanted.within {
            _ if search.limit == 0 => Found::default(),
            Some((partition, sorts)) if !self.shared.collections()?.searches(KIND) => {
                self.read_through(&wanted, Query::prefix(partition.clone(), sorts, PAGE)).await?
            }
            None if !self.shared.collections()?.searches(KIND) => {
                let message = "the store has no index to search all namespaces with";
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .with_hint("name a namespace; memory, SQLite and Postgres search them all"));
            }
            _ => self.ranked(&wanted, prefix).await?,
        };
        let refresh = search.refresh_ttl.unwrap_or(self.refresh_on_read);
        let mut hits = Listing { entries: Vec::new(), corrupt: std::mem::take(&mut found.corrupt) };
        for (stored, ends, score) in found.hits.into_iter().skip(search.offset).take(search.limit) {
            let snippet = wanted.query.snippet(&strings(&stored), SNIPPET_BYTES);
            let read = if refresh && stored.lease.is_some() {
                self.living(stored, true).await?
            } else {
                Some(stored.into_memory(ends)?)
            };
            hits.entries.extend(read.map(|memory| MemoryHit { memory, score, snippet }));
        }
        Ok(hits)
    }

    async fn ranked(&self, wanted: &Wanted, prefix: &[&str]) -> Result<Found> {
        let mut asked = Search::new(KIND, wanted.query.clone());
        if let Some((partition, _)) = &wanted.within {
            asked = asked.within(vec![partition.clone()]).label(texts::by_namespace(prefix));
        }
        let (mut found, mut hits) = (Found::default(), Hits::new(&self.shared, asked)?);
        while found.hits.len() < wanted.most
            && let Some(page) = hits.page().await?
        {
            let page = page.into_iter();
            let matching = page.filter_map(|Hit { partition, item, score }| {
                Some((found.read(wanted, &partition, item)?, score))
            });
            let matching = matching.collect();
            self.add_living(&mut found, matching).await?;
        }
        Ok(found)
    }

    /// Finds without an index.
    async fn read_through(&self, wanted: &Wanted, first: Query) -> Result<Found> {
        let (mut found, mut next) = (Found::default(), Some(first));
        while let Some(query) = next.filter(|_| found.hits.len() < wanted.most) {
            let page = self.shared.collections()?.query(query.clone()).await?;
            let partition = query.partition.clone();
            next = query.after(&page);
            let items = page.items.into_iter();
            let matching = items.filter_map(|item| Some((found.read(wanted, &partition, item)?, 0.0)));
            let matching = matching.collect();
            self.add_living(&mut found, matching).await?;
        }
        Ok(found)
    }

    async fn add_living(&self, found: &mut Found, matching: Vec<(Stored, f64)>) -> Result<()> {
        let (matching, scores): (Vec<_>, Vec<_>) = matching.into_iter().unzip();
        let places: Vec<_> = matching.iter().map(|stored: &Stored| stored.version.clone()).collect();
        let (alive, _) = self.parted(matching).await?;
        let mut scores = places.into_iter().zip(scores).collect::<std::collections::HashMap<_, _>>();
        for (stored, ends) in alive {
            let score = scores.remove(&stored.version).unwrap_or_default();
            found.hits.push((stored, ends, score));
        }
        Ok(())
    }
}

struct Wanted {
    query: SearchQuery,
    filter: Option<Filter>,
    /// The partition of a namespace, and what the sort keys in it and below it begin with.
    within: Option<(Partition, String)>,
    /// So many hits are enough.
    most: usize,
}

#[derive(Default)]
struct Found {
    hits: Vec<(Stored, Option<SystemTime>, f64)>,
    corrupt: Vec<Error>,
}

impl Found {
    /// A memory that says what was asked for, and of which all else holds.
    fn read(&mut self, wanted: &Wanted, partition: &Partition, item: storage_core::Item) -> Option<Stored> {
        if wanted
            .within
            .as_ref()
            .is_some_and(|(within, sorts)| within != partition || !item.sort.starts_with(sorts))
        {
            return None;
        }
        let read = Stored::decode(partition, item).and_then(|stored| {
            let accepted =
                wanted.filter.as_ref().map_or(Ok(true), |filter| filter.accepts(&stored.value()?))?;
            Ok((stored, accepted))
        });
        match read {
            // One that was put anew since it was found is no hit; where nothing was looked up, most are none.
            Ok((stored, true)) if wanted.query.matches(&strings(&stored)) => Some(stored),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.corrupt.push(error);
                None
            }
            _ => None,
        }
    }
}

/// The strings of a memory, as they are indexed.
fn strings(stored: &Stored) -> String {
    of_json(std::str::from_utf8(&stored.item.body).unwrap_or_default(), true)
}
