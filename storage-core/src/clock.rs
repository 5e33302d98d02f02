//! Time, injected so that tests can move it.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Error, Result};

/// The longest time to live: 100 years of 365.25 days.
///
/// Every store can keep it exactly; what should live longer has no expiry.
pub const MAX_TTL: Duration = Duration::from_secs(100 * 31_557_600);

/// Where a backend that judges expiry itself (memory, SQLite) takes the time from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The machine's clock, but for that it never goes back while the process runs: see [`SteadyClock`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// What every [`SystemClock`] of the process has told.
static TOLD: Told = Told::nothing();

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        #[allow(clippy::disallowed_methods, reason = "the one home of the machine's clock")]
        TOLD.after(SystemTime::now())
    }
}

/// Another clock, but for that it never goes back: else an entry that had expired would come to life again.
///
/// Where the other clock was put back, this one goes on from where it stood, as fast as the other one goes, until that one
/// has caught up. Backends put it around the clock that they are given.
#[derive(Debug)]
pub struct SteadyClock {
    clock: Arc<dyn Clock>,
    told: Told,
}

impl SteadyClock {
    /// Begins with the time that `clock` tells.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, told: Told::nothing() }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> SystemTime {
        self.told.after(self.clock.now())
    }
}

/// The latest time that was told, and how far it is ahead of the clock, in nanoseconds.
#[derive(Debug)]
struct Told {
    latest: AtomicU64,
    ahead: AtomicU64,
}

impl Told {
    const fn nothing() -> Self {
        Self { latest: AtomicU64::new(0), ahead: AtomicU64::new(0) }
    }

    /// The time to tell where the clock says `now`.
    fn after(&self, now: SystemTime) -> SystemTime {
        // 64 bits hold nanoseconds until the year 2554; before 1970 and after that the clock is told as it is.
        let Some(nanos) =
            now.duration_since(UNIX_EPOCH).ok().and_then(|since| since.as_nanos().try_into().ok())
        else {
            return now;
        };
        UNIX_EPOCH + Duration::from_nanos(self.after_nanos(nanos))
    }

    fn after_nanos(&self, now: u64) -> u64 {
        let latest = self.latest.load(Ordering::Relaxed);
        if now >= latest {
            // Written only where it changes: all callers of the process share the cache line.
            if self.ahead.load(Ordering::Relaxed) > 0 {
                self.ahead.store(0, Ordering::Relaxed);
            }
            return self.latest.fetch_max(now, Ordering::Relaxed).max(now);
        }
        let behind = latest - now;
        let ahead = self.ahead.fetch_max(behind, Ordering::Relaxed).max(behind);
        let told = now.saturating_add(ahead);
        self.latest.fetch_max(told, Ordering::Relaxed).max(told)
    }
}

/// A clock that moves only when told to, for tests.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use storage_core::{Clock, ManualClock};
///
/// let clock = ManualClock::new(UNIX_EPOCH);
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now(), UNIX_EPOCH + Duration::from_secs(5));
/// ```
#[derive(Debug)]
pub struct ManualClock(Mutex<SystemTime>);

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn new(start: SystemTime) -> Self {
        Self(Mutex::new(start))
    }

    /// Sets the clock, back too.
    pub fn set(&self, now: SystemTime) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Checks a time to live and returns it in milliseconds, rounded up so that nothing expires early.
///
/// # Errors
/// `InvalidInput` for zero and for more than [`MAX_TTL`].
pub fn ttl_millis(ttl: Duration) -> Result<u64> {
    if ttl.is_zero() {
        return Err(Error::invalid_input("a time to live of zero expires at once").with_hint("use delete"));
    }
    if ttl > MAX_TTL {
        return Err(Error::invalid_input("a time to live may have 100 years at most")
            .with_hint("leave the expiry out to keep the entry for good"));
    }
    Ok(u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// [`ttl_millis`] for an optional time to live.
///
/// # Errors
/// As [`ttl_millis`].
pub fn optional_ttl_millis(ttl: Option<Duration>) -> Result<Option<u64>> {
    ttl.map(ttl_millis).transpose()
}

/// Milliseconds since the epoch, rounded up: `now + ttl` computed from it is never early.
#[must_use]
pub fn epoch_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The expiry as the SQL stores keep it: seconds since the epoch, exact to the millisecond.
#[must_use]
pub fn epoch_seconds(millis: u64) -> f64 {
    // 53 bits hold milliseconds for 285,000 years.
    #[allow(clippy::cast_precision_loss, reason = "exact for every expiry that MAX_TTL lets in")]
    let millis = millis as f64;
    millis / 1000.0
}

/// The time at `seconds` since the epoch, as a SQL store keeps it, to the nearest millisecond: a float does not hold
/// every millisecond exactly. `None` where it is no such time.
#[must_use]
pub fn from_epoch_seconds(seconds: f64) -> Option<SystemTime> {
    let millis = Duration::try_from_secs_f64((seconds * 1000.0).round()).ok()?.as_secs();
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_to_the_millisecond() {
        assert_eq!(ttl_millis(Duration::from_nanos(1)).unwrap(), 1);
        assert_eq!(ttl_millis(Duration::from_micros(1_001)).unwrap(), 2);
        assert_eq!(ttl_millis(Duration::from_secs(2)).unwrap(), 2_000);
    }

    #[test]
    fn zero_and_endless_ttls_are_refused() {
        assert!(ttl_millis(Duration::ZERO).is_err());
        assert!(ttl_millis(MAX_TTL).is_ok());
        assert!(ttl_millis(Duration::MAX).is_err());
    }

    #[test]
    fn a_clock_that_is_put_back_goes_on_from_where_it_stood() {
        let second = Duration::from_secs;
        let machine = Arc::new(ManualClock::new(UNIX_EPOCH + second(100)));
        let clock = SteadyClock::new(Arc::clone(&machine) as Arc<dyn Clock>);
        assert_eq!(clock.now(), UNIX_EPOCH + second(100));
        machine.set(UNIX_EPOCH + second(40));
        assert_eq!(clock.now(), UNIX_EPOCH + second(100));
        machine.advance(second(5));
        assert_eq!(clock.now(), UNIX_EPOCH + second(105));
        // Put right again: the clock waits for nobody who has caught up.
        machine.set(UNIX_EPOCH + second(110));
        assert_eq!(clock.now(), UNIX_EPOCH + second(110));
    }

    #[test]
    fn threads_never_see_the_clock_go_back() {
        let told = Told::nothing();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let told = &told;
                scope.spawn(move || {
                    let mut last = 0;
                    for step in 0..50_000_u64 {
                        let jump = if step % 1_000 < 500 { 1_000_000 } else { 0 };
                        let now = told.after_nanos(1_000_000_000 + step * 7 + thread + jump);
                        assert!(now >= last);
                        last = now;
                    }
                });
            }
        });
    }

    #[test]
    fn epoch_seconds_keep_the_millisecond() {
        for millis in 1_795_000_000_000..1_795_000_002_000 {
            assert_eq!(epoch_millis(from_epoch_seconds(epoch_seconds(millis)).unwrap()), millis);
        }
        assert_eq!(from_epoch_seconds(f64::NAN), None);
        assert_eq!(from_epoch_seconds(-1.0), None);
        assert_eq!(from_epoch_seconds(f64::MAX), None);
    }
}
