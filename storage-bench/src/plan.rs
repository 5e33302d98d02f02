//! What is measured, and for how long.

use storage_bench_harness::{Data, Task};

/// What a run covers.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How often everything is repeated.
    pub(crate) rounds: usize,
    /// How long one measurement counts.
    pub(crate) seconds: f64,
    /// How many callers at once, on short values and on long ones.
    pub(crate) callers: [Vec<usize>; 2],
    /// The entries with short values and with long ones.
    pub(crate) data: [Data; 2],
    /// The fixed rates, as shares of what ours reaches.
    pub(crate) rates: Vec<f64>,
    /// How many keys the growing store has, one size after the other.
    pub(crate) growth: Vec<u64>,
}

/// The callers of the measurements at a fixed rate.
pub(crate) const RATE_CALLERS: usize = 64;
/// The largest store that is scanned.
const SCANNED: u64 = 1_000_000;
const SHORT: usize = 220;
const LONG: usize = 4096;

impl Plan {
    pub(crate) fn new(quick: bool, growth: Option<u32>) -> Self {
        let power = growth.unwrap_or(if quick { 5 } else { 7 });
        let growth = (4..=power).map(|power| 10_u64.pow(power)).collect();
        if quick {
            return Self {
                rounds: 3,
                seconds: 0.4,
                callers: [vec![1, 16, 64, 256], vec![64]],
                data: [deals(100_000, SHORT), deals(10_000, LONG)],
                rates: vec![0.1, 0.5],
                growth,
            };
        }
        let callers = vec![1, 16, 64, 256, 1024];
        Self {
            rounds: 3,
            seconds: 0.5,
            callers: [callers.clone(), callers],
            data: [deals(100_000, SHORT), deals(100_000, LONG)],
            rates: vec![0.1, 0.25, 0.5],
            growth,
        }
    }

    /// Whether the growing store is scanned at this size.
    pub(crate) fn scans_at(&self, keys: u64) -> bool {
        self.growth.iter().copied().filter(|keys| *keys <= SCANNED).max() == Some(keys)
    }
}

fn deals(keys: u64, value_bytes: usize) -> Data {
    Data { prefix: "deal".into(), keys, value_bytes }
}

/// Entries of the growing store: few of them are deals, see [`growing_deals`].
pub(crate) fn growing(keys: u64) -> Data {
    Data { prefix: "product".into(), keys, value_bytes: SHORT }
}

/// The deals that a growing store has from the start.
pub(crate) fn growing_deals() -> Data {
    deals(100, SHORT)
}

/// What runs a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// This one.
    Own,
    /// The one with the crates that cannot be built into this one.
    Peers,
    Python,
}

/// Which loads a contender takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them.
    Every,
    /// It is a limit: these tasks with these callers, measured beside `beside` callers of the others.
    Limit { tasks: &'static [Task], callers: &'static [usize], beside: usize },
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) part: Part,
}

const fn own(name: &'static str) -> Contestant {
    Contestant { name, program: Program::Own, part: Part::Every }
}

const fn peer(name: &'static str) -> Contestant {
    Contestant { name, program: Program::Peers, part: Part::Every }
}

const fn python(name: &'static str) -> Contestant {
    Contestant { name, program: Program::Python, part: Part::Every }
}

const fn limit(
    name: &'static str,
    tasks: &'static [Task],
    callers: &'static [usize],
    beside: usize,
) -> Contestant {
    Contestant { name, program: Program::Own, part: Part::Limit { tasks, callers, beside } }
}

const BOTH: &[Task] = &[Task::Get, Task::Set];
const PYTHON: [Contestant; 2] = [python("py-key-value"), python("python-driver")];
const SQLITE: [Contestant; 8] = [
    own("ours"),
    own("tokio-rusqlite"),
    peer("sqlx"),
    peer("opendal"),
    PYTHON[0],
    PYTHON[1],
    limit("raw-256", &[Task::Set], &[1], 256),
    limit("raw-1-thread", &[Task::Get], &[1], 64),
];
const POSTGRES: [Contestant; 8] = [
    own("ours"),
    own("bb8-postgres"),
    own("tokio-postgres"),
    peer("sqlx"),
    peer("opendal"),
    PYTHON[0],
    PYTHON[1],
    limit("pgbench", BOTH, &[16, 64], 256),
];
const REDIS: [Contestant; 9] = [
    own("ours"),
    own("bb8-redis"),
    own("redis"),
    own("fred"),
    peer("opendal"),
    PYTHON[0],
    PYTHON[1],
    limit("redis-benchmark-p1", BOTH, &[50], 256),
    limit("redis-benchmark-p32", BOTH, &[50], 256),
];

/// Who is measured on a store, ours first.
pub(crate) fn contestants(store: &str) -> &'static [Contestant] {
    match store {
        "sqlite" => &SQLITE,
        "postgres" => &POSTGRES,
        _ => &REDIS,
    }
}

/// Who reads all deals through the driver alone.
pub(crate) fn bare_listing(store: &str) -> &'static str {
    match store {
        "sqlite" => "raw-1-thread",
        "postgres" => "tokio-postgres",
        _ => "bb8-redis",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_first_and_names_are_not_repeated() {
        for store in ["sqlite", "postgres", "redis"] {
            let names: Vec<&str> = contestants(store).iter().map(|contestant| contestant.name).collect();
            assert_eq!(names[0], "ours");
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.len(), "{store}");
            assert!(names.contains(&bare_listing(store)));
        }
    }

    #[test]
    fn a_scan_is_measured_once_at_the_largest_store_up_to_a_million() {
        for (growth, expected) in [(4, 10_000), (5, 100_000), (7, 1_000_000)] {
            let plan = Plan::new(false, Some(growth));
            let scanned: Vec<u64> = plan.growth.iter().copied().filter(|keys| plan.scans_at(*keys)).collect();
            assert_eq!(scanned, [expected]);
        }
    }
}
