//! What is kept in the home.

mod head;
mod pages;
mod segment;

use std::{fmt, hash::BuildHasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(crate) use head::{Base, FORMAT, Head, MAX_FOLDS, NAME as HEAD, base_name, segment_name};
pub(crate) use pages::{Sums, page_sum};
pub(crate) use segment::{Segment, SegmentHeader};

/// 128 bits that are written as 32 hexadecimal digits: an id, or a checksum.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Hex(pub(crate) u128);

/// Names an incarnation of a home, or a commit.
pub(crate) type Id = Hex;

impl Hex {
    /// An id that nobody else has: the keys of the standard library's hasher are random numbers of the system.
    pub(crate) fn random() -> Self {
        let half = |n: u8| u128::from(std::hash::RandomState::new().hash_one(n));
        Self(half(0) << 64 | half(1))
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
