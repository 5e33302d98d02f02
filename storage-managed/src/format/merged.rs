//! Segments in a file, whose pages can be read one by one: what stands before the pages has a hash of its own, so that a
//! part of the object is worth something.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

use super::header::{FORMAT, HASH_BYTES, LEVEL, MAGIC, PAGED, SegmentHeader};
use crate::{
    content::Content,
    error::{Error, Result},
    home::ENCRYPTED,
    system::Positioned,
};

/// How many pages are compressed together: 64 KiB of usual pages.
const FRAME_PAGES: u32 = 16;
/// So much is looked at first of what stands before the pages.
const FIRST_LOOK: u64 = 64 * 1024;

/// What stands before the pages of a segment.
#[derive(Debug)]
pub(crate) struct Preamble {
    pub(crate) header: SegmentHeader,
    pub(crate) numbers: Vec<u32>,
    /// Where each frame ends, counted from the first page; one for all pages where they are no frames.
    pub(crate) frames: Vec<u64>,
    /// Where the pages begin.
    pub(crate) length: u64,
}

/// Writes a segment of these pages, in ascending order, to an empty file. Returns its length. Needs little memory,
/// however many there are.
pub(crate) fn write_paged(
    file: &File,
    mut header: SegmentHeader,
    numbers: &[u32],
    mut read: impl FnMut(u32, &mut [u8]) -> Result<()>,
    path: &Path,
) -> Result<u64> {
    let doing = |error| Error::io("write", path)(error);
    (header.format, header.frame_pages) = (PAGED, Some(FRAME_PAGES));
    let mut preamble = header.begin(numbers).map_err(doing)?;
    let frames = numbers.chunks(FRAME_PAGES as usize);
    let start = (preamble.len() + frames.len() * 8 + HASH_BYTES) as u64;
    let (mut file, mut page) = (file, vec![0; header.page_size as usize]);
    file.seek(SeekFrom::Start(start)).map_err(doing)?;
    for frame in frames {
        let mut encoder = zstd::Encoder::new(file, LEVEL).map_err(doing)?;
        // A frame that is read alone is checked by this alone.
        encoder.include_checksum(true).map_err(doing)?;
        for number in frame {
            read(*number, &mut page)?;
            encoder.write_all(&page).map_err(doing)?;
        }
        encoder.finish().map_err(doing)?;
        let end = file.stream_position().map_err(doing)? - start;
        preamble.extend(end.to_le_bytes());
    }
    preamble.extend(blake3::hash(&preamble).as_bytes());
    file.write_all_at(&preamble, 0).map_err(doing)?;
    let hash = hash(file).map_err(doing)?;
    file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(hash.as_bytes())).map_err(doing)?;
    file.stream_position().map_err(doing)
}

fn hash(mut file: &File) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    file.seek(SeekFrom::Start(0))?;
    hasher.update_reader(file)?;
    Ok(hasher.finalize())
}

impl Preamble {
    /// What stands before the pages of what has arrived, which ends here; `None` where it is cut short.
    pub(super) fn of(name: &str, content: &Content, end: u64) -> Result<Option<Self>> {
        let mut look = FIRST_LOOK.min(end);
        loop {
            let bytes = content.bytes(0..look).map_err(Error::io("read what was fetched of", name))?;
            match Self::parse(name, &bytes)? {
                None if look < end => look = (look * 4).min(end),
                found => return Ok(found),
            }
        }
    }

