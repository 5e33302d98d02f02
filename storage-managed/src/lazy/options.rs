//! How a replica behaves.

use std::{path::PathBuf, time::Duration};

use storage_core::{Error as CoreError, check_timeout};

use crate::{
    error::{Error, Result},
    options::RetryPolicy,
    steady::Steady,
};

/// The settings of a [`Replica`](super::Replica).
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// The folder of the page cache, for this replica alone: not that of a [`DatabaseStore`](crate::DatabaseStore). It may be
    /// empty at each start; what is in it is not fetched again.
    pub cache: PathBuf,
    /// How large the file of cached pages grows; what was not read for long gives way. At least 64 KiB. Page numbers of
    /// segments, and small segments, lie beside it.
    pub cache_bytes: u64,
    /// What is tried again, and when.
    pub retry: RetryPolicy,
    /// How long fetching something may take in all, tries that failed included: what SQLite waits for at most, for a page.
    pub fetch_timeout: Duration,
    /// How many reads run at once, each with a connection of its own.
    pub readers: usize,
    /// How many segments are asked for at once when a snapshot is opened.
    pub fetched_at_once: usize,
    /// How long to wait for somebody else who has the cache folder.
    pub cache_wait: Duration,
    /// The clock by which what was read grows old.
    pub steady: Steady,
}

impl ReplicaOptions {
    /// The defaults, with a cache in this folder.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            cache_bytes: 256 * 1024 * 1024,
            retry: RetryPolicy::default(),
            fetch_timeout: Duration::from_secs(30),
            readers: 4,
            fetched_at_once: 16,
            cache_wait: Duration::from_secs(5),
            steady: Steady::default(),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let counts = [
            ("readers", self.readers),
            ("fetched_at_once", self.fetched_at_once),
            ("retry.attempts", self.retry.attempts as usize),
            ("fetch_timeout", usize::from(!self.fetch_timeout.is_zero())),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::Settings(CoreError::config(format!("{name} may not be zero"))));
        }
        let times = [
            ("retry.pause", self.retry.pause),
            ("retry.cap", self.retry.cap),
            ("fetch_timeout", self.fetch_timeout),
            ("cache_wait", self.cache_wait),
        ];
        times.iter().try_for_each(|(name, time)| check_timeout(name, *time)).map_err(Error::Settings)
    }
}
