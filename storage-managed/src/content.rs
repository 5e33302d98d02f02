//! An object that has arrived, in memory or in a file.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
};

use bytes::Bytes;

use crate::system::Positioned;

/// What was fetched, or the object that is not there.
pub(crate) type Fetched<T> = Result<T, String>;

#[derive(Debug)]
pub(crate) enum Content {
    Memory(Bytes),
    /// A file that has no name any more.
    File(File),
}

impl Content {
    pub(crate) fn length(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => file.metadata().map(|file| file.len()),
        }
    }

    /// A part of it, which has to be there.
    pub(crate) fn bytes(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.range(range).read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A part of it, read piece by piece.
    pub(crate) fn range(&self, range: Range<u64>) -> Reader<'_> {
        Reader { content: self, range }
    }
}

/// Reads a part of what has arrived.
pub(crate) struct Reader<'a> {
    content: &'a Content,
    range: Range<u64>,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..length) else { return Ok(0) };
        match self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(self.range.start).map_err(io::Error::other)?;
                let found = start.checked_add(length).and_then(|end| bytes.get(start..end));
                buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            }
            Content::File(file) => file.read_exact_at(buffer, self.range.start)?,
        }
        self.range.start += length as u64;
        Ok(length)
    }
}
