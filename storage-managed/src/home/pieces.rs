//! A body in pieces of one size, for stores that take large ones so.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use storage_core::{Error, ErrorKind, Result, with_deadline};
use tokio::{fs::File, io::AsyncReadExt};

use super::{Body, cut_short, http::PIECE_TIMEOUT};

impl Body {
    /// Its content in pieces of `size` bytes, the last one shorter.
    pub(super) fn pieces(self, size: usize) -> BoxStream<'static, Result<Bytes>> {
        match self {
            Self::Bytes(bytes) => stream::iter(split(bytes, size).map(Ok)).boxed(),
            Self::File { path, length } => {
                stream::try_unfold(Source::new(path, length), move |source| source.next(size)).boxed()
            }
        }
    }

    /// Its content as one piece.
    pub(super) async fn whole(self) -> Result<Bytes> {
        let size = usize::try_from(self.length()).unwrap_or(usize::MAX).max(1);
        self.pieces(size).next().await.unwrap_or_else(|| Ok(Bytes::new()))
    }
}

/// A body that comes piece by piece: each in time, and none after an error.
pub(super) fn punctual(pieces: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        let next = async { Ok(pieces.next().await) };
        match with_deadline(PIECE_TIMEOUT, ErrorKind::Timeout, next).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(error))) | Err(error) => Some((Err(error), None)),
            Ok(None) => None,
        }
    })
    .boxed()
}

fn split(mut bytes: Bytes, size: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(size.min(bytes.len()))))
}

/// A file on its way.
struct Source {
    path: PathBuf,
    file: Option<File>,
    sent: u64,
    length: u64,
}

impl Source {
    fn new(path: PathBuf, length: u64) -> Self {
        Self { path, file: None, sent: 0, length }
    }

    async fn next(mut self, size: usize) -> Result<Option<(Bytes, Self)>> {
        let left = usize::try_from(self.length - self.sent).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path).await.map_err(|error| unreadable(&error))?,
        };
        let mut piece = BytesMut::zeroed(size.min(left));
        let mut filled = 0;
        while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).await.map_err(|error| unreadable(&error))? {
                0 => return Err(cut_short(self.sent, self.length)),
                count => filled += count,
            }
        }
        self.sent += u64::try_from(filled).unwrap_or(u64::MAX);
        self.file = Some(file);
        Ok(Some((piece.freeze(), self)))
    }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the file to send cannot be read: {error}"))
}
