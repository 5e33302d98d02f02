//! Objects on their way to the home.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use bytes::Bytes;
use storage_core::{Error, ErrorKind, Result};
use tempfile::TempPath;

use super::{
    chunks::{CHUNK, Layout},
    header,
    keys::Keys,
};
use crate::home::{Body, cut_short};

/// A body that is encrypted, and the file that it is in, which goes when this is dropped.
pub(super) struct Encrypted {
    pub(super) body: Body,
    pub(super) _file: Option<TempPath>,
}

/// Encrypts a small object.
pub(super) fn bytes(keys: &Keys, name: &str, plain: &[u8]) -> Result<Bytes> {
    let length = plain.len() as u64;
    let layout = Layout::of(length).ok_or_else(too_large)?;
    let mut stored = Vec::with_capacity(usize::try_from(layout.stored()).unwrap_or_default());
    copy(keys, name, plain, length, &mut stored)?;
    Ok(stored.into())
}

/// Encrypts what is to be put. Blocks.
pub(super) fn body(keys: &Keys, name: &str, body: &Body) -> Result<Encrypted> {
    match body {
        Body::Bytes(plain) => Ok(Encrypted { body: Body::Bytes(bytes(keys, name, plain)?), _file: None }),
        Body::File { path, length } => file(keys, name, path, *length),
    }
}

/// Encrypts a file into another one beside it: there is the room that the database's copies need, which a system's folder for
/// temporary files may lack, and the cache removes there what a killed process leaves.
fn file(keys: &Keys, name: &str, path: &Path, length: u64) -> Result<Encrypted> {
    let layout = Layout::of(length).ok_or_else(too_large)?;
    let plain = File::open(path).map_err(|error| failed("the file to encrypt cannot be read", &error))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // For this user alone, as `tempfile` makes them.
    let made = tempfile::Builder::new().prefix("encrypted-").suffix(".tmp").tempfile_in(folder);
    let mut encrypted = made.map_err(|error| failed(UNWRITTEN, &error))?;
    copy(keys, name, plain, length, encrypted.as_file_mut())?;
    let file = encrypted.into_temp_path();
    Ok(Encrypted {
        body: Body::File { path: file.to_path_buf(), length: layout.stored() },
        _file: Some(file),
    })
}

const UNWRITTEN: &str = "the encrypted file cannot be written";

/// Header and chunks of `length` bytes of `plain`, under the key that encrypts.
fn copy(keys: &Keys, name: &str, mut plain: impl Read, length: u64, to: &mut impl Write) -> Result<()> {
    let key = keys.current()?;
    let layout = Layout::of(length).ok_or_else(too_large)?;
    let header = header::new(key)?;
    let chunks = header::chunks_of(key, &header, name);
    let mut write = |bytes: &[u8]| to.write_all(bytes).map_err(|error| failed(UNWRITTEN, &error));
    write(&header)?;
    let mut chunk = Vec::with_capacity(usize::try_from(length.min(CHUNK)).unwrap_or_default());
    for index in 0..layout.chunks {
        chunk.clear();
        let read = plain.by_ref().take(layout.chunk(index)).read_to_end(&mut chunk);
        let read = read.map_err(|error| failed("the file to encrypt cannot be read", &error))? as u64;
        if read < layout.chunk(index) {
            return Err(cut_short(index * CHUNK + read, length));
        }
        write(&chunks.encrypt(index, layout.is_last(index), &chunk).ok_or_else(too_large)?)?;
    }
    Ok(())
}

fn too_large() -> Error {
    Error::invalid_input("an encrypted object may have 256 TiB")
}

fn failed(what: &str, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull => ErrorKind::Full,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{what}: {error}"))
}
