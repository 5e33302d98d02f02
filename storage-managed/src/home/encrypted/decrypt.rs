//! Objects on their way from the home.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use storage_core::{Error, ErrorKind, Result};

use super::{
    chunks::{CHUNK, Chunks, HEADER_BYTES, Layout, TAG},
    header::{self, Header, Headers, damaged},
    keys::Keys,
};

/// What comes from the home, piece by piece.
pub(super) type Pieces = BoxStream<'static, Result<Bytes>>;

/// Decrypts a small object.
pub(super) fn bytes(keys: &Keys, name: &str, stored: &Bytes) -> Result<Bytes> {
    let (_, chunks) = header::decode(stored, keys, name)?;
    let layout = Layout::of_stored(stored.len() as u64).ok_or_else(|| damaged(name))?;
    let mut rest = BytesMut::from(stored.get(HEADER_BYTES..).unwrap_or_default());
    let mut plain = BytesMut::with_capacity(rest.len());
    for index in 0..layout.chunks {
        let length = usize::try_from(layout.chunk(index) + TAG).unwrap_or(usize::MAX);
        let mut chunk = rest.split_to(length.min(rest.len()));
        chunks.decrypt(index, layout.is_last(index), &mut chunk).ok_or_else(|| damaged(name))?;
        plain.extend_from_slice(&chunk);
    }
    Ok(plain.freeze())
}

/// The header of an object that is read from its beginning, and what has come behind it.
pub(super) async fn header(pieces: &mut Pieces, stored: u64) -> Result<(BytesMut, BytesMut)> {
    let length = usize::try_from(stored).unwrap_or(usize::MAX).min(HEADER_BYTES);
    let mut buffer = BytesMut::new();
    fill(&mut buffer, length, pieces).await?;
    let header = buffer.split_to(length);
    Ok((header, buffer))
}

/// Waits until there are so many bytes.
async fn fill(buffer: &mut BytesMut, length: usize, pieces: &mut Pieces) -> Result<()> {
    while buffer.len() < length {
        let piece = pieces.try_next().await?.ok_or_else(broken_off)?;
        buffer.extend_from_slice(&piece);
    }
    Ok(())
}

/// Less than was announced has come. It may be asked for again; what is stored shorter announces less.
fn broken_off() -> Error {
    Error::new(ErrorKind::Unavailable, "the answer ended before the object did")
}

/// An object whose chunks are decrypted as they come.
pub(super) struct Decrypting {
    pub(super) name: String,
    pub(super) chunks: Chunks,
    pub(super) headers: Arc<Headers>,
    pub(super) layout: Layout,
    /// The next chunk.
    pub(super) index: u64,
    /// How much of it nobody asked for.
    pub(super) skip: u64,
    /// What has come and is not decrypted.
    pub(super) buffer: BytesMut,
    pub(super) pieces: Pieces,
}

impl Decrypting {
    /// The plaintext chunk by chunk; none after an error.
    pub(super) fn into_pieces(self) -> Pieces {
        stream::try_unfold(self, Self::next).boxed()
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        if self.index >= self.layout.chunks {
            return Ok(None);
        }
        let length = usize::try_from(self.layout.chunk(self.index) + TAG).unwrap_or(usize::MAX);
        fill(&mut self.buffer, length, &mut self.pieces).await?;
        let mut chunk = self.buffer.split_to(length);
        let is_last = self.layout.is_last(self.index);
        if self.chunks.decrypt(self.index, is_last, &mut chunk).is_none() {
            self.headers.forget(&self.name);
            return Err(damaged(&self.name));
        }
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        chunk.advance(skipped);
        (self.index, self.skip) = (self.index + 1, 0);
        Ok(Some((chunk.freeze(), self)))
    }
}

/// The chunk that a byte of the plaintext is in, and how far it is in it.
pub(super) fn place(from: u64) -> (u64, u64) {
    (from / CHUNK, from % CHUNK)
}

/// The header of what an earlier read has found.
pub(super) fn known(headers: &Headers, keys: &Keys, name: &str) -> Option<(Header, Chunks)> {
    header::decode(&headers.get(name)?, keys, name).ok()
}
