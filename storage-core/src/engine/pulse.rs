//! Looks after [deadlines](super::Deadline) and [tasks](super::task) every 10 ms, for as long as there are any.
//!
//! Looking at all of them now and then costs a call far less than a timer of its own: a timer is a lock that all callers
//! share, taken twice. Measured on Redis at 256 callers, timers took a seventh of the throughput.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{background, deadline, task};

/// How late a deadline is noticed at most.
const TICK: Duration = Duration::from_millis(10);
/// So many ticks without anything to look after end the pulse. Starting it again wakes a thread, which costs a call some
/// microseconds.
const QUIET_TICKS: u32 = 100;

static BEATING: AtomicBool = AtomicBool::new(false);

/// Makes sure that what was just registered is looked after.
pub(super) fn ensure() {
    // A model checker knows no threads but its own.
    if cfg!(any(storage_loom, storage_shuttle)) {
        return;
    }
    if BEATING.load(Ordering::SeqCst) || BEATING.swap(true, Ordering::SeqCst) {
        return;
    }
    match background() {
        Ok(background) => drop(background.spawn(beat())),
        Err(error) => {
            BEATING.store(false, Ordering::SeqCst);
            tracing::error!(%error, "deadlines are not kept");
        }
    }
}

async fn beat() {
    let mut quiet = 0;
    loop {
        tokio::time::sleep(TICK).await;
        quiet = if look() { 0 } else { quiet + 1 };
        if quiet < QUIET_TICKS {
            continue;
        }
        BEATING.store(false, Ordering::SeqCst);
        // Whoever registered between the look and the store has seen a pulse that was about to end.
        if !look() || BEATING.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

/// Whether there was anything to look after.
fn look() -> bool {
    let deadlines = deadline::wake_late(Instant::now());
    task::relieve_stalled() || deadlines
}
