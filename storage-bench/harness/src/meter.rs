//! Latencies, and what else a measurement is made of.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::resource::UsageWho;

use crate::{Error, Job, Measured, Result, usage};

/// Few enough to cost no memory, enough that callers rarely meet.
const SHARDS: usize = 8;
/// The longest latency that is told apart, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// Collects latencies from many callers.
#[derive(Debug)]
pub struct Meter {
    shards: Vec<Mutex<Histogram<u64>>>,
    operations: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    idle_mib: f64,
}

impl Meter {
    /// An empty one. The memory that is held now counts as idle.
    ///
    /// # Errors
    /// None that can happen: the bounds are right.
    pub fn new() -> Result<Self> {
        let shards = (0..SHARDS).map(|_| Ok(Mutex::new(Histogram::new_with_bounds(1, LONGEST, 3)?)));
        Ok(Self {
            shards: shards.collect::<Result<_>>()?,
            operations: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            first_error: Mutex::new(None),
            idle_mib: usage::held_mib(),
        })
    }

    /// Adds to the operations whose rate is measured.
    pub fn count(&self, operations: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
    }

    /// Adds the latency of `operations`, be they counted or not.
    pub fn record(&self, caller: usize, latency: Duration, operations: u64) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        if let Some(shard) = self.shards.get(caller % SHARDS) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.saturating_record_n(nanoseconds, operations);
        }
    }

    /// Counts a failed operation.
    pub fn fail(&self, error: &Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first_error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| error.to_string());
    }

    /// What was measured in `seconds` at the cost of `processor_time`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
    pub fn finish(&self, seconds: f64, processor_time: Duration) -> Measured {
        let mut all: Option<Histogram<u64>> = None;
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut all {
                // The same bounds: it fits.
                Some(all) => all.add(&*shard).unwrap_or_default(),
                None => all = Some(shard.clone()),
            }
        }
        let quantile = |q| all.as_ref().map_or(0.0, |all| all.value_at_quantile(q) as f64 / 1000.0);
        let operations = self.operations.load(Ordering::Relaxed) as f64;
        Measured {
            ops_per_s: operations / seconds,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            cpu_us_per_op: processor_time.as_secs_f64() * 1e6 / operations.max(1.0),
            peak_mib: usage::peak_mib(),
            idle_mib: self.idle_mib,
            errors: self.errors.load(Ordering::Relaxed),
            first_error: self.first_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// When a load counts: after its warm-up, until its end.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// When it begins to count.
    pub start: Instant,
    /// When it ends.
    pub end: Instant,
}

impl Window {
    /// The window of a job that begins now.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let start = Instant::now() + job.warm_up();
        Self { start, end: start + job.window() }
    }

    /// Adds an operation that ended at `now`. One that ended after the window adds its latency alone: what was slow
    /// enough to miss the end must not be missing.
    pub fn add(&self, meter: &Meter, caller: usize, since: Instant, now: Instant, operations: u64) {
        if now < self.start {
            return;
        }
        meter.record(caller, now - since, operations);
        if now <= self.end {
            meter.count(operations);
        }
    }

    /// How long it is.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.end - self.start).as_secs_f64()
    }
}

/// Processor time of this process from now on.
#[derive(Debug)]
pub struct Stopwatch {
    before: Duration,
}

impl Stopwatch {
    /// Starts to count.
    #[must_use]
    pub fn start() -> Self {
        Self { before: usage::processor_time(UsageWho::RUSAGE_SELF) }
    }

    /// What was used since the start.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        usage::processor_time(UsageWho::RUSAGE_SELF).saturating_sub(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_rate_and_cost_of_known_latencies() {
        let meter = Meter::new().unwrap();
        for millis in 1..=1000 {
            meter.record(millis, Duration::from_millis(millis as u64), 1);
        }
        meter.count(1000);
        meter.fail(&"broken".into());
        meter.fail(&"again".into());
        let measured = meter.finish(2.0, Duration::from_millis(50));
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected * 0.002;
        assert!(near(measured.p50_us, 500_000.0), "{measured:?}");
        assert!(near(measured.p99_us, 990_000.0), "{measured:?}");
        assert!(near(measured.p999_us, 999_000.0), "{measured:?}");
        assert!(near(measured.ops_per_s, 500.0) && near(measured.cpu_us_per_op, 50.0), "{measured:?}");
        assert_eq!((measured.errors, measured.first_error.as_deref()), (2, Some("broken")));
        assert!(measured.peak_mib > 0.0);
    }

    #[test]
    fn what_ends_late_adds_its_latency_and_no_operation() {
        let (meter, start) = (Meter::new().unwrap(), Instant::now());
        let window = Window { start: start + Duration::from_secs(1), end: start + Duration::from_secs(2) };
        let at = |millis| start + Duration::from_millis(millis);
        window.add(&meter, 0, start, at(500), 1);
        window.add(&meter, 0, at(1_400), at(1_500), 1);
        window.add(&meter, 0, at(1_500), at(4_500), 1);
        let measured = meter.finish(window.seconds(), Duration::ZERO);
        assert_eq!(measured.ops_per_s, 1.0);
        assert!(measured.p50_us < 101_000.0 && measured.p99_us > 2_990_000.0, "{measured:?}");
    }

    #[test]
    fn nothing_measured_is_nothing() {
        let measured = Meter::new().unwrap().finish(1.0, Duration::ZERO);
        assert_eq!((measured.ops_per_s, measured.p999_us, measured.cpu_us_per_op), (0.0, 0.0, 0.0));
    }
}
