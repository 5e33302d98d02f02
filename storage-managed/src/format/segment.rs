//! `seg/…` and `merged/…`: the pages that one commit changed, or several.

use std::{io::Read, ops::Range};

use super::{
    Hex, Id, Preamble, Sums,
    header::{HASH_BYTES, SegmentHeader},
};
use crate::{
    content::Content,
    error::{Error, Result},
};

/// A generation, its commit and the checksum of the database then.
pub(crate) type State = (u64, Id, Hex);

/// A segment that is whole: its hash was right.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) numbers: Vec<u32>,
    name: String,
    content: Content,
    /// Where its compressed pages begin and end.
    pages: Range<u64>,
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
        let preamble = Preamble::of(name, &content, end)?.ok_or_else(cut)?;
        let Preamble { header, numbers, length, .. } = preamble;
        Ok(Self { header, numbers, name: name.to_owned(), pages: length..end, content })
    }

    /// What it leads to.
    pub(crate) fn state(&self) -> State {
        (self.header.generation, self.header.commit, self.header.checksum)
    }

    /// How many bytes its pages have.
    pub(crate) fn bytes(&self) -> u64 {
        self.numbers.len() as u64 * u64::from(self.header.page_size)
    }

    /// Checks that it changes what is there, as [`follows`] has it.
    pub(crate) fn follows(&self, incarnation: Id, state: State) -> Result<()> {
        follows(&self.name, &self.header, incarnation, state)
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

/// Checks that a segment changes what is there, the state at this generation. A merged one leads on from each generation
/// within it, too: what it changes is then told by what it gives.
pub(crate) fn follows(
    name: &str,
    header: &SegmentHeader,
    incarnation: Id,
    (generation, parent, checksum): State,
) -> Result<()> {
    let is_within = header.first() <= generation && generation < header.generation;
    let is_parent =
        header.first() == generation + 1 && (header.parent, header.parent_checksum) == (parent, checksum);
    if header.incarnation == incarnation && (is_parent || is_within) {
        return Ok(());
    }
    Err(Error::corrupt(name, "it does not follow on what is before it"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::format::header::FORMAT;

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
            first: None,
            frame_pages: None,
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
