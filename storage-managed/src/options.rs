//! How a managed database behaves.

use std::{path::PathBuf, sync::Arc, time::Duration};

use storage_core::{Clock, Error as CoreError, ErrorKind, SystemClock, check_timeout};

use crate::{
    error::{Error, Result},
    steady::Steady,
    system::host,
};

/// The settings of a [`DatabaseStore`](crate::DatabaseStore).
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the local copy, for this store alone. It may be empty at each start; where it is not, only what changed
    /// since is fetched.
    pub cache: PathBuf,
    /// How old what a reader sees may be: `ensure_fresh` asks the home at most once in this time. Zero: each time.
    pub freshness: Duration,
    /// What is tried again, and when.
    pub retry: RetryPolicy,
    /// For how long the lease for writing is taken; it is renewed at a third of it. A writer that was killed keeps others out
    /// for at most this; whoever opens its cache again, not at all. Azure takes 15 to 60 s.
    pub lease_term: Duration,
    /// How long a writer waits for the lease: longer than the term, so that each outlives a killed one's.
    pub lease_wait: Duration,
    /// When the lease is given back while nobody writes.
    pub lease_idle: Duration,
    /// How long it is kept at most while others may wait for it.
    pub lease_share: Duration,
    /// Who takes the lease, for people who wonder who has it.
    pub owner: String,
    /// How many reads run at once.
    pub readers: usize,
    /// How long SQLite waits for a lock of the cache.
    pub busy_timeout: Duration,
    /// How large the log of the cache grows before its pages move to the main file.
    pub checkpoint_bytes: u64,
    /// So many single segments are merged into one.
    pub merge_segments: usize,
    /// So many merged segments of a level are merged into one of the next.
    pub merge_fan_out: usize,
    /// A base is made anew once what lies on it has so many times its size: less of it is a smaller home, and more to send.
    pub fold_share: f64,
    /// And not before what lies on it has so many bytes: a small database is not worth it.
    pub fold_bytes: u64,
    /// How long what is not needed any more stays in the home, by its clock, for people who want an earlier generation back.
    /// Within it, what merged segments tell as well makes room for them where the home has hundreds of objects.
    pub grace: Duration,
    /// Acknowledge batches once they are durably in the cache, and publish them together so often: a batch costs no request
    /// then, and what was acknowledged in the last interval is lost with the disk of the cache, or set aside under `rescue/`
    /// where the lease is lost meanwhile and another store publishes. `None`: each is acknowledged once it is in the home.
    pub publish_every: Option<Duration>,
    /// How often a store that writes rebuilds the newest generation from the home, in the background, as
    /// [`verify`](crate::DatabaseStore::verify) does: all of it travels. `None`: never.
    pub check_every: Option<Duration>,
    /// How long to wait for somebody else who has the cache folder.
    pub cache_wait: Duration,
    /// Go on from the home where the local database has diverged. It was kept under `rescue/`.
    pub discard_after_rescue: bool,
    /// The clock that dates what is folded and what is in the history; objects age by the home's.
    pub clock: Arc<dyn Clock>,
    /// The clock by which leases end and what was read grows old.
    pub steady: Steady,
}

impl Options {
    /// The defaults, with a cache in this folder.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            freshness: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            lease_term: Duration::from_secs(15),
            lease_wait: Duration::from_secs(20),
            lease_idle: Duration::from_secs(1),
            lease_share: Duration::from_secs(2),
            owner: owner(),
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            checkpoint_bytes: 4 * 1024 * 1024,
            merge_segments: 64,
            merge_fan_out: 176,
            fold_share: 1.0,
            fold_bytes: 256 * 1024,
            grace: Duration::from_secs(600),
            publish_every: None,
            check_every: None,
            cache_wait: Duration::from_secs(5),
            discard_after_rescue: false,
            clock: Arc::new(SystemClock),
            steady: Steady::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let zero = [
            ("lease_term", self.lease_term.is_zero()),
            ("readers", self.readers == 0),
            ("merge_segments", self.merge_segments == 0),
            ("retry.attempts", self.retry.attempts == 0),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
            return Err(Error::Settings(CoreError::config(format!("{name} may not be zero"))));
        }
        if self.merge_fan_out < 2 || !self.fold_share.is_finite() || self.fold_share < 0.0 {
            let problem = "merge_fan_out is at least 2, fold_share a number that is not negative";
            return Err(Error::Settings(CoreError::config(problem)));
        }
        let times = [
            ("freshness", self.freshness),
            ("retry.pause", self.retry.pause),
            ("retry.cap", self.retry.cap),
            ("lease_term", self.lease_term),
            ("lease_wait", self.lease_wait),
            ("lease_idle", self.lease_idle),
            ("lease_share", self.lease_share),
            ("busy_timeout", self.busy_timeout),
            ("publish_every", self.publish_every.unwrap_or_default()),
            ("cache_wait", self.cache_wait),
        ];
        times.iter().try_for_each(|(name, time)| check_timeout(name, *time)).map_err(Error::Settings)
    }
}

/// This process and its machine.
fn owner() -> String {
    let (process, host) = (std::process::id(), host());
    if host.is_empty() { format!("process {process}") } else { format!("process {process} on {host}") }
}

/// How often what failed for now is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often something is tried in all.
    pub attempts: u32,
    /// The pause before the second try; it doubles from try to try, and is shortened by up to a half at random.
    pub pause: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// Five times, from 50 ms to 2 s.
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_millis(50), cap: Duration::from_secs(2) }
    }
}

impl RetryPolicy {
    /// Waits before the next try, counted from 1.
    pub(crate) async fn wait(&self, tried: u32) {
        let longest = self.pause.saturating_mul(1 << (tried - 1).min(16)).min(self.cap);
        tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }

    /// Does something that may be done twice until it succeeds, fails for good or was tried often enough.
    pub(crate) async fn run<T, F>(&self, mut work: impl FnMut() -> F) -> storage_core::Result<T>
    where
        F: Future<Output = storage_core::Result<T>>,
    {
        let mut tried = 1;
        loop {
            match work().await {
                Err(error) if tried < self.attempts && is_passing(error.kind()) => {
                    tracing::debug!(%error, tried, "the home is asked again");
                    self.wait(tried).await;
                    tried += 1;
                }
                done => return done,
            }
        }
    }
}

/// Whether it may be otherwise in a moment.
pub(crate) fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown)
}
