//! A clock for intervals that goes on while the machine is suspended.

use std::{fmt, sync::Arc, time::Duration};

/// The clock by which leases end and what was read grows old: the time since some moment in the past. It must not stand still
/// while the machine sleeps, as [`Instant`](std::time::Instant) does on Linux: somebody else would have the lease by then.
#[derive(Clone)]
pub struct Steady(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Steady {
    /// A clock of one's own, for tests.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.0)()
    }

    /// How long ago it showed `at`.
    pub(crate) fn since(&self, at: Duration) -> Duration {
        self.now().saturating_sub(at)
    }
}

impl Default for Steady {
    /// The system's: `CLOCK_BOOTTIME` on Linux; elsewhere the monotonic clock, which counts sleep there.
    fn default() -> Self {
        Self::new(system)
    }
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steady")
    }
}

#[cfg(unix)]
fn system() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;
    clock_gettime(CLOCK).try_into().unwrap_or_default()
}

#[cfg(not(unix))]
fn system() -> Duration {
    use std::{sync::LazyLock, time::Instant};
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/proc/uptime` counts suspend.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_systems_clock_counts_suspend() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let now = Steady::default().now().as_secs_f64();
        assert!((uptime - 0.02..uptime + 10.0).contains(&now), "{now} is not {uptime}");
    }
}
