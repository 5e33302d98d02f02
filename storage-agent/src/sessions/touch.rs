//! Which sessions were refreshed lately, so that not every message costs a write to its session.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// How many sessions are remembered; forgetting one costs a write too many, nothing else.
const MOST: usize = 10_000;
/// The longest time between two refreshes of a session in use.
const LONGEST: Duration = Duration::from_secs(60);

/// The time between two refreshes of a session in use.
pub(super) fn interval(ttl: Option<Duration>) -> Duration {
    ttl.map_or(LONGEST, |ttl| (ttl / 100).min(LONGEST))
}

#[derive(Debug, Default)]
pub(super) struct Touched(Mutex<HashMap<String, SystemTime>>);

impl Touched {
    /// Whether a session in use needs a refresh: none has been noted lately.
    pub(super) fn is_due(&self, id: &str, now: SystemTime, ttl: Option<Duration>) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
        // A clock that was set back makes it due, too.
        let since = last.and_then(|last| now.duration_since(last).ok());
        since.is_none_or(|since| since >= interval(ttl))
    }

    /// Notes that a session was refreshed. Not before it was: whoever finds no refresh due relies on it.
    pub(super) fn note(&self, id: &str, now: SystemTime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, last| now.duration_since(*last).is_ok_and(|since| since < LONGEST));
        }
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(id.to_owned(), now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_session_in_use_is_refreshed_once_in_a_while() {
        let touched = Touched::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let due = |seconds, ttl| touched.is_due("s", at(seconds), ttl);
        let day = Some(Duration::from_secs(86_400));
        assert!(due(1_000, day));
        touched.note("s", at(1_000));
        assert_eq!([due(1_000, day), due(1_059, day), due(1_060, day)], [false, false, true]);
        assert!(due(1_002, Some(Duration::from_secs(200))), "two seconds are a hundredth");
        assert!(due(900, None), "the clock was set back");
        for n in 0..3 * MOST {
            touched.note(&n.to_string(), at(900));
        }
        assert!(touched.0.lock().unwrap().len() <= MOST);
    }
}
