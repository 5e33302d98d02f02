//! The home, asked again where it failed for now, and each request counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use storage_core::{ErrorKind, with_deadline};

use crate::{
    error::{Error, Result},
    format::HEAD,
    home::{Fresh, Home, Version},
    options::RetryPolicy,
    remote::{Known, Moved, known},
    telemetry::Telemetry,
};

/// How much of an object travels at once where all of it is wanted: most of those that are read as a whole have less.
const PIECE: u64 = 4 * 1024 * 1024;
/// What is kept in memory is not larger.
const MAX_WHOLE: u64 = 256 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Source {
    pub(super) home: Arc<dyn Home>,
    retry: RetryPolicy,
    timeout: Duration,
    telemetry: Telemetry,
    requests: AtomicU64,
}

impl Source {
    pub(super) fn new(home: Arc<dyn Home>, retry: RetryPolicy, timeout: Duration) -> Self {
        let telemetry = Telemetry::of(home.name());
        Self { home, retry, timeout, telemetry, requests: AtomicU64::new(0) }
    }

    /// How often the home was asked, and how many bytes have come.
    pub(super) fn travelled(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.telemetry.travelled().1)
    }

    pub(super) fn failed(&self, error: &Error) {
        self.telemetry.failed(error.kind());
    }

    async fn run<T, F>(&self, mut work: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = storage_core::Result<T>>,
    {
        let counted = || {
            self.requests.fetch_add(1, Relaxed);
            work()
        };
        Ok(with_deadline(self.timeout, ErrorKind::Timeout, self.retry.run(counted)).await?)
    }

    pub(super) async fn head(&self) -> Result<Option<Known>> {
        let found = self.run(|| self.home.get(HEAD)).await?;
        found.map(|object| known(&self.telemetry, object)).transpose()
    }

    pub(super) async fn head_if_changed(&self, version: &Version) -> Result<Moved> {
        Ok(match self.run(|| self.home.get_if_changed(HEAD, version)).await? {
            Fresh::Unchanged => Moved::No,
            Fresh::Changed(object) => Moved::To(Box::new(known(&self.telemetry, object)?)),
            Fresh::Absent => Moved::Gone,
        })
    }

    /// A part of an object and the length of the whole, or `None` where there is none.
    pub(super) async fn range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
        let found = self.run(|| self.home.read_range(name, from, length)).await?;
        if let Some((_, bytes)) = &found {
            self.telemetry.count_received(bytes.len());
        }
        Ok(found)
    }

    /// All of an object whose beginning is here, or nothing of it; `None` where there is none.
    pub(super) async fn rest(&self, name: &str, begun: Bytes) -> Result<Option<Bytes>> {
        let mut bytes = BytesMut::from(begun);
        loop {
            let here = bytes.len() as u64;
            let Some((whole, piece)) = self.range(name, here, PIECE).await? else { return Ok(None) };
            if whole > MAX_WHOLE {
                return Err(Error::Unsupported(format!("`{name}` has {whole} bytes, too many for memory")));
            }
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 >= whole || piece.is_empty() {
                return Ok(Some(bytes.freeze()));
            }
        }
    }
}
