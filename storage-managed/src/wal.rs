//! SQLite's write-ahead log: what was committed to it is read here, and what comes from the home is appended.
//!
//! The format is SQLite's own (<https://www.sqlite.org/fileformat2.html#walformat>) and stable: a header with a pair of
//! salts, then frames of one page each, chained by running checksums. A frame that carries a size of the database ends a
//! transaction.

mod index;

use std::{collections::BTreeMap, fs::File, io};

use serde::{Deserialize, Serialize};

pub(crate) use index::Index;

use crate::system::Positioned;

pub(crate) const HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// The running checksum of a log.
type Sum = (u32, u32);

/// A place between two transactions of a log: behind so many frames of the log with these salts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) salts: [u32; 2],
    pub(crate) frames: u64,
    sum: Sum,
}

/// A log's header.
#[derive(Debug, Clone, Copy)]
struct Header {
    big_endian: bool,
    page_size: u32,
    salts: [u32; 2],
    sum: Sum,
}

/// What was committed to a log behind a mark.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// The frame that holds the newest content of each page, counted from 0.
    pub(crate) frames: BTreeMap<u32, u64>,
    /// How many pages the database has, where anything was committed.
    pub(crate) page_count: Option<u32>,
    /// Behind the last transaction.
    pub(crate) end: Mark,
}

/// Reads what was committed behind `from`, up to a number of frames if there is one; from the beginning where the log is
/// another one. A log that ends before the mark is `None`: some of it was lost.
pub(crate) fn committed(log: &File, from: &Mark, until: Option<u64>) -> io::Result<Option<Committed>> {
    let Some(header) = Header::read(log)? else {
        return Ok(Some(Committed::default()));
    };
    // SQLite begins a log anew only where the whole of the earlier one is in the main file.
    let begin = match header.salts == from.salts && from.frames > 0 {
        true => *from,
        false => Mark { salts: header.salts, frames: 0, sum: header.sum },
    };
    let mut frame = vec![0; FRAME_HEADER_BYTES + header.page_size as usize];
    if begin.frames > 0 && !header.ends_at(log, &begin, &mut frame)? {
        return Ok(None);
    }
    let mut found = Committed { end: begin, ..Committed::default() };
    let (mut at, mut uncommitted) = (begin, BTreeMap::new());
    while until.is_none_or(|until| at.frames < until) {
        let Some((page, page_count)) = header.next(log, &mut at, &mut frame)? else { break };
        uncommitted.insert(page, at.frames - 1);
        if page_count > 0 {
            // Not `append`, which goes through all that is there each time.
            found.frames.extend(std::mem::take(&mut uncommitted));
            found.page_count = Some(page_count);
            found.end = at;
        }
    }
    Ok(Some(found))
}

/// Reads the page that a frame holds.
pub(crate) fn read_page(log: &File, frame: u64, page: &mut [u8]) -> io::Result<()> {
    log.read_exact_at(page, frame_offset(frame, page.len()) + FRAME_HEADER_BYTES as u64)
}

/// The size of the pages in a log; `None` where it is empty.
pub(crate) fn page_size(log: &File) -> io::Result<Option<u32>> {
    Ok(Header::read(log)?.map(|header| header.page_size))
}

/// Ends the log, durably, behind so many frames: the next one is not valid any more. It takes no room, which may be what
/// is missing.
pub(crate) fn cut(log: &File, frames: u64, page_size: u32) -> io::Result<()> {
    log.write_all_at(&[0; FRAME_HEADER_BYTES], frame_offset(frames, page_size as usize))?;
    log.sync_data()
}

/// Appends one transaction behind `at`, durably: pages in ascending order, then the database has `page_count` pages.
/// Whoever calls it holds SQLite's write lock. Returns the place behind it.
pub(crate) fn append(
    log: &File,
    at: &Mark,
    pages: &mut dyn Iterator<Item = io::Result<(u32, Vec<u8>)>>,
    page_size: u32,
    page_count: u32,
) -> io::Result<Mark> {
    let header = match Header::read(log)? {
        Some(header) => header,
        None => Header::begin(log, page_size)?,
    };
    if header.page_size != page_size || (at.frames > 0 && header.salts != at.salts) {
        return Err(io::Error::other("the write-ahead log is not the one that was expected"));
    }
    let mut at = match at.frames {
        0 => Mark { salts: header.salts, frames: 0, sum: header.sum },
        _ => *at,
    };
    let mut pages = pages.peekable();
    while let Some(page) = pages.next() {
        let (number, page) = page?;
        let ends = if pages.peek().is_none() { page_count } else { 0 };
        header.write(log, &mut at, number, ends, &page)?;
    }
    log.sync_all()?;
    Ok(at)
}