    /// What stands before the pages of a segment that begins like this; `None` where more of it is needed.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Option<Self>> {
        let corrupt = |problem: &str| Error::corrupt(name, problem);
        let mut rest = bytes;
        let Some(magic) = take(&mut rest, MAGIC.len()) else { return Ok(None) };
        if magic != MAGIC {
            let is_encrypted = magic == ENCRYPTED;
            return Err(corrupt(if is_encrypted {
                "it is encrypted, and no key is set"
            } else {
                "it is no segment"
            }));
        }
        let Some(length) = take(&mut rest, 4).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        let Some(header) = take(&mut rest, u32::from_le_bytes(*length) as usize) else { return Ok(None) };
        let header: SegmentHeader =
            serde_json::from_slice(header).map_err(|_| corrupt("its header cannot be read"))?;
        let frame_pages = match (header.format, header.frame_pages) {
            (FORMAT, _) => None,
            (PAGED, Some(pages)) if pages > 0 => Some(pages),
            (PAGED, _) => return Err(corrupt("it does not say how many pages a frame has")),
            (format, _) => return Err(Error::Unsupported(format!("`{name}` is of format {format}"))),
        };
        let Some(numbers) = take(&mut rest, header.pages as usize * 4) else { return Ok(None) };
        let (numbers, _) = numbers.as_chunks::<4>();
        let numbers: Vec<u32> = numbers.iter().map(|number| u32::from_le_bytes(*number)).collect();
        let mut frames = Vec::new();
        if let Some(pages) = frame_pages {
            let Some(ends) = take(&mut rest, numbers.len().div_ceil(pages as usize) * 8) else {
                return Ok(None);
            };
            frames = ends.as_chunks::<8>().0.iter().map(|end| u64::from_le_bytes(*end)).collect();
            let hashed = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
            let Some(hash) = take(&mut rest, HASH_BYTES) else { return Ok(None) };
            if blake3::hash(hashed).as_bytes() != hash {
                return Err(corrupt("the hash of what stands before its pages is wrong"));
            }
        }
        let preamble = Self { header, numbers, frames, length: (bytes.len() - rest.len()) as u64 };
        if preamble.is_in_order() {
            Ok(Some(preamble))
        } else {
            Err(corrupt("its page numbers are not in order"))
        }
    }

    fn is_in_order(&self) -> bool {
        self.numbers.is_sorted_by(|one, two| one < two)
            && self.numbers.first() != Some(&0)
            && self.numbers.last().is_none_or(|last| *last <= self.header.page_count)
            && self.header.first() <= self.header.generation
            && self.frames.is_sorted_by(|one, two| one < two)
    }

    /// Whether it has a hash of its own: otherwise the whole segment tells whether it is sound.
    pub(crate) fn is_checked(&self) -> bool {
        self.header.format != FORMAT
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Beginning, Hex, Segment};
    use std::io::Read;

    fn header(pages: u32) -> SegmentHeader {
        SegmentHeader {
            format: PAGED,
            incarnation: Hex(1),
            generation: 9,
            commit: Hex(2),
            parent: Hex(3),
            page_size: 512,
            page_count: 100,
            parent_checksum: Hex(4),
            checksum: Hex(5),
            pages,
            first: Some(5),
            frame_pages: None,
        }
    }

    fn encoded(numbers: &[u32]) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        let fill = |number: u32, page: &mut [u8]| {
            page.fill(u8::try_from(number).unwrap());
            Ok(())
        };
        let header = header(u32::try_from(numbers.len()).unwrap());
        let length = write_paged(&file, header, numbers, fill, Path::new("it")).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    #[test]
    fn pages_are_read_one_after_the_other_and_frame_by_frame() {
        let numbers: Vec<u32> = (1..=40).map(|number| number * 2).collect();
        let bytes = encoded(&numbers);
        let segment = Segment::decode("merged/x", Content::Memory(bytes.clone().into())).unwrap();
        assert_eq!((segment.header.first(), segment.header.generation), (5, 9));
        let mut seen = Vec::new();
        let saw = |number, page: &[u8]| {
            assert!(page.len() == 512 && page.iter().all(|byte| u32::from(*byte) == number));
            seen.push(number);
            Ok(())
        };
        segment.each(saw).unwrap();
        assert_eq!(seen, numbers);

        let preamble = Preamble::parse("merged/x", &bytes).unwrap().unwrap();
        assert!(preamble.is_checked() && preamble.numbers == numbers && preamble.frames.len() == 3);
        let at = |place: u64| usize::try_from(preamble.length + place).unwrap();
        let last = &bytes[at(preamble.frames[1])..at(preamble.frames[2])];
        let pages = zstd::decode_all(last).unwrap();
        assert_eq!((pages.len(), pages[0], pages[7 * 512]), (8 * 512, 66, 80));
    }

    #[test]
    fn a_damaged_byte_before_the_pages_is_noticed_without_them() {
        let bytes = encoded(&[4, 9]);
        let length = Preamble::parse("merged/x", &bytes).unwrap().unwrap().length;
        for at in 0..usize::try_from(length).unwrap() {
            assert!(Preamble::parse("merged/x", &bytes[..at]).unwrap().is_none(), "{at}");
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            // A length that is too large asks for more than there is.
            assert!(!matches!(Preamble::parse("merged/x", &damaged), Ok(Some(_))), "{at}");
            assert!(Segment::decode("merged/x", Content::Memory(damaged.into())).is_err(), "{at}");
        }
    }

    #[test]
    fn how_it_begins_tells_what_its_frames_end_with() {
        let numbers: Vec<u32> = (1..=40).collect();
        let bytes = encoded(&numbers);
        let content = Content::Memory(bytes.clone().into());
        let (preamble, checks) =
            Beginning::of("merged/x", &content).unwrap().unwrap().parse("merged/x").unwrap();
        assert_eq!((preamble.numbers, checks.len()), (numbers, 3));
        for (end, check) in preamble.frames.iter().zip(checks) {
            let end = usize::try_from(preamble.length + end).unwrap();
            assert_eq!(bytes[end - 4..end], check);
        }
        let single = SegmentHeader { format: FORMAT, ..header(2) }.encode(&[4, 9], |_, _| Ok(())).unwrap();
        assert_eq!(Beginning::of("seg/x", &Content::Memory(single.into())).unwrap(), None, "it is no frames");
    }

    #[test]
    fn one_without_pages_leads_on_too() {
        let bytes = encoded(&[]);
        let segment = Segment::decode("merged/x", Content::Memory(bytes.into())).unwrap();
        segment.each(|_, _| panic!("there is none")).unwrap();
    }
}
