//! SQLite's index of the log, for what SQLite itself takes for committed.
//!
//! The format is documented (<https://www.sqlite.org/walformat.html>): two copies of a header of 48 bytes in the byte order of
//! the machine, then what is found in the log by page.

use std::{fs::File, io};

use crate::system::Positioned;

const HEADER_BYTES: usize = 48;
/// Behind both headers: how many frames are in the main file.
const MOVED_BYTES: usize = 4;
/// A writer changes the copies one after the other, within an instant.
const TRIES: u32 = 1_000;

/// What the index says of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Index {
    /// Counts transactions, whoever commits them. Writing back the log does not change it.
    pub(crate) changes: u32,
    /// How many frames of the log are committed.
    pub(crate) frames: u64,
    /// How many of them a checkpoint has moved to the main file.
    pub(crate) moved: u64,
}

impl Index {
    /// Reads it while SQLite has it open and in order.
    pub(crate) fn read(index: &File) -> io::Result<Self> {
        let mut bytes = [0; 2 * HEADER_BYTES + MOVED_BYTES];
        for _ in 0..TRIES {
            index.read_exact_at(&mut bytes, 0)?;
            let (headers, moved) = bytes.split_at(2 * HEADER_BYTES);
            let (one, two) = headers.split_at(HEADER_BYTES);
            if one == two && one.get(12) == Some(&1) {
                let (frames, moved) = (u64::from(word(one, 16)), u64::from(word(moved, 0)));
                return Ok(Self { changes: word(one, 8), frames, moved });
            }
            std::thread::yield_now();
        }
        Err(io::Error::other("the index of the log is not in order"))
    }

    /// Lets SQLite read the log again at its next access. Snapshots stay: they are by the number of frames. Whoever calls
    /// it holds SQLite's write lock.
    pub(crate) fn forget(index: &File) -> io::Result<()> {
        index.write_all_at(&[0; 2 * HEADER_BYTES], 0)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_ne_bytes(*word))
}
