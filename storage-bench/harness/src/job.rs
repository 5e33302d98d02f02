//! What a worker is asked and what it answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Data;

/// One measurement of one contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// `sqlite`, `postgres` or `redis`.
    pub store: String,
    /// Who does it.
    pub contender: String,
    /// The SQLite file's path or the server's URL.
    pub target: String,
    /// What to do.
    pub task: Task,
    /// How many callers at once, each awaiting one operation at a time.
    pub callers: usize,
    /// The entries in the store.
    pub data: Data,
    /// How long to measure, in seconds; the load runs a quarter longer, which is not counted.
    pub seconds: f64,
    /// Operations per second to start, whether or not earlier ones have ended; `None` for as fast as it goes.
    pub rate: Option<f64>,
}

impl Job {
    /// How long to measure.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long the load runs before it counts.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        self.window() / 4
    }
}

/// What a contender does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Writes the entries, unmeasured.
    Seed,
    /// Reads one value.
    Get,
    /// Writes one value.
    Set,
    /// Reads and decodes all deals.
    ListDeals,
    /// Reads all entries, keeping none.
    Scan,
    /// Lists the keys of the deals.
    Keys,
    /// Reads the first 100 entries.
    #[serde(rename = "page_100")]
    Page,
    /// Removes 1,000 expired entries.
    Sweep,
}

impl Task {
    /// The operation's name in the results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Get => "get",
            Self::Set => "set",
            Self::ListDeals => "list_deals",
            Self::Scan => "scan",
            Self::Keys => "keys",
            Self::Page => "page_100",
            Self::Sweep => "sweep",
        }
    }
}

/// What a worker measured. Percentiles are those of one operation's latency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Operations that succeeded per second.
    pub ops_per_s: f64,
    /// The median, in microseconds.
    pub p50_us: f64,
    /// Of 100 operations one took longer, in microseconds.
    pub p99_us: f64,
    /// Of 1,000 operations one took longer, in microseconds.
    pub p999_us: f64,
    /// Processor time of the worker (not of a server) for one operation, in microseconds.
    pub cpu_us_per_op: f64,
    /// The most memory that the worker held, in MiB.
    pub peak_mib: f64,
    /// The memory that it held before its first operation, in MiB.
    pub idle_mib: f64,
    /// Operations that failed; they count nowhere else.
    pub errors: u64,
    /// What the first failed operation said.
    pub first_error: Option<String>,
}
