//! What operators watch: counters and gauges of the crate `metrics`, one series for each home.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use storage_core::ErrorKind;

/// Bytes in one direction: of this store, for its status, and of all stores of the home, for the recorder.
struct Travelled {
    here: AtomicU64,
    all: Counter,
}

impl Travelled {
    fn of(all: Counter) -> Self {
        Self { here: AtomicU64::new(0), all }
    }

    fn add(&self, bytes: u64) {
        self.here.fetch_add(bytes, Relaxed);
        self.all.increment(bytes);
    }
}

/// Handles, taken from the recorder that is installed when a store is opened.
pub(crate) struct Telemetry {
    home: String,
    pub(crate) publications: Counter,
    pub(crate) publication_seconds: Histogram,
    sent: Travelled,
    received: Travelled,
    pub(crate) retries: Counter,
    pub(crate) folds: Counter,
    pub(crate) merges: Counter,
    pub(crate) removed: Counter,
    pub(crate) segments: Gauge,
    pub(crate) objects: Gauge,
    pub(crate) generation: Gauge,
    pub(crate) fresh: Gauge,
    pub(crate) unpublished: Gauge,
}

impl Telemetry {
    pub(crate) fn of(home: String) -> Self {
        let label = || home.clone();
        Self {
            publications: counter!("storage_managed_publications_total", "home" => label()),
            publication_seconds: histogram!("storage_managed_publication_seconds", "home" => label()),
            sent: Travelled::of(counter!("storage_managed_sent_bytes_total", "home" => label())),
            received: Travelled::of(counter!("storage_managed_received_bytes_total", "home" => label())),
            retries: counter!("storage_managed_retries_total", "home" => label()),
            folds: counter!("storage_managed_folds_total", "home" => label()),
            merges: counter!("storage_managed_merges_total", "home" => label()),
            removed: counter!("storage_managed_removed_objects_total", "home" => label()),
            segments: gauge!("storage_managed_segments", "home" => label()),
            objects: gauge!("storage_managed_objects", "home" => label()),
            generation: gauge!("storage_managed_generation", "home" => label()),
            fresh: gauge!("storage_managed_fresh_timestamp_seconds", "home" => label()),
            unpublished: gauge!("storage_managed_unpublished", "home" => label()),
            home,
        }
    }

    /// So many bytes go to the home.
    pub(crate) fn count_sent(&self, bytes: u64) {
        self.sent.add(bytes);
    }

    /// So many bytes have come from it.
    pub(crate) fn count_received(&self, bytes: usize) {
        self.received.add(bytes as u64);
    }

    /// How many bytes this store has sent, tries that failed included, and received.
    pub(crate) fn travelled(&self) -> (u64, u64) {
        (self.sent.here.load(Relaxed), self.received.here.load(Relaxed))
    }

    /// An operation failed.
    pub(crate) fn failed(&self, kind: ErrorKind) {
        counter!("storage_managed_failures_total", "home" => self.home.clone(), "kind" => kind.code())
            .increment(1);
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("home", &self.home).finish_non_exhaustive()
    }
}
