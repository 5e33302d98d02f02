//! Writing lines, with their checksum and their number.

use sha2::{Digest, Sha256};
use storage_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::format::{FORMAT, Footer, Header, Line, ScopeName, VERSION};

pub(super) struct Writer<W> {
    out: W,
    hash: Sha256,
    /// What was written so far, without the checksum.
    pub(super) counts: Footer,
}

impl<W: AsyncWrite + Unpin + Send> Writer<W> {
    pub(super) async fn begin(out: W, scope: ScopeName) -> Result<Self> {
        let mut writer = Self { out, hash: Sha256::new(), counts: Footer::default() };
        let header = Header { format: FORMAT.to_owned(), version: VERSION, scope };
        writer.line(&Line::Export(header)).await?;
        Ok(writer)
    }

    pub(super) async fn line(&mut self, line: &Line) -> Result<()> {
        let text = line.text()?;
        self.hash.update(text.as_bytes());
        self.out.write_all(text.as_bytes()).await.map_err(failed)
    }

    pub(super) async fn end(mut self) -> Result<Footer> {
        self.counts.sha256 = hex(self.hash.clone());
        let footer = self.counts.clone();
        self.line(&Line::End(self.counts.clone())).await?;
        self.out.flush().await.map_err(failed)?;
        Ok(footer)
    }
}

/// The checksum of what was hashed, as a footer has it.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the export cannot be written").with_source(error)
}
