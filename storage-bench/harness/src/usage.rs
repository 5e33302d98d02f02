//! What the process has used.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Processor time so far.
pub(crate) fn processor_time(who: UsageWho) -> Duration {
    let Ok(usage) = getrusage(who) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// What the programs that this process ran have used.
#[derive(Debug, Clone, Copy)]
pub struct Children {
    /// Processor time of all of them.
    pub processor_time: Duration,
    /// The most memory that one of them held, in MiB.
    pub peak_mib: f64,
}

/// What the programs that this process ran, and that have ended, have used.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
pub fn children() -> Children {
    let who = UsageWho::RUSAGE_CHILDREN;
    let peak_kib = getrusage(who).map_or(0, |usage| usage.max_rss());
    Children { processor_time: processor_time(who), peak_mib: peak_kib as f64 / 1024.0 }
}

/// The most memory that this process has held, in MiB; 0 where the system does not tell.
pub(crate) fn peak_mib() -> f64 {
    status_mib("VmHWM:")
}

/// The memory that this process holds, in MiB; 0 where the system does not tell.
pub(crate) fn held_mib() -> f64 {
    status_mib("VmRSS:")
}

fn status_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
