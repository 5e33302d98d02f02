//! Chunks of a fixed length, each encrypted by itself (STREAM), and where they are.

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use bytes::BytesMut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, aead::Payload};

use super::keys::{CHECK_BYTES, ID_BYTES, KEY_BYTES};
use crate::home::ENCRYPTED;

/// The plaintext of each chunk but the last, which has between 1 and as many; that of an empty object has none.
pub(super) const CHUNK: u64 = 64 * 1024;
/// Poly1305's.
pub(super) const TAG: u64 = 16;
/// XChaCha20's nonce has 24; STREAM keeps 5 for the chunk's number and whether it is the last.
pub(super) const PREFIX_BYTES: usize = 19;
/// What stands before the chunks: magic, format, key id, key check, nonce prefix.
pub(super) const HEADER_BYTES: usize = ENCRYPTED.len() + 1 + ID_BYTES + CHECK_BYTES + PREFIX_BYTES;
const HEADER: u64 = HEADER_BYTES as u64;
/// A chunk's number has 32 bits.
const MAX_CHUNKS: u64 = 1 << 32;

/// How an object of some length lies in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The length of the plaintext.
    pub(super) length: u64,
    /// How many chunks there are; at least one.
    pub(super) chunks: u64,
}

impl Layout {
    /// That of a plaintext of this length; `None` where it has more chunks than can be counted.
    pub(super) fn of(length: u64) -> Option<Self> {
        let chunks = length.div_ceil(CHUNK).max(1);
        (chunks <= MAX_CHUNKS).then_some(Self { length, chunks })
    }

    /// That of a stored object of this length; `None` where no object has it.
    pub(super) fn of_stored(stored: u64) -> Option<Self> {
        let body = stored.checked_sub(HEADER)?;
        let length = body.checked_sub(body.div_ceil(CHUNK + TAG) * TAG)?;
        // A last chunk that is all tag, or less, is of no plaintext.
        Self::of(length).filter(|layout| layout.stored() == stored)
    }

    /// The length of what is stored.
    pub(super) fn stored(&self) -> u64 {
        HEADER + self.length + self.chunks * TAG
    }

    /// The length of a chunk's plaintext.
    pub(super) fn chunk(&self, index: u64) -> u64 {
        self.length.saturating_sub(index.saturating_mul(CHUNK)).min(CHUNK)
    }

    pub(super) fn is_last(&self, index: u64) -> bool {
        index + 1 == self.chunks
    }
}

/// Where a chunk is stored.
pub(super) fn position(index: u64) -> u64 {
    HEADER.saturating_add(index.saturating_mul(CHUNK + TAG))
}

/// How much of the plaintext is in the first bytes of what is stored.
pub(super) fn plain_of(stored: u64, length: u64) -> u64 {
    let body = stored.saturating_sub(HEADER);
    (body / (CHUNK + TAG) * CHUNK + (body % (CHUNK + TAG)).min(CHUNK)).min(length)
}

/// Encrypts and decrypts the chunks of one object.
pub(super) struct Chunks {
    stream: StreamBE32<XChaCha20Poly1305>,
    /// The object's header and name.
    aad: Vec<u8>,
}

impl Chunks {
    pub(super) fn new(key: &[u8; KEY_BYTES], prefix: &[u8; PREFIX_BYTES], aad: Vec<u8>) -> Self {
        let cipher = XChaCha20Poly1305::new(key.into());
        Self { stream: StreamBE32::from_aead(cipher, prefix.into()), aad }
    }

    /// A chunk as it is stored; `None` only for more than the cipher takes.
    pub(super) fn encrypt(&self, index: u64, is_last: bool, plain: &[u8]) -> Option<Vec<u8>> {
        let index = u32::try_from(index).ok()?;
        self.stream.encrypt(index, is_last, Payload { msg: plain, aad: &self.aad }).ok()
    }

    /// Decrypts a chunk where it is; `None` where it is not what was encrypted at this place of this object.
    pub(super) fn decrypt(&self, index: u64, is_last: bool, chunk: &mut BytesMut) -> Option<()> {
        let index = u32::try_from(index).ok()?;
        self.stream.decrypt_in_place(index, is_last, &self.aad, chunk).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_from_what_is_stored() {
        let around = |at: u64| at.saturating_sub(40)..at + 40;
        for length in [0, CHUNK, 2 * CHUNK, 1000 * CHUNK].into_iter().flat_map(around) {
            let layout = Layout::of(length).unwrap();
            assert_eq!(Layout::of_stored(layout.stored()), Some(layout), "{length}");
            let sum: u64 = (0..layout.chunks).map(|index| layout.chunk(index)).sum();
            assert_eq!((sum, plain_of(layout.stored(), length)), (length, length));
        }
        // Between a whole chunk and one byte of the next there are lengths that no object has.
        let whole = Layout::of(CHUNK).unwrap().stored();
        assert!((1..=TAG).all(|more| Layout::of_stored(whole + more).is_none()));
        assert!((0..HEADER + TAG).all(|stored| Layout::of_stored(stored).is_none()));
        assert_eq!(Layout::of_stored(u64::MAX), None);
    }
}
