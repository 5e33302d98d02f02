//! A segment of which only the page numbers are in memory: its pages are read frame by frame.

use std::{io::Read, ops::Range};

use bytes::Bytes;

use super::cached::CachedHome;
use crate::{
    content::{Content, Fetched},
    error::{Error, Result},
    format::{Beginning, CHECK, Hex, Preamble, Segment, SegmentHeader},
    rebuild::Link,
    remote::MAX_PREAMBLE,
};

/// What is not larger is fetched with its pages: asking for them later would cost more than they do.
const WHOLE: u64 = 128 * 1024;
/// So much of a larger one is asked for first: the numbers of some 14,000 pages.
const FIRST_LOOK: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct PagedSegment {
    pub(super) link: Link,
    pub(super) name: String,
    /// The hash of its name.
    pub(super) id: u128,
    /// What it says of itself, where that is known: of one whose pages the head names it is told by its pages.
    pub(super) header: Option<SegmentHeader>,
    pub(super) page_size: u32,
    pub(super) numbers: Vec<u32>,
    /// Where frames end, counted from where the first begins; none where all pages are one that cannot be read alone.
    ends: Vec<u64>,
    /// What frames end with, where the index tells: that the object is the one which it tells of is not known otherwise.
    checks: Vec<[u8; CHECK]>,
    begin: u64,
    frame_pages: usize,
    /// All of it may be in the cache on disk.
    is_here: bool,
}

impl PagedSegment {
    /// Reads what stands before its pages, from the cache or the home.
    pub(super) async fn open(home: &CachedHome, link: Link, length: u64) -> Result<Fetched<Self>> {
        let name = link.name();
        if let Some(bytes) = home.objects.load(&name) {
            match Self::parse(link, bytes.into()) {
                Ok(segment) => return Ok(Ok(segment)),
                Err(error) => tracing::debug!(%error, "what is cached is fetched again"),
            }
            home.objects.forget(&name);
        }
        let ask = if length <= WHOLE { WHOLE } else { FIRST_LOOK };
        let Some((whole, mut bytes)) = home.source.range(&name, 0, ask).await? else { return Ok(Err(name)) };
        while (bytes.len() as u64) < whole {
            let more = match Preamble::parse(&name, &bytes)? {
                Some(preamble) if preamble.is_checked() => {
                    bytes.truncate(usize::try_from(preamble.length).unwrap_or(usize::MAX));
                    break;
                }
                // Its one hash is at its end.
                Some(_) => home.source.rest(&name, bytes).await?,
                None if bytes.len() > MAX_PREAMBLE => break,
                None => {
                    let (here, ask) = (bytes.len() as u64, bytes.len() as u64 * 3);
                    let more = home.source.range(&name, here, ask).await?;
                    more.map(|(_, more)| [bytes, more].concat().into())
                }
            };
            let Some(more) = more else { return Ok(Err(name)) };
            bytes = more;
        }
        let segment = Self::parse(link, bytes.clone())?;
        home.objects.keep(&name, &bytes);
        Ok(Ok(segment))
    }

    /// One of which the index tells how it begins.
    pub(super) fn told(link: Link, beginning: &Beginning) -> Result<Self> {
        let name = link.name();
        let (preamble, checks) = beginning.parse(&name)?;
        Ok(Self { checks, ..Self::new(link, name, preamble, 0)? })
    }

    /// One that is read as a whole, and changes the pages that the head names.
    pub(super) fn named(link: Link, page_size: u32, numbers: &[u32]) -> Self {
        let name = link.name();
        let (id, frame_pages) = (Hex::of(name.as_bytes()).0, numbers.len().max(1));
        Self {
            link,
            name,
            id,
            header: None,
            page_size,
            numbers: numbers.to_vec(),
            ends: Vec::new(),
            checks: Vec::new(),
            begin: 0,
            frame_pages,
            is_here: true,
        }
    }

    fn parse(link: Link, bytes: Bytes) -> Result<Self> {
        let (name, here) = (link.name(), bytes.len() as u64);
        let preamble =
            Preamble::parse(&name, &bytes)?.ok_or_else(|| Error::corrupt(&name, "it is cut short"))?;
        if !preamble.is_checked() {
            Segment::decode(&name, Content::Memory(bytes))?;
        }
        Self::new(link, name, preamble, here)
    }

    /// Of what stands before its pages, where so many of its bytes are here.
    fn new(link: Link, name: String, preamble: Preamble, here: u64) -> Result<Self> {
        let Preamble { header, numbers, frames: ends, length: begin } = preamble;
        check_link(&name, &header, link)?;
        let frame_pages = header.frame_pages.map_or(numbers.len(), |pages| pages as usize).max(1);
        let is_here = ends.is_empty() || begin + ends.last().copied().unwrap_or_default() <= here;
        let (id, page_size) = (Hex::of(name.as_bytes()).0, header.page_size);
        let header = Some(header);
        Ok(Self {
            link,
            name,
            id,
            header,
            page_size,
            numbers,
            ends,
            checks: Vec::new(),
            begin,
            frame_pages,
            is_here,
        })
    }