impl Header {
    /// The header of a log, where there is one that SQLite would take.
    fn read(log: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_BYTES as usize];
        match log.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            done => done?,
        }
        let magic = word(&bytes, 0);
        let big_endian = magic & 1 == 1;
        let sum = checksum(big_endian, (0, 0), bytes.get(..24).unwrap_or_default());
        let page_size = word(&bytes, 8);
        let valid = magic & !1 == MAGIC
            && word(&bytes, 4) == VERSION
            && (512..=65_536).contains(&page_size)
            && page_size.is_power_of_two()
            && sum == (word(&bytes, 24), word(&bytes, 28));
        let salts = [word(&bytes, 16), word(&bytes, 20)];
        Ok(valid.then_some(Self { big_endian, page_size, salts, sum }))
    }

    /// Begins an empty log.
    fn begin(log: &File, page_size: u32) -> io::Result<Self> {
        log.set_len(0)?;
        let salts = [fastrand::u32(..), fastrand::u32(..)];
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        // Checksums in the byte order of this machine, as SQLite makes them.
        let big_endian = cfg!(target_endian = "big");
        for word in [MAGIC | u32::from(big_endian), VERSION, page_size, 0, salts[0], salts[1]] {
            bytes.extend(word.to_be_bytes());
        }
        let sum = checksum(big_endian, (0, 0), &bytes);
        bytes.extend(sum.0.to_be_bytes());
        bytes.extend(sum.1.to_be_bytes());
        log.write_all_at(&bytes, 0)?;
        Ok(Self { big_endian, page_size, salts, sum })
    }

    /// Whether the frame before `mark` is the one that was there.
    fn ends_at(&self, log: &File, mark: &Mark, frame: &mut [u8]) -> io::Result<bool> {
        let whole = read_frame(log, mark.frames - 1, frame)?;
        let same = [word(frame, 8), word(frame, 12)] == self.salts;
        Ok(whole && same && (word(frame, 16), word(frame, 20)) == mark.sum)
    }

    /// The page number and the database's size of the frame behind `at`, if it is valid; `at` is then behind it.
    fn next(&self, log: &File, at: &mut Mark, frame: &mut [u8]) -> io::Result<Option<(u32, u32)>> {
        if !read_frame(log, at.frames, frame)? || [word(frame, 8), word(frame, 12)] != self.salts {
            return Ok(None);
        }
        let sum = self.sum_of(at.sum, frame);
        let number = word(frame, 0);
        if number == 0 || sum != (word(frame, 16), word(frame, 20)) {
            return Ok(None);
        }
        *at = Mark { frames: at.frames + 1, sum, ..*at };
        Ok(Some((number, word(frame, 4))))
    }

    fn write(&self, log: &File, at: &mut Mark, number: u32, page_count: u32, page: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + page.len());
        for word in [number, page_count, self.salts[0], self.salts[1], 0, 0] {
            frame.extend(word.to_be_bytes());
        }
        frame.extend(page);
        let sum = self.sum_of(at.sum, &frame);
        let sums = frame.get_mut(16..24).into_iter().flatten();
        sums.zip(sum.0.to_be_bytes().into_iter().chain(sum.1.to_be_bytes()))
            .for_each(|(to, byte)| *to = byte);
        log.write_all_at(&frame, frame_offset(at.frames, page.len()))?;
        *at = Mark { frames: at.frames + 1, sum, ..*at };
        Ok(())
    }

    /// The running checksum behind a frame: of the first 8 bytes of its header, and its page.
    fn sum_of(&self, before: Sum, frame: &[u8]) -> Sum {
        let sum = checksum(self.big_endian, before, frame.get(..8).unwrap_or_default());
        checksum(self.big_endian, sum, frame.get(FRAME_HEADER_BYTES..).unwrap_or_default())
    }
}

/// Reads a frame; false where the log ends within it.
fn read_frame(log: &File, index: u64, frame: &mut [u8]) -> io::Result<bool> {
    match log.read_exact_at(frame, frame_offset(index, frame.len() - FRAME_HEADER_BYTES)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        done => done.map(|()| true),
    }
}

fn frame_offset(index: u64, page_size: usize) -> u64 {
    HEADER_BYTES + index * (FRAME_HEADER_BYTES + page_size) as u64
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_be_bytes(*word))
}

fn checksum(big_endian: bool, mut sum: Sum, bytes: &[u8]) -> Sum {
    let number = |word: &[u8; 4]| match big_endian {
        true => u32::from_be_bytes(*word),
        false => u32::from_le_bytes(*word),
    };
    for pair in bytes.chunks_exact(8) {
        if let (Some(one), Some(two)) = (pair.first_chunk(), pair.last_chunk()) {
            sum.0 = sum.0.wrapping_add(number(one)).wrapping_add(sum.1);
            sum.1 = sum.1.wrapping_add(number(two)).wrapping_add(sum.0);
        }
    }
    sum
}

#[cfg(test)]
mod tests;
