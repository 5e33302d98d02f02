//! How a payload stands in the body of an item: whole where it is small, else as the root of its tree of chunks.

use std::sync::Arc;

use bytes::Bytes;
use storage_core::{Error, ErrorKind, Result};

use super::{
    chunks::{Cut, INLINE_BYTES, hashes, join_hashes, split_hashes},
    layout::corrupt,
    types::Payload,
};

const ABSENT: u8 = 0;
const NO_BYTES: u8 = 1;
const INLINE: u8 = 2;
const TREE: u8 = 3;

const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Shorter ones gain nothing from compression.
const LEAST_COMPRESSED: usize = 96;
/// No chunk is larger; a damaged one must not ask for more memory.
const MOST_DECOMPRESSED: u32 = 64 * 1024 * 1024;

/// A payload that is ready to be stored.
#[derive(Debug)]
pub(super) enum Prepared {
    /// The channel is empty.
    Absent,
    /// A payload without bytes.
    NoBytes,
    /// A small one.
    Inline(Bytes),
    /// A large one.
    Tree(Arc<Cut>),
}

impl Prepared {
    /// Cuts a payload where it is large.
    pub(super) fn of(payload: Option<&Payload>, cut: impl FnOnce(&Bytes) -> Arc<Cut>) -> Self {
        match payload.map(|payload| &payload.bytes) {
            None => Self::Absent,
            Some(None) => Self::NoBytes,
            Some(Some(bytes)) => Self::bytes(bytes, cut),
        }
    }

    pub(super) fn bytes(bytes: &Bytes, cut: impl FnOnce(&Bytes) -> Arc<Cut>) -> Self {
        if bytes.len() <= INLINE_BYTES { Self::Inline(bytes.clone()) } else { Self::Tree(cut(bytes)) }
    }

    /// Whether it is what was found.
    pub(super) fn is(&self, found: &Record) -> bool {
        match (self, found) {
            (Self::Absent, Record::Absent) | (Self::NoBytes, Record::NoBytes) => true,
            (Self::Inline(bytes), Record::Inline(found)) => bytes == found,
            (Self::Tree(cut), Record::Tree { depth, bytes, root }) => {
                (cut.depth(), cut.bytes() as u64) == (usize::from(*depth), *bytes)
                    && hashes(cut.root()).eq(root.iter().copied())
            }
            _ => false,
        }
    }

    /// How many bytes were cut anew.
    pub(super) fn fresh(&self) -> usize {
        if let Self::Tree(cut) = self { cut.fresh } else { 0 }
    }

    pub(super) fn record(&self, packer: &mut Packer) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Absent => vec![ABSENT],
            Self::NoBytes => vec![NO_BYTES],
            Self::Inline(bytes) => {
                let mut record = vec![INLINE];
                record.extend(packer.pack(bytes)?);
                record
            }
            Self::Tree(cut) => {
                let mut record = vec![TREE, u8::try_from(cut.depth()).unwrap_or(u8::MAX)];
                record.extend((cut.bytes() as u64).to_be_bytes());
                record.extend(join_hashes(hashes(cut.root())));
                record
            }
        })
    }
}

/// A payload as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Absent,
    NoBytes,
    Inline(Bytes),
    Tree { depth: u8, bytes: u64, root: Vec<u128> },
}

impl Record {
    /// The record that is the body of the item at `sort`.
    pub(super) fn decode(sort: &str, body: &Bytes) -> Result<Self> {
        Self::parse(body).ok_or_else(|| corrupt(sort))
    }

    fn parse(body: &Bytes) -> Option<Self> {
        match (*body.first()?, body.len()) {
            (ABSENT, 1) => Some(Self::Absent),
            (NO_BYTES, 1) => Some(Self::NoBytes),
            (INLINE, _) => unpack(&body.slice(1..)).map(Self::Inline),
            (TREE, 10..) => Some(Self::Tree {
                depth: *body.get(1)?,
                bytes: u64::from_be_bytes(*body.get(2..)?.first_chunk()?),
                root: split_hashes(body.get(10..)?)?,
            }),
            _ => None,
        }
    }
}

/// Compresses what gets smaller by it.
pub(super) struct Packer(Option<zstd::bulk::Compressor<'static>>);

impl Packer {
    pub(super) fn new(level: Option<i32>) -> Result<Self> {
        let refused = |error| Error::config("zstd refuses the compression level").with_source(error);
        Ok(Self(level.map(zstd::bulk::Compressor::new).transpose().map_err(refused)?))
    }

    pub(super) fn pack(&mut self, bytes: &Bytes) -> Result<Bytes> {
        if let Some(compressor) = self.0.as_mut().filter(|_| bytes.len() >= LEAST_COMPRESSED) {
            let failed = |_| Error::new(ErrorKind::Unavailable, "zstd cannot compress a payload");
            let compressed = compressor.compress(bytes).map_err(failed)?;
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if compressed.len() + 4 < bytes.len() && length <= MOST_DECOMPRESSED {
                return Ok([&[ZSTD], length.to_be_bytes().as_slice(), &compressed].concat().into());
            }
        }
        Ok([&[RAW], bytes.as_ref()].concat().into())
    }
}

/// What [`Packer::pack`] packed; `None` where the bytes are damaged.
pub(super) fn unpack(packed: &Bytes) -> Option<Bytes> {
    match *packed.first()? {
        RAW => Some(packed.slice(1..)),
        ZSTD => {
            let length = u32::from_be_bytes(*packed.get(1..)?.first_chunk()?);
            let room = usize::try_from(length).ok().filter(|_| length <= MOST_DECOMPRESSED)?;
            let bytes = zstd::bulk::decompress(packed.get(5..)?, room).ok()?;
            (bytes.len() == room).then(|| bytes.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(bytes in prop::collection::vec(0u8..4, 0..600), level in prop::option::of(1i32..5)) {
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(unpack(&Packer::new(level).unwrap().pack(&bytes).unwrap()), Some(bytes));
        }

        #[test]
        fn damaged_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            let _ = (unpack(&bytes), Record::parse(&bytes));
        }
    }

    #[test]
    fn records_tell_nothing_no_bytes_and_empty_bytes_apart() {
        let record = |payload: Option<&Payload>| {
            let cut = |bytes: &Bytes| Arc::new(Cut::of(bytes, None));
            let body = Prepared::of(payload, cut).record(&mut Packer::new(None).unwrap()).unwrap();
            Record::decode("v", &body.into()).unwrap()
        };
        assert_eq!(record(None), Record::Absent);
        assert_eq!(record(Some(&Payload { kind: "null".into(), bytes: None })), Record::NoBytes);
        assert_eq!(record(Some(&Payload::new("bytes", ""))), Record::Inline(Bytes::new()));
        let large = Payload::new("bytes", vec![7; 100_000]);
        assert!(matches!(record(Some(&large)), Record::Tree { bytes: 100_000, .. }));
    }
}
