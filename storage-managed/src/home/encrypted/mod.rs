//! A home whose objects are encrypted before they leave for another one.

mod chunks;
mod decrypt;
mod encrypt;
mod header;
mod keys;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use storage_core::{Error, ErrorKind, Result};

pub use self::keys::Keys;
use self::{
    chunks::{CHUNK, Chunks, HEADER_BYTES, Layout, plain_of, position},
    decrypt::{Decrypting, Pieces},
    header::{Headers, damaged},
    keys::Source,
};
use super::{
    Body, Claim, Fresh, Held, Holder, Home, Listed, Object, Put, Version, first_of, names::check_name,
};

/// A home whose objects are encrypted with XChaCha20-Poly1305 before they leave for `home`, and verified when they come back: one
/// that is damaged, cut, exchanged for another, not encrypted, or encrypted with a key that the ring lacks is refused by name.
/// Names, lengths and the lease are not hidden; the module `protocol` says what is stored.
///
/// Objects that are not encrypted are never read: a home is encrypted from its first object on, or not at all.
#[derive(Debug)]
pub struct EncryptedHome {
    home: Arc<dyn Home>,
    source: Source,
    headers: Arc<Headers>,
}

impl EncryptedHome {
    /// A home that keeps its objects encrypted in `home`. Does no I/O.
    #[must_use]
    pub fn new(home: Arc<dyn Home>, keys: Keys) -> Self {
        Self { home, source: Source::Keys(keys), headers: Arc::default() }
    }

    /// The same with the keys of a file, as [`Keys::from_file`] reads it at the first call that needs them. Does no I/O itself.
    #[must_use]
    pub fn with_key_file(home: Arc<dyn Home>, path: impl Into<PathBuf>) -> Self {
        let source = Source::File(path.into(), OnceLock::new());
        Self { home, source, headers: Arc::default() }
    }

    fn decrypted(&self, name: &str, object: Object) -> Result<Object> {
        let bytes = decrypt::bytes(self.source.keys()?, name, &object.bytes)?;
        Ok(Object { bytes, version: object.version })
    }

    fn encrypted(&self, name: &str, plain: &[u8]) -> Result<Bytes> {
        check_name(name)?;
        encrypt::bytes(self.source.keys()?, name, plain)
    }

    /// An object from its beginning: its header, and what comes behind it.
    async fn begin(&self, name: &str) -> Result<Option<Begun>> {
        let Some((stored, mut pieces)) = self.home.read(name, 0).await? else { return Ok(None) };
        let (found, buffer) = decrypt::header(&mut pieces, stored).await?;
        let (header, chunks) = header::decode(&found, self.source.keys()?, name)?;
        self.headers.keep(name, header);
        Ok(Some(Begun { stored, chunks, buffer, pieces }))
    }

    /// An object from this chunk on.
    async fn begin_at(&self, name: &str, index: u64) -> Result<Option<Begun>> {
        let chunks = match decrypt::known(&self.headers, self.source.keys()?, name) {
            Some((_, chunks)) => chunks,
            None => match self.begin(name).await? {
                Some(begun) => begun.chunks,
                None => return Ok(None),
            },
        };
        let read = self.home.read(name, position(index)).await?;
        Ok(read.map(|(stored, pieces)| Begun { stored, chunks, buffer: BytesMut::new(), pieces }))
    }

    /// The chunks that a part is in.
    async fn part(&self, name: &str, from: u64, length: u64) -> Result<Option<Begun>> {
        let (index, skip) = decrypt::place(from);
        let behind = position(index.saturating_add(skip.saturating_add(length).div_ceil(CHUNK)));
        let known = decrypt::known(&self.headers, self.source.keys()?, name);
        if let (Some((_, chunks)), true) = (known, index > 0) {
            let start = position(index);
            let read = self.home.read_range(name, start, behind - start).await?;
            return Ok(read.map(|(stored, bytes)| Begun::with(stored, chunks, bytes)));
        }
        let first = if index == 0 { behind } else { position(0) };
        let Some((stored, bytes)) = self.home.read_range(name, 0, first).await? else { return Ok(None) };
        let (found, rest) = bytes.split_at_checked(HEADER_BYTES).unwrap_or((&bytes, &[]));
        let (header, chunks) = header::decode(found, self.source.keys()?, name)?;
        self.headers.keep(name, header);
        if index == 0 {
            return Ok(Some(Begun::with(stored, chunks, Bytes::copy_from_slice(rest))));
        }
        let start = position(index);
        let read = self.home.read_range(name, start, behind - start).await?;
        Ok(read.map(|(stored, bytes)| Begun::with(stored, chunks, bytes)))
    }
}

