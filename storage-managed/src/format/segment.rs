//! `seg/…`: the pages that one commit changed.

use std::{
    io::{self, Read, Write},
    ops::Range,
};

use serde::{Deserialize, Serialize};

use super::{Hex, Id, Sums};
use crate::{
    content::Content,
    error::{Error, Result},
};

/// The format that this release writes and reads.
pub(crate) const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"agentseg";
const HASH_BYTES: usize = 32;
/// Quick, and what does not compress stays as long as it is.
const LEVEL: i32 = 3;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentHeader {
    pub(crate) format: u32,
    pub(crate) incarnation: Id,
    pub(crate) generation: u64,
    pub(crate) commit: Id,
    pub(crate) parent: Id,
    pub(crate) page_size: u32,
    pub(crate) page_count: u32,
    pub(crate) parent_checksum: Hex,
    pub(crate) checksum: Hex,
    /// How many pages it holds.
    pub(crate) pages: u32,
}

/// A segment that is whole: its hash was right.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    numbers: Vec<u32>,
    name: String,
    content: Content,
    /// Where its compressed pages begin and end.
    pages: Range<u64>,
}

impl SegmentHeader {
    /// A segment of these pages, in ascending order.
    pub(crate) fn encode(
        &self,
        numbers: &[u32],
        mut read: impl FnMut(u32, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let header = serde_json::to_vec(self)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(header);
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let mut encoder = zstd::Encoder::new(bytes, LEVEL)?;
        let mut page = vec![0; self.page_size as usize];
        for number in numbers {
            read(*number, &mut page)?;
            encoder.write_all(&page)?;
        }
        let mut bytes = encoder.finish()?;
        bytes.extend(blake3::hash(&bytes).as_bytes());
        Ok(bytes)
    }
}

impl Segment {
    /// Reads and checks a segment, which may be larger than memory.
    pub(crate) fn decode(name: &str, content: Content) -> Result<Self> {
        let corrupt = |problem: &str| Error::corrupt(name, problem);
        let cut = || corrupt("it is cut short");
        let unread = |error| Error::io("read what was fetched of", name)(error);
        let end = content.length().map_err(unread)?.checked_sub(HASH_BYTES as u64).ok_or_else(cut)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(content.range(0..end)).map_err(unread)?;
        let hash = content.bytes(end..end + HASH_BYTES as u64).map_err(unread)?;
        if hasher.finalize().as_bytes() != hash.as_slice() {
            return Err(corrupt("its hash is wrong"));
        }
        // Each is looked at only where it can be whole.
        let mut at = 0;
        let mut next = |length: u64| {
            let range = at..at + length;
            at = range.end;
            if range.end <= end { content.bytes(range).map_err(unread) } else { Err(cut()) }
        };
        if next(MAGIC.len() as u64)? != MAGIC {
            return Err(corrupt("it is no segment"));
        }
        let length = next(4)?.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let header: SegmentHeader = serde_json::from_slice(&next(length.into())?)
            .map_err(|_| corrupt("its header cannot be read"))?;
        if header.format != FORMAT {
            return Err(Error::Unsupported(format!("`{name}` is of format {}", header.format)));
        }
        let numbers = next(u64::from(header.pages) * 4)?;
        let numbers: Vec<u32> =
            numbers.chunks_exact(4).filter_map(|n| n.first_chunk().map(|n| u32::from_le_bytes(*n))).collect();
        if !numbers.is_sorted_by(|one, two| one < two)
            || numbers.first() == Some(&0)
            || numbers.last().is_some_and(|last| *last > header.page_count)
        {
            return Err(corrupt("its page numbers are not in order"));
        }
        Ok(Self { header, numbers, name: name.to_owned(), pages: at..end, content })
    }

    /// How many bytes its pages have.
    pub(crate) fn bytes(&self) -> u64 {
        self.numbers.len() as u64 * u64::from(self.header.page_size)
    }

    /// Checks that it changes what is there.
    pub(crate) fn follows(&self, incarnation: Id, parent: Id, checksum: Hex) -> Result<()> {
        let header = &self.header;
        if (header.incarnation, header.parent, header.parent_checksum) == (incarnation, parent, checksum) {
            return Ok(());
        }
        Err(Error::corrupt(&self.name, "it does not follow on what is before it"))
    }

    /// Checks that its pages gave what it says.
    pub(crate) fn gives(&self, sums: &Sums) -> Result<()> {
        if sums.total() == self.header.checksum {
            return Ok(());
        }
        Err(Error::corrupt(&self.name, "its pages are not what it says"))
    }

    /// Hands out its pages.
    pub(crate) fn each(&self, mut page: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        let corrupt = |_| Error::Corrupt {
            object: self.name.clone(),
            problem: "its pages cannot be unpacked".to_owned(),
        };
        let mut decoder = zstd::Decoder::new(self.content.range(self.pages.clone())).map_err(corrupt)?;
        let mut content = vec![0; self.header.page_size as usize];
        for number in &self.numbers {
            decoder.read_exact(&mut content).map_err(corrupt)?;
            page(*number, &content)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_is_noticed_and_named() {
        let header = SegmentHeader {
            format: FORMAT,
            incarnation: Hex(1),
            generation: 5,
            commit: Hex(2),
            parent: Hex(3),
            page_size: 512,
            page_count: 9,
            parent_checksum: Hex(4),
            checksum: Hex(5),
            pages: 2,
        };
        let fill = |number: u32, page: &mut [u8]| {
            page.fill(u8::try_from(number).unwrap());
            Ok(())
        };
        let bytes = header.encode(&[4, 9], fill).unwrap();
        let in_memory = |bytes: &[u8]| Content::Memory(bytes.to_vec().into());
        let in_file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            Content::File(file)
        };
        for content in [in_memory(&bytes), in_file(&bytes)] {
            let segment = Segment::decode("seg/5", content).unwrap();
            assert_eq!(segment.header, header);
            let mut seen = Vec::new();
            segment
                .each(|number, page| {
                    seen.push((number, page[0], page.len()));
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, [(4, 4, 512), (9, 9, 512)]);
        }
        let refused = |bytes: &[u8]| {
            for content in [in_memory(bytes), in_file(bytes)] {
                let error = Segment::decode("seg/5", content).unwrap_err();
                assert!(matches!(error, Error::Corrupt { object, .. } if object == "seg/5"));
            }
        };
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            refused(&damaged);
            refused(&bytes[..at]);
        }
    }
}
