//! What an index finds, page by page.

use std::collections::HashSet;

use storage_core::{CollectionStore, Hit, MAX_HITS, Partition, Result, Search};

use crate::shared::Shared;

/// How many hits one call looks at.
const MAX_EXAMINED: usize = 10_000;

/// The hits of a search, the best first, each once and with its whole body.
pub(crate) struct Hits<'a> {
    store: &'a dyn CollectionStore,
    /// What the next page is asked with.
    next: Option<Search>,
    seen: HashSet<(Partition, String)>,
}

impl<'a> Hits<'a> {
    /// Those in some partitions of a kind, or in all; each with these labels.
    pub(crate) fn new(shared: &'a Shared, search: Search) -> Result<Self> {
        let next = Some(search.limit(MAX_HITS));
        Ok(Self { store: shared.collections()?, next, seen: HashSet::new() })
    }

    /// The next page; `None` where all were seen, or as many as a call looks at.
    pub(crate) async fn page(&mut self) -> Result<Option<Vec<Hit>>> {
        let Some(asked) = self.next.take() else { return Ok(None) };
        let page = self.store.search(asked.clone()).await?;
        let offset = asked.offset + page.len();
        self.next = (page.len() == MAX_HITS && offset < MAX_EXAMINED).then_some(Search { offset, ..asked });
        let mut hits = Vec::with_capacity(page.len());
        for hit in page {
            // Where somebody writes meanwhile, a hit may be on two pages.
            if self.seen.insert((hit.partition.clone(), hit.item.sort.clone())) {
                hits.extend(self.whole(hit).await?);
            }
        }
        Ok(Some(hits))
    }

    /// `None` where it is gone.
    async fn whole(&self, hit: Hit) -> Result<Option<Hit>> {
        if hit.item.body.len() as u64 == hit.item.body_bytes {
            return Ok(Some(hit));
        }
        let read = self.store.items(&hit.partition, &[&hit.item.sort]).await?;
        Ok(read.into_iter().flatten().next().map(|item| Hit { item, ..hit }))
    }
}
