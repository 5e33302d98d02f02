//! How times on the command line are read.

use std::time::{Duration, SystemTime};

use storage_core::{Clock, SystemClock};

/// A moment in UTC, to the day, the minute or the second, or so long ago.
pub(super) fn time(text: &str) -> Result<SystemTime, &'static str> {
    let expected = "expected a time in UTC, such as 2026-11-28, '2026-11-28 12:00' or 2026-11-28T12:00:00Z, or so long ago, such as 2h";
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemClock.now().checked_sub(ago).ok_or(expected);
    }
    let whole = [format!("{text} 00:00:00"), format!("{text}:00"), text.to_owned()];
    whole.iter().find_map(|text| humantime::parse_rfc3339_weak(text).ok()).ok_or(expected)
}

pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected a duration above zero with its unit, such as 500ms, 90s or 2h"),
    }
}
