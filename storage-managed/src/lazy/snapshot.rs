//! One generation of a database: where each of its pages is.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{cached::CachedHome, paged::PagedSegment};
use crate::{
    content::Fetched,
    error::{Error, Result},
    format::{Beginning, HEAD, Head, Hex, Index, Large, LargeRef, base_name, follows, index_name},
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
    large: Option<LargeRef>,
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
        let chain = links(head, index.as_ref(), head.base.generation);
        let mut told = Told::new(head, index.as_ref())?;
        if chain.iter().any(|link| known_segment(link).is_none() && told.is_large(link)) {
            told.read_large(home).await?;
        }
        let opening = chain.into_iter().map(|link| {
            let (segment, told) = (known_segment(&link), &told);
            async move {
                if let Some(segment) = segment {
                    return Ok(Ok(segment));
                }
                let opened = match told.segment(link)? {
                    Some(segment) => Ok(segment),
                    None => PagedSegment::open(home, link, told.length_of(&link)).await?,
                };
                Ok::<_, Error>(opened.map(Arc::new))
            }
        });
        let opening: Vec<_> = opening.collect();
        let opened: Vec<_> = stream::iter(opening).buffered(at_once).try_collect().await?;
        let large = index.as_ref().and_then(|index| index.large);
        match opened.into_iter().collect::<Fetched<Vec<_>>>() {
            Ok(segments) => Self::of(known, segments, large).map(Ok),
            Err(missing) => Ok(Err(missing)),
        }
    }

    /// Checks that the segments lead from the base to the head, and notes which pages they hold.
    fn of(known: Known, segments: Vec<Arc<PagedSegment>>, large: Option<LargeRef>) -> Result<Self> {
        let head = &known.0;
        let mut state = (head.base.generation, head.base.commit, head.base.checksum);
        let (mut pages, mut base_pages) = (head.base.page_count, head.base.page_count);
        // Of segments whose pages the head names it is not known what they give, but that they do not cut.
        let mut is_known = true;
        let mut changed = HashMap::new();
        for (at, segment) in (0..).zip(&segments) {
            if segment.page_size != head.page_size {
                return Err(Error::corrupt(&segment.name, "its pages have another size"));
            }
            if let Some(header) = &segment.header {
                if !is_known {
                    state.2 = header.parent_checksum;
                }
                follows(&segment.name, header, head.incarnation, state)?;
                if header.page_count < pages || !is_known {
                    // What is cut off does not come back when the database grows again.
                    changed.retain(|number, _| *number <= header.page_count);
                    base_pages = base_pages.min(header.page_count);
                }
                (state.2, pages) = (header.checksum, header.page_count);
            }
            is_known = segment.header.is_some();
            (state.0, state.1) = (segment.link.last, segment.link.commit);
            changed.extend((0..).zip(&segment.numbers).map(|(index, number)| (*number, (at, index))));
        }
        let given = (state.2, pages) == (head.checksum, head.page_count);
        if (state.0, state.1) != (head.generation, head.commit) || is_known && !given {
            return Err(Error::corrupt(HEAD, "its base and segments do not give what it says"));
        }
        let base_name = base_name(head.base.generation, head.base.commit);
        let base_id = Hex::of(base_name.as_bytes()).0;
        Ok(Self { base_name, base_id, segments, changed, base_pages, known, large })
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
        self.segments
            .iter()
            .map(|segment| segment.name.clone())
            .chain(index)
            .chain(self.large.map(|large| large.name()))
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

/// What head and index tell of the segments.
struct Told<'a> {
    head: &'a Head,
    index: Option<&'a Index>,
    beginnings: Vec<Option<Beginning>>,
    large: Large,
}

impl<'a> Told<'a> {
    fn new(head: &'a Head, index: Option<&'a Index>) -> Result<Self> {
        let unread = || Error::corrupt("index", "it does not tell how its segments begin");
        let beginnings = index.map_or(Some(Vec::new()), Index::beginnings).ok_or_else(unread)?;
        Ok(Self { head, index, beginnings, large: Large::default() })
    }

    /// Where it stands in the index.
    fn place(&self, link: &Link) -> Option<usize> {
        let found = self.index?.merged.binary_search_by_key(&link.last, |merged| merged.last);
        found.ok().filter(|_| link.last <= self.head.singles_from())
    }

    /// Whether it is a segment of which something else tells how it begins.
    fn is_large(&self, link: &Link) -> bool {
        let tells =
            self.index.and_then(|index| index.large).is_some_and(|large| link.last <= large.generation);
        let is_told = |place: usize| self.beginnings.get(place).is_some_and(Option::is_some);
        tells && self.place(link).is_some_and(|place| !is_told(place))
    }

    /// Reads how large segments begin. Where that is gone, it is not told.
    async fn read_large(&mut self, home: &CachedHome) -> Result<()> {
        let Some(named) = self.index.and_then(|index| index.large) else { return Ok(()) };
        let name = named.name();
        let here = home.objects.load(&name).and_then(|bytes| Large::decode(&bytes, &named).ok());
        if let Some(large) = here {
            self.large = large;
        } else if let Some(bytes) = home.source.rest(&name, Bytes::new()).await? {
            self.large = Large::decode(&bytes, &named)?;
            home.objects.keep(&name, &bytes);
        }
        Ok(())
    }

    /// A segment of which enough is told to ask for its pages.
    fn segment(&self, link: Link) -> Result<Option<PagedSegment>> {
        if let Some(numbers) = self.head.pages_at(link.last) {
            return Ok(Some(PagedSegment::named(link, self.head.page_size, numbers)));
        }
        let beginning = self.place(&link).and_then(|place| self.beginnings.get(place)?.as_ref());
        let beginning = beginning.or_else(|| self.large.0.get(&link.last));
        beginning.map(|beginning| PagedSegment::told(link, beginning)).transpose()
    }

    /// The length of a segment's object.
    fn length_of(&self, link: &Link) -> u64 {
        let length = match self.place(link) {
            Some(place) => self.index.and_then(|index| index.merged.get(place)).map(|merged| merged.bytes),
            None => self.head.commit_at(link.last).map(|(_, length)| length),
        };
        length.unwrap_or_default()
    }
}
