//! Random programs on simulated clouds, each from its seed.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use storage_tests::{simulated_schedules, simulated_seed};

use crate::world::run;

/// Schedules that run at once: much of their time they wait.
const AT_ONCE: usize = 12;
/// Where the seeds begin; a schedule's is what its report shows.
const FIRST: u64 = 1;

/// What is promised of batches, readers and objects holds under any order of what several machines do, and any faults of the
/// cloud between them.
#[test]
fn schedules_lose_nothing_acknowledged_and_repeat_nothing() {
    if let Some(seed) = simulated_seed() {
        return one(seed);
    }
    let (next, failed) = (AtomicU64::new(FIRST), AtomicBool::new(false));
    let end = FIRST + simulated_schedules(1_500) as u64;
    let (reports, began) = (Mutex::new(Vec::new()), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                while !failed.load(SeqCst) {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= end {
                        break;
                    }
                    if let Err(report) = runtime.block_on(run(seed)) {
                        failed.store(true, SeqCst);
                        reports.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
    println!("{} schedules in {:?}", end - FIRST, began.elapsed());
}

fn one(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Err(report) = runtime.block_on(run(seed)) {
        panic!("{report}");
    }
}
