//! Which connections are not used again, though nobody has closed them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A connection that was not used for so long is asked whether it still answers: networks forget what lies idle.
pub(super) const IDLE: Duration = Duration::from_secs(3);
/// How long it has for that, at most.
const PROBE: Duration = Duration::from_secs(1);
/// Where a server took no writes from the beginning, the name is looked at again so often.
const READ_ONLY_AGE: Duration = Duration::from_millis(500);

/// Shared by all connections to a server. The name may lead elsewhere meanwhile, and new ones go there.
#[derive(Debug)]
pub(crate) struct Retired {
    base: Instant,
    /// Connections opened before are retired.
    generation: AtomicU64,
    /// Those not used since are retired; in milliseconds.
    silent: AtomicU64,
}

/// What is known of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Age {
    generation: u64,
    opened: Instant,
    used: Instant,
    /// Whether it took writes when it was opened, as far as the server said.
    writable: bool,
}

/// Until when a connection's server is near enough, and when it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near {
    pub(super) asked: Instant,
    pub(super) until: Instant,
}

impl Retired {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), generation: AtomicU64::new(0), silent: AtomicU64::new(0) }
    }

    /// Of a connection that is opened from now on.
    pub(super) fn begin(&self) -> Age {
        let now = Instant::now();
        let generation = self.generation.load(Ordering::SeqCst);
        Age { generation, opened: now, used: now, writable: false }
    }

    pub(super) fn contains(&self, age: Age) -> bool {
        age.generation < self.generation.load(Ordering::Relaxed)
            || self.millis(age.used) < self.silent.load(Ordering::Relaxed)
    }

    /// A write was refused because the server takes none. Retires all connections to it, and says whether a new one may do
    /// better: where it was so from the beginning, the name led there a moment ago.
    pub(super) fn takes_no_writes(&self, age: Age) -> bool {
        let retires = age.writable || age.opened.elapsed() >= READ_ONLY_AGE;
        if retires {
            self.generation.fetch_max(age.generation + 1, Ordering::SeqCst);
        }
        retires
    }

    /// One that lay idle did not answer, and what lay idle with it will not either.
    pub(super) fn is_silent(&self, age: Age) {
        self.silent.fetch_max(self.millis(age.used) + 1, Ordering::SeqCst);
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Age {
    /// Once it is opened.
    pub(super) fn opened(self, writable: bool) -> Self {
        let now = Instant::now();
        Self { opened: now, used: now, writable, ..self }
    }

    pub(super) fn use_now(&mut self) {
        self.used = Instant::now();
    }

    /// Whether it may have been forgotten by the network.
    pub(super) fn is_idle(self) -> bool {
        self.used.elapsed() >= IDLE
    }
}

/// How long an idle connection may take to answer, where a call may take `limit`.
pub(super) fn probe_limit(limit: Duration) -> Duration {
    PROBE.min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_no_writes_is_retired_with_all_of_its_age_once() {
        let retired = Retired::new();
        let (first, second) = (retired.begin().opened(true), retired.begin().opened(false));
        assert!(!retired.takes_no_writes(second), "so from the beginning, and just opened");
        assert!(!retired.contains(first));
        assert!(retired.takes_no_writes(first) && retired.contains(first) && retired.contains(second));
        let third = retired.begin().opened(true);
        assert!(retired.takes_no_writes(first));
        assert!(!retired.contains(third), "it was opened since");
        let old = Age { opened: Instant::now() - READ_ONLY_AGE, ..retired.begin() };
        assert!(retired.takes_no_writes(old) && retired.contains(third));
    }

    #[test]
    fn what_lay_idle_with_a_silent_one_is_retired() {
        let retired = Retired { base: Instant::now() - 2 * IDLE, ..Retired::new() };
        let idle = Age { used: Instant::now() - IDLE, ..retired.begin() };
        let busy = retired.begin();
        assert!(idle.is_idle() && !busy.is_idle() && !retired.contains(idle));
        retired.is_silent(idle);
        assert!(retired.contains(idle) && !retired.contains(busy));
    }
}
