//! Files and standard streams for what reads and writes asynchronously. A command does one thing at a time: it may wait for
//! them where it stands.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    pin::Pin,
    task::{Context, Poll},
};

use indicatif::ProgressBar;
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// What is written to, and how much.
pub(crate) struct Sink<'a, W> {
    pub(crate) writer: W,
    pub(crate) progress: &'a ProgressBar,
}

impl<W: Write + Unpin> AsyncWrite for Sink<'_, W> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.writer.write(bytes);
        self.progress.inc(written.as_ref().map_or(0, |bytes| *bytes as u64));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.writer.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// A file that is read, perhaps more than once, and how much.
pub(crate) struct Source<'a> {
    pub(crate) file: File,
    pub(crate) progress: &'a ProgressBar,
}

impl AsyncRead for Source<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.file.read(into.initialize_unfilled());
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => return Poll::Ready(Err(error)),
        };
        into.advance(bytes);
        self.progress.inc(bytes as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Source<'_> {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        self.file.seek(position).map(drop)
    }

    fn poll_complete(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(self.file.stream_position())
    }
}
