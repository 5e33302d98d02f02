//! What segments of all kinds begin with.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Hex, Id};

/// The format of a segment whose pages are one frame.
pub(crate) const FORMAT: u32 = 1;
/// The format of one whose pages are frames that can be read one by one.
pub(crate) const PAGED: u32 = 2;
pub(super) const MAGIC: &[u8; 8] = b"agentseg";
pub(super) const HASH_BYTES: usize = 32;
/// Quick, and what does not compress stays as long as it is.
pub(super) const LEVEL: i32 = 3;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentHeader {
    pub(crate) format: u32,
    pub(crate) incarnation: Id,
    /// The generation that it leads to.
    pub(crate) generation: u64,
    pub(crate) commit: Id,
    /// The commit that its first generation was made on.
    pub(crate) parent: Id,
    pub(crate) page_size: u32,
    pub(crate) page_count: u32,
    pub(crate) parent_checksum: Hex,
    pub(crate) checksum: Hex,
    /// How many pages it holds.
    pub(crate) pages: u32,
    /// Its first generation, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<u64>,
    /// How many pages a frame has, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) frame_pages: Option<u32>,
}

impl SegmentHeader {
    pub(crate) fn first(&self) -> u64 {
        self.first.unwrap_or(self.generation)
    }

    /// What stands before the pages of a segment, up to its page numbers.
    pub(super) fn begin(&self, numbers: &[u32]) -> io::Result<Vec<u8>> {
        let header = serde_json::to_vec(self)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(header);
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        Ok(bytes)
    }

    /// A segment of these pages, in ascending order, in memory.
    pub(crate) fn encode(
        &self,
        numbers: &[u32],
        mut read: impl FnMut(u32, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(self.begin(numbers)?, LEVEL)?;
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
