//! What stands before the chunks of an encrypted object.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use storage_core::{Error, ErrorKind, Result};

use super::{
    chunks::{Chunks, HEADER_BYTES, PREFIX_BYTES},
    keys::{CHECK_BYTES, ID_BYTES, Key, Keys, fill_random, is_id},
};
use crate::home::ENCRYPTED;

/// The only one there is.
const FORMAT: u8 = 1;

/// A header as it is stored.
pub(super) type Header = [u8; HEADER_BYTES];

/// A header for one new object, with a nonce prefix that no other has.
pub(super) fn new(key: &Key) -> Result<Header> {
    let mut prefix = [0; PREFIX_BYTES];
    fill_random(&mut prefix)?;
    let mut id = [0; ID_BYTES];
    id.iter_mut().zip(key.id.bytes()).for_each(|(to, from)| *to = from);
    let parts = [ENCRYPTED, &[FORMAT], &id, &key.check, &prefix].concat();
    let mut header = [0; HEADER_BYTES];
    header.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    Ok(header)
}

/// What encrypts the chunks of the object `name` behind this header, which this process has made.
pub(super) fn chunks_of(key: &Key, header: &Header, name: &str) -> Chunks {
    let prefix = header.last_chunk().copied().unwrap_or_default();
    Chunks::new(&key.secret, &prefix, [header, name.as_bytes()].concat())
}

/// What decrypts the chunks of the object `name`, which begins with `bytes`.
///
/// # Errors
/// `Corrupt` where it is not encrypted, or no header; `Config` where the ring lacks its key; `Unsupported` for a later format.
pub(super) fn decode(bytes: &[u8], keys: &Keys, name: &str) -> Result<(Header, Chunks)> {
    let rest = bytes.strip_prefix(ENCRYPTED).ok_or_else(|| not_encrypted(name))?;
    let (format, rest) = rest.split_first().ok_or_else(|| damaged(name))?;
    if *format != FORMAT {
        let message = format!("it is encrypted in format {format}, this release reads format {FORMAT}");
        return Err(Error::new(ErrorKind::Unsupported, message).with_key(name));
    }
    let header: &Header = bytes.first_chunk().ok_or_else(|| damaged(name))?;
    let (id, rest) = rest.split_first_chunk::<ID_BYTES>().ok_or_else(|| damaged(name))?;
    let check = rest.first_chunk::<CHECK_BYTES>().ok_or_else(|| damaged(name))?;
    let id = id_of(id).ok_or_else(|| damaged(name))?;
    let key = keys.find(id).ok_or_else(|| unknown_key(name, id, keys))?;
    if key.check != *check {
        return Err(wrong_key(name, id));
    }
    Ok((*header, chunks_of(key, header, name)))
}

/// The id without the zeros that fill its place.
fn id_of(padded: &[u8; ID_BYTES]) -> Option<&str> {
    let text = std::str::from_utf8(padded).ok()?;
    Some(text.trim_end_matches('\0')).filter(|id| is_id(id))
}

pub(super) fn damaged(name: &str) -> Error {
    Error::corrupt("it is damaged, cut, or another object's content: its encryption does not verify")
        .with_key(name)
        .with_hint("bring the object back from a copy")
}

fn not_encrypted(name: &str) -> Error {
    Error::corrupt(
        "it is not encrypted, and the home is read with keys; one that never was encrypted is read without \
         STORAGE_MANAGED_KEYS and STORAGE_MANAGED_KEY_FILE, in one that is somebody has replaced it",
    )
    .with_key(name)
}

fn unknown_key(name: &str, id: &str, keys: &Keys) -> Error {
    Error::config(format!("it is encrypted with the key `{id}`, and the keys here are {}", keys.names()))
        .with_key(name)
        .with_hint("add that key to STORAGE_MANAGED_KEYS or STORAGE_MANAGED_KEY_FILE, behind the first")
}

fn wrong_key(name: &str, id: &str) -> Error {
    Error::config(format!("the key `{id}` here is another one than it was encrypted with"))
        .with_key(name)
        .with_hint("correct the key in STORAGE_MANAGED_KEYS or STORAGE_MANAGED_KEY_FILE; if it is right, the object is damaged")
}

/// The headers of the objects read lately: a download that is gone on with needs them again.
#[derive(Debug, Default)]
pub(super) struct Headers {
    found: Mutex<VecDeque<(String, Header)>>,
}

impl Headers {
    const KEPT: usize = 16;

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Header)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, name: &str) -> Option<Header> {
        self.lock().iter().find(|(known, _)| known == name).map(|(_, header)| *header)
    }

    pub(super) fn keep(&self, name: &str, header: Header) {
        let mut found = self.lock();
        found.retain(|(known, _)| known != name);
        found.push_back((name.to_owned(), header));
        if found.len() > Self::KEPT {
            found.pop_front();
        }
    }

    /// Of an object that does not verify: it may have been written anew since.
    pub(super) fn forget(&self, name: &str) {
        self.lock().retain(|(known, _)| known != name);
    }
}