/// An object that has begun to come.
struct Begun {
    stored: u64,
    chunks: Chunks,
    buffer: BytesMut,
    pieces: Pieces,
}

impl Begun {
    /// All of it that was asked for is here.
    fn with(stored: u64, chunks: Chunks, bytes: Bytes) -> Self {
        Self { stored, chunks, buffer: bytes.into(), pieces: stream::empty().boxed() }
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the encryption was stopped before it ended")
}

/// Says where an error happened, unless the home has said it.
fn at(operation: &'static str, name: &str) -> impl FnOnce(Error) -> Error {
    move |error| error.at("encrypted", operation).with_key(name)
}

#[async_trait]
impl Home for EncryptedHome {
    fn name(&self) -> String {
        self.home.name()
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        let found = self.home.get(name).await?;
        found.map(|object| self.decrypted(name, object)).transpose().map_err(at("get", name))
    }

    async fn get_stored(&self, name: &str) -> Result<Option<Object>> {
        self.home.get_stored(name).await
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        Ok(match self.home.get_if_changed(name, known).await? {
            Fresh::Changed(object) => Fresh::Changed(self.decrypted(name, object).map_err(at("get", name))?),
            unchanged => unchanged,
        })
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        let (index, skip) = decrypt::place(from);
        let begun = if index == 0 { self.begin(name).await } else { self.begin_at(name, index).await };
        let Some(begun) = begun.map_err(at("read", name))? else { return Ok(None) };
        let Begun { stored, chunks, buffer, pieces } = begun;
        let layout = Layout::of_stored(stored).ok_or_else(|| at("read", name)(damaged(name)))?;
        if index >= layout.chunks {
            return Ok(Some((layout.length, stream::empty().boxed())));
        }
        let (name, headers) = (name.to_owned(), Arc::clone(&self.headers));
        let decrypting = Decrypting { name, chunks, headers, layout, index, skip, buffer, pieces };
        Ok(Some((layout.length, decrypting.into_pieces())))
    }

    /// Of whole chunks. The header costs a request of its own where it is neither known nor before the part.
    async fn read_range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
        let part = self.part(name, from, length).await.map_err(at("read", name))?;
        let Some(Begun { stored, chunks, buffer, pieces }) = part else { return Ok(None) };
        let layout = Layout::of_stored(stored).ok_or_else(|| at("read", name)(damaged(name)))?;
        let length = length.min(layout.length.saturating_sub(from));
        let (index, skip) = decrypt::place(from);
        if length == 0 {
            return Ok(Some((layout.length, Bytes::new())));
        }
        let (name, headers) = (name.to_owned(), Arc::clone(&self.headers));
        let decrypting = Decrypting { name, chunks, headers, layout, index, skip, buffer, pieces };
        first_of(Some((layout.length, decrypting.into_pieces())), from, length).await
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        let encrypted = self.encrypted(name, &bytes).map_err(at("create", name))?;
        self.home.create(name, encrypted, held).await
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        let encrypted = self.encrypted(name, &bytes).map_err(at("replace", name))?;
        self.home.replace(name, encrypted, expected, held).await
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        check_name(name)?;
        let length = match &body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { length, .. } => *length,
        };
        let (keys, named) = (self.source.keys().map_err(at("put", name))?.clone(), name.to_owned());
        let encrypting = tokio::task::spawn_blocking(move || encrypt::body(&keys, &named, &body));
        let encrypted = encrypting.await.unwrap_or_else(|_| Err(stopped())).map_err(at("put", name))?;
        self.home.put(name, encrypted.body.clone(), &|stored| sent(plain_of(stored, length))).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.headers.forget(name);
        self.home.delete(name).await
    }

    /// What cannot be an encrypted object is shown as long as it is.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut listed = self.home.list(prefix).await?;
        for object in &mut listed {
            object.length = Layout::of_stored(object.length).map_or(object.length, |layout| layout.length);
        }
        Ok(listed)
    }

    async fn check_room(&self) -> Result<()> {
        self.home.check_room().await
    }

    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        self.home.acquire(claim).await
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        self.home.renew(held).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        self.home.release(held).await
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        self.home.holder().await
    }

    async fn unlock(&self) -> Result<()> {
        self.home.unlock().await
    }
}
