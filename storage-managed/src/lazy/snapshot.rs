//! One generation of a database: where each of its pages is.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{cached::CachedHome, paged::PagedSegment};
use crate::{
    content::Fetched,
    error::{Error, Result},
    format::{HEAD, Head, Hex, Index, base_name, follows, index_name},
    rebuild::{Link, links},
    remote::Known,
};

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: SQLite has never written it.
    Zeros,
    /// In the base, behind so many bytes.
    Base(u64),
    /// In this segment, at this place among its pages.
    Segment { segment: usize, index: usize },
}

#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) known: Known,
    pub(super) base_name: String,
    pub(super) base_id: u128,
    pub(super) segments: Vec<Arc<PagedSegment>>,
    /// Pages that segments hold, the newest of which counts.
    changed: HashMap<u32, (u32, u32)>,
    /// The pages of the base up to this one count where no segment holds them.
    base_pages: u32,
}

impl Snapshot {
    /// Reads where the pages of a head's generation are, or what is not there. What an earlier snapshot knows of a segment is
    /// not read again.
    pub(super) async fn read(
        home: &CachedHome,
        known: Known,
        earlier: Option<&Self>,
        at_once: usize,
    ) -> Result<Fetched<Self>> {
        let head = &known.0;
        let index = match index_of(home, head).await? {
            Ok(index) => index,
            Err(missing) => return Ok(Err(missing)),
        };
        let known_segment = |link: &Link| {
            let segments = earlier.into_iter().flat_map(|earlier| &earlier.segments);
            segments.rev().find(|segment| segment.link == *link).map(Arc::clone)
        };
        let chain = links(head, index.as_ref(), head.base.generation).into_iter();
        let opening = chain.map(|link| {
            let (segment, length) = (known_segment(&link), length_of(&link, head, index.as_ref()));
            async move {
                match segment {
                    Some(segment) => Ok(Ok(segment)),
                    None => PagedSegment::open(home, link, length).await.map(|found| found.map(Arc::new)),
                }
            }
        });
        let opening: Vec<_> = opening.collect();
        let opened: Vec<_> = stream::iter(opening).buffered(at_once).try_collect().await?;
        match opened.into_iter().collect::<Fetched<Vec<_>>>() {
            Ok(segments) => Self::of(known, segments).map(Ok),
            Err(missing) => Ok(Err(missing)),
        }
    }

    /// Checks that the segments lead from the base to the head, and notes which pages they hold.
    fn of(known: Known, segments: Vec<Arc<PagedSegment>>) -> Result<Self> {
        let head = &known.0;
        let mut state = (head.base.generation, head.base.commit, head.base.checksum);
        let (mut pages, mut base_pages) = (head.base.page_count, head.base.page_count);
        let mut changed = HashMap::new();
        for (at, segment) in (0..).zip(&segments) {
            let header = &segment.header;
            follows(&segment.name, header, head.incarnation, state)?;
            if header.page_size != head.page_size {
                return Err(Error::corrupt(&segment.name, "its pages have another size"));
            }
            state = (header.generation, header.commit, header.checksum);
            if header.page_count < pages {
                // What is cut off does not come back when the database grows again.
                changed.retain(|number, _| *number <= header.page_count);
                base_pages = base_pages.min(header.page_count);
            }
            pages = header.page_count;
            changed.extend((0..).zip(&segment.numbers).map(|(index, number)| (*number, (at, index))));
        }
        if (state, pages) != ((head.generation, head.commit, head.checksum), head.page_count) {
            return Err(Error::corrupt(HEAD, "its base and segments do not give what it says"));
        }
        let base_name = base_name(head.base.generation, head.base.commit);
        let base_id = Hex::of(base_name.as_bytes()).0;
        Ok(Self { base_name, base_id, segments, changed, base_pages, known })
    }

    pub(super) fn head(&self) -> &Head {
        &self.known.0
    }

    pub(super) fn page_size(&self) -> u32 {
        self.head().page_size
    }

    /// Where a page is, counted from 1.
    pub(super) fn place(&self, number: u32) -> Place {
        match self.changed.get(&number) {
            Some((segment, index)) => Place::Segment { segment: *segment as usize, index: *index as usize },
            None if (1..=self.base_pages).contains(&number) => {
                Place::Base(u64::from(number - 1) * u64::from(self.page_size()))
            }
            None => Place::Zeros,
        }
    }

    /// The names of what it has in files of the cache.
    pub(super) fn object_names(&self) -> impl Iterator<Item = String> {
        let index = self.head().index.map(|named| index_name(named.generation, named.id));
        self.segments.iter().map(|segment| segment.name.clone()).chain(index)
    }
}

/// The index that a head names, if it names one, or what is not there.
async fn index_of(home: &CachedHome, head: &Head) -> Result<Fetched<Option<Index>>> {
    let Some(named) = head.index else { return Ok(Ok(None)) };
    let name = index_name(named.generation, named.id);
    if let Some(bytes) = home.objects.load(&name) {
        if let Ok(index) = Index::decode(&bytes, &named, head.incarnation) {
            return Ok(Ok(Some(index)));
        }
        home.objects.forget(&name);
    }
    let Some(bytes) = home.source.rest(&name, Bytes::new()).await? else { return Ok(Err(name)) };
    let index = Index::decode(&bytes, &named, head.incarnation)?;
    home.objects.keep(&name, &bytes);
    Ok(Ok(Some(index)))
}

/// The length of a segment's object, as head and index tell.
fn length_of(link: &Link, head: &Head, index: Option<&Index>) -> u64 {
    if link.last > head.singles_from() {
        return head.commit_at(link.last).map_or(0, |(_, length)| length);
    }
    let merged = index.map(|index| index.merged.as_slice()).unwrap_or_default();
    let found = merged.binary_search_by_key(&link.last, |merged| merged.last).ok();
    found.and_then(|at| merged.get(at)).map_or(0, |merged| merged.bytes)
}