    /// The frame that a page is in, counted among its pages, and where it begins there.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        (index / self.frame_pages, index % self.frame_pages * self.page_size as usize)
    }

    pub(super) fn frame_pages(&self) -> usize {
        self.frame_pages
    }

    /// How many bytes the pages of a frame have, but for the last one.
    pub(super) fn frame_bytes(&self) -> usize {
        self.frame_pages * self.page_size as usize
    }

    /// The pages of a frame, and of as many behind it as there are and were asked for: one request at most.
    pub(super) async fn frames(
        &self,
        home: &CachedHome,
        first: usize,
        count: usize,
    ) -> Result<Fetched<Vec<Vec<u8>>>> {
        if self.is_here {
            match self.frames_here(home, first, count) {
                Some(Ok(frames)) => return Ok(Ok(frames)),
                // It was verified once: the disk has damaged it since.
                Some(Err(_)) => home.objects.forget(&self.name),
                None => {}
            }
        }
        if self.ends.is_empty() {
            let Some(bytes) = home.source.rest(&self.name, Bytes::new()).await? else {
                return Ok(Err(self.name.clone()));
            };
            let pages = self.all_pages(bytes.clone())?;
            home.objects.keep(&self.name, &bytes);
            return Ok(Ok(vec![pages]));
        }
        let Range { start, end } = self.range(first, count);
        match home.source.range(&self.name, start, end - start).await? {
            Some((_, bytes)) => self.unpack(first, count, &bytes).map(Ok),
            None => Ok(Err(self.name.clone())),
        }
    }

    fn frames_here(&self, home: &CachedHome, first: usize, count: usize) -> Option<Result<Vec<Vec<u8>>>> {
        if self.ends.is_empty() {
            let bytes = home.objects.load(&self.name)?;
            return Some(self.all_pages(bytes.into()).map(|pages| vec![pages]));
        }
        let Range { start, end } = self.range(first, count);
        let bytes = home.objects.load_range(&self.name, start, usize::try_from(end - start).ok()?)?;
        Some(self.unpack(first, count, &bytes))
    }

    /// Where frame `index` ends, counted from where the first begins.
    fn end(&self, index: usize) -> u64 {
        self.ends.get(index).or(self.ends.last()).copied().unwrap_or_default()
    }

    fn start(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.end(before))
    }

    fn range(&self, first: usize, count: usize) -> Range<u64> {
        self.begin + self.start(first)..self.begin + self.end(first + count - 1)
    }

    fn unpack(&self, first: usize, count: usize, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let origin = self.start(first);
        let last = (first + count).min(self.ends.len());
        let frame = |index: usize| {
            let at = |place: u64| usize::try_from(place - origin).unwrap_or(usize::MAX);
            let packed = bytes.get(at(self.start(index))..at(self.end(index)));
            let pages = self.numbers.len().saturating_sub(index * self.frame_pages).min(self.frame_pages);
            let check = self.checks.get(index);
            let packed = packed.filter(|packed| check.is_none_or(|check| packed.ends_with(check)));
            packed.and_then(|packed| unpacked(packed, pages * self.page_size as usize))
        };
        let refused = || Error::corrupt(&self.name, "its pages cannot be unpacked");
        (first..last).map(|index| frame(index).ok_or_else(refused)).collect()
    }

    /// All pages of one that is a single frame, checked by the hash of the whole.
    fn all_pages(&self, bytes: Bytes) -> Result<Vec<u8>> {
        let segment = Segment::decode(&self.name, Content::Memory(bytes))?;
        check_link(&self.name, &segment.header, self.link)?;
        if (segment.header.page_size, &segment.numbers) != (self.page_size, &self.numbers) {
            return Err(Error::corrupt(&self.name, "it does not change the pages that the head names"));
        }
        let mut pages = Vec::new();
        segment.each(|_, page| {
            pages.extend_from_slice(page);
            Ok(())
        })?;
        Ok(pages)
    }
}

/// Whether a segment is the one that it is named as.
fn check_link(name: &str, header: &SegmentHeader, link: Link) -> Result<()> {
    let found = Link { first: header.first(), last: header.generation, commit: header.commit };
    if found == link { Ok(()) } else { Err(Error::corrupt(name, "it is of another commit")) }
}

/// A frame of exactly so many bytes, whose checksum is right.
fn unpacked(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more: the checksum is looked at behind the last.
    let decoder = zstd::Decoder::with_buffer(packed).ok()?.single_frame();
    decoder.take(length as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() == length).then_some(bytes)
}
