//! What the stores of this process did: counts, errors and latencies for each operation, in bounded memory.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;
use storage_core::Result;

/// The longest latency that is told apart, in microseconds: 10 minutes.
const LONGEST: u64 = 600_000_000;

/// What one operation did since the process began.
#[derive(Debug, Clone, Serialize)]
pub struct OperationMetrics {
    /// Its name, as the method's; those of checkpoints begin with `checkpointer.` and `checkpoints.`, those of memories
    /// with `memories.`.
    pub operation: &'static str,
    /// How often it ended, well or not.
    pub count: u64,
    /// How often with an error.
    pub errors: u64,
    /// The latency that half of the calls did not pass; latencies are kept to 1 %.
    pub p50: Duration,
    /// The latency that 95 of 100 calls did not pass.
    pub p95: Duration,
    /// The latency that 99 of 100 calls did not pass.
    pub p99: Duration,
    /// The longest latency.
    pub max: Duration,
}

/// Counts operations. One histogram for each name, and the names are those of methods: memory is bounded.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<BTreeMap<&'static str, Recorded>>);

struct Recorded {
    count: u64,
    errors: u64,
    /// In microseconds.
    latencies: Option<Histogram<u64>>,
}

impl Recorder {
    /// Runs an operation and counts it. One that is dropped before its end counts for nothing.
    pub(crate) async fn measured<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        let answer = work.await;
        self.record(operation, start.elapsed(), answer.is_err());
        answer
    }

    fn record(&self, operation: &'static str, latency: Duration, failed: bool) {
        let mut all = self.lock();
        let recorded = all.entry(operation).or_insert_with(|| Recorded {
            count: 0,
            errors: 0,
            latencies: Histogram::new_with_bounds(1, LONGEST, 2).ok(),
        });
        recorded.count += 1;
        recorded.errors += u64::from(failed);
        if let Some(latencies) = &mut recorded.latencies {
            latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST).max(1));
        }
    }

    pub(crate) fn operations(&self) -> Vec<OperationMetrics> {
        self.lock().iter().map(|(operation, recorded)| recorded.metrics(operation)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    fn metrics(&self, operation: &'static str) -> OperationMetrics {
        let at = |quantile: f64| {
            let latency =
                self.latencies.as_ref().map_or(0, |latencies| latencies.value_at_quantile(quantile));
            Duration::from_micros(latency)
        };
        let (count, errors) = (self.count, self.errors);
        OperationMetrics {
            operation,
            count,
            errors,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("operations", &self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_counts_and_errors_are_kept_for_each_operation() {
        let recorder = Recorder::default();
        for millis in 1..=100 {
            recorder.record("get", Duration::from_millis(millis), millis > 98);
        }
        recorder.record("set", Duration::from_secs(100_000), false);
        let [get, set] = &recorder.operations()[..] else { panic!("two operations") };
        assert_eq!((get.operation, get.count, get.errors), ("get", 100, 2));
        for (latency, millis) in [(get.p50, 50), (get.p95, 95), (get.p99, 99), (get.max, 100)] {
            let exact = Duration::from_millis(millis);
            assert!(latency >= exact && latency < exact.mul_f64(1.02), "{latency:?} for {exact:?}");
        }
        assert!(set.max >= Duration::from_micros(LONGEST));
    }
}
