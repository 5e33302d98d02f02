//! Random programs on simulated clouds, each from its seed.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use fastrand::Rng;
use futures::future::join_all;
use storage_tests::{simulated_schedules, simulated_seed};

use crate::{ledger::Tally, machine::Machine, world::World};

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
    let count = simulated_schedules(1_500) as u64;
    let end = FIRST + count;
    let (reports, total, began) = (Mutex::new(Vec::new()), Mutex::new(Tally::default()), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                while !failed.load(SeqCst) {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= end {
                        break;
                    }
                    match runtime.block_on(run(seed)) {
                        Ok(tally) => total.lock().unwrap().add(tally),
                        Err(report) => {
                            failed.store(true, SeqCst);
                            reports.lock().unwrap().push(report);
                        }
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
    let total = total.into_inner().unwrap();
    println!("{count} schedules in {:?}: {total:?}", began.elapsed());
    assert!(count < 500 || total.least() > 0, "something that is to be tested has never happened: {total:?}");
}

fn one(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Err(report) = runtime.block_on(run(seed)) {
        panic!("{report}");
    }
}

/// Runs the schedule of a seed; what was wrong, with all that happened.
async fn run(seed: u64) -> Result<Tally, String> {
    let mut rng = Rng::with_seed(seed);
    let world = World::new(seed, &mut rng);
    let machines: Vec<_> = (0..rng.usize(2..=4)).map(|number| Machine::new(&world, number)).collect();
    let steps = rng.usize(4..=12);
    let machines = join_all(machines.into_iter().map(|machine| machine.work(steps))).await;
    if !world.is_wrong() {
        world.cloud.heal();
        join_all(machines.into_iter().map(Machine::leave)).await;
        world.settle().await;
    }
    if !world.is_wrong() {
        world.judge().await;
    }
    world.report()
}
