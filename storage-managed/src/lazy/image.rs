//! A snapshot as SQLite reads it: a file of pages, each fetched when it is asked for.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use storage_managed_vfs::ReadAt;
use tokio::runtime::Handle;

use super::{
    blocks::{BLOCK, Key},
    cached::CachedHome,
    paged::PagedSegment,
    snapshot::{Place, Snapshot},
};
use crate::{
    content::Fetched,
    error::{Error, Result},
};

/// So many blocks of what was read last are kept in memory: half a megabyte for each connection.
const RECENT: usize = 8;
/// What is read in its order is fetched in ever larger parts, up to so many blocks, or frames.
const MAX_AHEAD: usize = 16;
/// Of so many objects it is remembered where reading goes on.
const MAX_SCANS: usize = 64;

/// Why a read failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// This object is not there any more.
    Missing(String),
    Error(Error),
}

/// What one connection reads.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) snapshot: Arc<Snapshot>,
    home: Arc<CachedHome>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    recent: VecDeque<(Key, Bytes)>,
    /// For each object where the next part begins if it is read in its order, and how large the last one was.
    scans: HashMap<u128, (usize, usize)>,
    failure: Option<Failure>,
}

impl Image {
    pub(super) fn new(snapshot: Arc<Snapshot>, home: Arc<CachedHome>) -> Self {
        Self { snapshot, home, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last read failed, if one did since this was asked.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.state().failure.take()
    }

    fn page_size(&self) -> usize {
        self.snapshot.page_size() as usize
    }

    /// Fills a part of a page, counted from 1.
    fn fill(&self, number: u32, from: usize, buffer: &mut [u8]) -> Result<Fetched<()>> {
        let place = self.snapshot.place(number);
        let Some((key, start)) = self.block_of(place) else {
            buffer.fill(0);
            return Ok(Ok(()));
        };
        let block = match self.known(key) {
            Some(block) => block,
            None => match self.fetch(place, key)? {
                Ok(block) => block,
                Err(missing) => return Ok(Err(missing)),
            },
        };
        let part = block.get(start + from..start + from + buffer.len());
        let part = part.ok_or_else(|| Error::corrupt(self.name_of(place), "it is cut short"))?;
        buffer.copy_from_slice(part);
        Ok(Ok(()))
    }

    fn segment(&self, segment: usize) -> Option<&PagedSegment> {
        self.snapshot.segments.get(segment).map(|segment| &**segment)
    }

    fn name_of(&self, place: Place) -> &str {
        match place {
            Place::Segment { segment, .. } => self.segment(segment).map_or("", |segment| &segment.name),
            Place::Base(_) | Place::Zeros => &self.snapshot.base_name,
        }
    }

    /// The block that a page is in, and where it begins there.
    fn block_of(&self, place: Place) -> Option<(Key, usize)> {
        match place {
            Place::Zeros => None,
            Place::Base(offset) => {
                let key = Key { object: self.snapshot.base_id, position: offset / BLOCK as u64 };
                Some((key, usize::try_from(offset % BLOCK as u64).ok()?))
            }
            Place::Segment { segment, index } => {
                let segment = self.segment(segment)?;
                let (frame, start) = segment.place(index);
                let position = frame * blocks_in(segment) + start / BLOCK;
                Some((Key { object: segment.id, position: position as u64 }, start % BLOCK))
            }
        }
    }

    /// A block that is in memory, or in the cache on disk.
    fn known(&self, key: Key) -> Option<Bytes> {
        let recent =
            self.state().recent.iter().find(|(known, _)| *known == key).map(|(_, block)| block.clone());
        recent.or_else(|| {
            let block = Bytes::from(self.home.blocks.get(key)?);
            self.remember(key, &block);
            Some(block)
        })
    }

    fn remember(&self, key: Key, block: &Bytes) {
        let mut state = self.state();
        state.recent.push_front((key, block.clone()));
        state.recent.truncate(RECENT);
    }

    /// Fetches the block that a page is in, and what is behind it where the object is read in its order.
    fn fetch(&self, place: Place, wanted: Key) -> Result<Fetched<Bytes>> {
        // SQLite reads where blocking is allowed.
        let runtime = Handle::try_current().map_err(|_| Error::Closed)?;
        let fetched = match place {
            Place::Segment { segment, index } => match self.segment(segment) {
                Some(segment) => runtime.block_on(self.fetch_frames(segment, segment.place(index).0)),
                None => Ok(Ok(Vec::new())),
            },
            Place::Base(_) | Place::Zeros => runtime.block_on(self.fetch_base(wanted)),
        };
        let blocks = match fetched? {
            Ok(blocks) => blocks,
            Err(missing) => return Ok(Err(missing)),
        };
        let mut found = None;
        for (key, block) in blocks {
            self.home.blocks.put(key, &block);
            if key == wanted {
                self.remember(key, &block);
                found = Some(block);
            }
        }
        found.map(Ok).ok_or_else(|| Error::corrupt(self.name_of(place), "it is cut short"))
    }

    async fn fetch_base(&self, wanted: Key) -> Result<Fetched<Vec<(Key, Bytes)>>> {
        let (name, length) = (&self.snapshot.base_name, self.snapshot.head().base_bytes());
        let all = usize::try_from(length.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        let first = usize::try_from(wanted.position).unwrap_or(usize::MAX);
        let key = |block: usize| Key { position: block as u64, ..wanted };
        let count = self.ahead(wanted.object, first, all, |block| self.home.blocks.contains(key(block)));
        let from = wanted.position * BLOCK as u64;
        let ask = ((count * BLOCK) as u64).min(length.saturating_sub(from));
        let Some((whole, bytes)) = self.home.source.range(name, from, ask).await? else {
            return Ok(Err(name.clone()));
        };
        if whole != length || bytes.len() as u64 != ask {
            return Err(Error::corrupt(name, format!("it has {whole} bytes instead of {length}")));
        }
        Ok(Ok((first..).zip(cut(&bytes)).map(|(block, bytes)| (key(block), bytes)).collect()))
    }

    async fn fetch_frames(&self, segment: &PagedSegment, first: usize) -> Result<Fetched<Vec<(Key, Bytes)>>> {
        let (blocks, all) = (blocks_in(segment), segment.numbers.len().div_ceil(segment.frame_pages()));
        let key = |block: usize| Key { object: segment.id, position: block as u64 };
        let is_cached = |frame: usize| self.home.blocks.contains(key(frame * blocks));
        let count = self.ahead(segment.id, first, all, is_cached);
        Ok(segment.frames(&self.home, first, count).await?.map(|frames| {
            let frames = (first..).zip(frames).flat_map(|(frame, pages)| {
                let bytes = Bytes::from(pages);
                (frame * blocks..).zip(cut(&bytes).collect::<Vec<_>>())
            });
            frames.map(|(block, bytes)| (key(block), bytes)).collect()
        }))
    }

    /// How many blocks, or frames, to fetch from `first` on.
    fn ahead(&self, object: u128, first: usize, all: usize, is_cached: impl Fn(usize) -> bool) -> usize {
        let mut state = self.state();
        let count = match state.scans.get(&object) {
            Some((next, last)) if *next == first => (last * 2).min(MAX_AHEAD),
            _ => 1,
        };
        let wanted = (first + 1..all).take(count - 1).take_while(|next| !is_cached(*next));
        let count = 1 + wanted.count();
        if state.scans.len() >= MAX_SCANS {
            state.scans.clear();
        }
        state.scans.insert(object, (first + count, count));
        count
    }
}

/// How many blocks a frame is cached in.
fn blocks_in(segment: &PagedSegment) -> usize {
    segment.frame_bytes().div_ceil(BLOCK)
}

fn cut(bytes: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    (0..bytes.len()).step_by(BLOCK).map(|at| bytes.slice(at..bytes.len().min(at + BLOCK)))
}

impl ReadAt for Image {
    fn length(&self) -> u64 {
        u64::from(self.snapshot.head().page_count) * u64::from(self.snapshot.page_size())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let page_size = self.page_size();
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let number = u32::try_from(at / page_size as u64 + 1).map_err(io::Error::other)?;
            let from = usize::try_from(at % page_size as u64).map_err(io::Error::other)?;
            let length = rest.len().min(page_size - from);
            let (part, behind) = rest.split_at_mut(length);
            let failure = match self.fill(number, from, part) {
                Ok(Ok(())) => None,
                Ok(Err(missing)) => Some(Failure::Missing(missing)),
                Err(error) => Some(Failure::Error(error)),
            };
            if failure.is_some() {
                self.state().failure = failure;
                return Err(io::ErrorKind::Other.into());
            }
            at += length as u64;
            rest = behind;
        }
        Ok(())
    }
}
