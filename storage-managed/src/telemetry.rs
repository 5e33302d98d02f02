//! What operators watch: counters and gauges of the crate `metrics`, one series for each home.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use storage_core::ErrorKind;

/// Handles, taken from the recorder that is installed when a store is opened.
pub(crate) struct Telemetry {
    home: String,
    pub(crate) publications: Counter,
    pub(crate) publication_seconds: Histogram,
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
    pub(crate) retries: Counter,
    pub(crate) folds: Counter,
    pub(crate) removed: Counter,
    pub(crate) segments: Gauge,
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
            sent: counter!("storage_managed_sent_bytes_total", "home" => label()),
            received: counter!("storage_managed_received_bytes_total", "home" => label()),
            retries: counter!("storage_managed_retries_total", "home" => label()),
            folds: counter!("storage_managed_folds_total", "home" => label()),
            removed: counter!("storage_managed_removed_objects_total", "home" => label()),
            segments: gauge!("storage_managed_segments", "home" => label()),
            generation: gauge!("storage_managed_generation", "home" => label()),
            fresh: gauge!("storage_managed_fresh_timestamp_seconds", "home" => label()),
            unpublished: gauge!("storage_managed_unpublished", "home" => label()),
            home,
        }
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
