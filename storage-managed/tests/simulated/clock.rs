//! The one time of a simulated world: it passes faster than ours, and jumps where machines sleep.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime},
};

/// So that no time is before the epoch, nor an age unexpectedly large.
const BEGIN: Duration = Duration::from_secs(1_000_000_000);

#[derive(Debug, Clone)]
pub(crate) struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// How many times as fast as ours it passes.
    rate: u32,
    jumped_ms: AtomicU64,
}

impl Clock {
    pub(crate) fn new(rate: u32) -> Self {
        Self(Arc::new(Inner { start: Instant::now(), rate, jumped_ms: AtomicU64::new(0) }))
    }

    pub(crate) fn now(&self) -> Duration {
        let jumped = Duration::from_millis(self.0.jumped_ms.load(SeqCst));
        BEGIN + self.0.start.elapsed() * self.0.rate + jumped
    }

    pub(crate) fn jump(&self, by: Duration) {
        self.0.jumped_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), SeqCst);
    }

    /// As the stores take it.
    pub(crate) fn steady(&self) -> storage_managed::Steady {
        let clock = self.clone();
        storage_managed::Steady::new(move || clock.now())
    }
}

impl storage_core::Clock for Clock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Clock>> = const { RefCell::new(None) };
}

/// What the product's lease takes for its clock: that of the world in which it is made.
#[derive(Debug)]
pub(crate) struct Steady(Clock);

impl Steady {
    /// Makes something whose clocks are this one.
    pub(crate) fn of<T>(clock: &Clock, make: impl FnOnce() -> T) -> T {
        CURRENT.set(Some(clock.clone()));
        let made = make();
        CURRENT.set(None);
        made
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.now()
    }

    pub(crate) fn since(&self, at: Duration) -> Duration {
        self.now().saturating_sub(at)
    }
}

impl Default for Steady {
    fn default() -> Self {
        Self(CURRENT.with_borrow(|clock| clock.clone().expect("it is made in a world")))
    }
}
