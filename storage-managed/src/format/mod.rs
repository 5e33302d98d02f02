//! What is kept in the home.

mod beginnings;
mod head;
mod header;
mod index;
mod merged;
mod names;
mod pages;
mod segment;

use std::{fmt, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

#[cfg(feature = "lazy")]
pub(crate) use beginnings::CHECK;
pub(crate) use beginnings::{Beginning, Large, LargeRef};
pub(crate) use head::{Base, Head, IndexRef, NAME as HEAD};
pub(crate) use header::{FORMAT as SEGMENT_FORMAT, PAGED as PAGED_FORMAT, SegmentHeader};
pub(crate) use index::{Index, Merged};
pub(crate) use merged::{Preamble, write_paged};
pub(crate) use names::{HOLD, HeldCopy, MERGED, Named};
pub(crate) use names::{
    base_name, base_prefix, beginnings_name, index_name, merged_name, parse_name, segment_name,
    segment_prefix,
};
pub(crate) use pages::{Sums, page_sum};
pub(crate) use segment::Segment;
#[cfg(feature = "lazy")]
pub(crate) use segment::follows;

/// 128 bits that are written as 32 hexadecimal digits: an id, or a checksum.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hex(pub(crate) u128);

/// Names an incarnation of a home, or a commit.
pub(crate) type Id = Hex;

impl Hex {
    /// An id that nobody else has, nor will: from the kernel each time, since whatever a process keeps to make numbers of
    /// is repeated by its fork, and by a clone of its machine.
    ///
    /// # Errors
    /// [`Error::Io`] where the system has none.
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        let filled = getrandom::fill(&mut bytes).map_err(io::Error::other);
        filled.map_err(Error::io("take random numbers from", "the system"))?;
        Ok(Self(u128::from_le_bytes(bytes)))
    }

    /// The checksum of a text: the first 16 bytes of BLAKE3.
    pub(crate) fn of(text: &[u8]) -> Self {
        Self(blake3::hash(text).as_bytes().first_chunk().map_or(0, |sum| u128::from_le_bytes(*sum)))
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match u128::from_str_radix(&text, 16) {
            Ok(number) if text.len() == 32 => Ok(Self(number)),
            _ => Err(de::Error::custom("expected 32 hexadecimal digits")),
        }
    }
}
