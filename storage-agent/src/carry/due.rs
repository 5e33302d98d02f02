//! Expiries of an export: whole seconds, so that a second export of what an import wrote says the same.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use storage_core::{Result, epoch_millis};

use crate::shared::Shared;

/// An import aims at the middle of the second that an export names.
const MIDDLE: Duration = Duration::from_millis(500);
/// What took longer may have missed it.
const LATE: Duration = Duration::from_millis(400);

/// The second of an expiry, rounded up.
pub(super) fn second(expires_at: SystemTime) -> u64 {
    epoch_millis(expires_at).div_ceil(1_000)
}

/// The time, by the clock of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    time: SystemTime,
    read_at: Instant,
}

impl Now {
    /// By this machine's clock, for what needs no more.
    pub(super) fn about(shared: &Shared) -> Self {
        Self { time: shared.now(), read_at: Instant::now() }
    }

    pub(super) async fn of(shared: &Shared) -> Result<Self> {
        let began = Instant::now();
        let time = shared.past(Duration::ZERO).await?;
        Ok(Self { time, read_at: began + began.elapsed() / 2 })
    }

    /// What is left until a second of the epoch; `None` where it has passed.
    pub(super) fn left(self, second: u64) -> Option<Duration> {
        let aim = UNIX_EPOCH.checked_add(Duration::from_secs(second))?.checked_sub(MIDDLE)?;
        let left = aim.duration_since(self.time).ok()?.checked_sub(self.read_at.elapsed())?;
        (left >= Duration::from_millis(1)).then_some(left)
    }

    /// The time in so long.
    pub(super) fn in_time(self, span: Duration) -> SystemTime {
        self.time + self.read_at.elapsed() + span
    }
}

/// Whether a write that began then may have set a later second than it should: it is set once more.
pub(super) fn is_late(began: Instant) -> bool {
    began.elapsed() > LATE
}
