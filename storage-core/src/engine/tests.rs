//! What callers see of shared work, with work that says how it was called.

#![cfg(not(any(storage_loom, storage_shuttle)))]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{runtime, sync::Notify};

use super::*;
use crate::{Error, ErrorKind, Result};

/// Doubles numbers, refuses 13, panics at 666, and holds each group until told to go on.
#[derive(Default)]
struct Doubler {
    groups: Mutex<Vec<Vec<u64>>>,
    running: AtomicUsize,
    most: AtomicUsize,
    gate: Option<Notify>,
    in_background: bool,
    refuses: AtomicBool,
}

impl Work for Arc<Doubler> {
    type Item = u64;
    type Answer = u64;

    fn weight(&self, item: &u64) -> usize {
        usize::try_from(*item).unwrap()
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }

    fn start(worker: Worker<Self>) {
        let doubler = Arc::clone(worker.work());
        if doubler.refuses.load(Ordering::SeqCst) {
            return;
        }
        let serving = worker.serve(async |doubler: &Self, items| doubler.double(items).await);
        match doubler.in_background {
            true => task::spawn_in_background(serving),
            false => task::spawn(serving),
        }
    }
}

impl Doubler {
    fn gated() -> Arc<Self> {
        Arc::new(Self { gate: Some(Notify::new()), ..Self::default() })
    }

    async fn double(&self, items: Vec<u64>) -> Vec<Result<u64>> {
        assert!(!items.contains(&666), "666");
        self.groups.lock().unwrap().push(items.clone());
        self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        match &self.gate {
            Some(gate) => gate.notified().await,
            None => tokio::time::sleep(Duration::from_millis(2)).await,
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        let double = |item: u64| if item == 13 { Err(Error::invalid_input("13")) } else { Ok(item * 2) };
        items.into_iter().map(double).collect()
    }

    fn groups(&self) -> Vec<Vec<u64>> {
        self.groups.lock().unwrap().clone()
    }

    fn open_gate(&self) {
        self.gate.as_ref().unwrap().notify_one();
    }
}

const LIMITS: Limits = Limits { workers: 1, items: 100, bytes: 1 << 20 };

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn combiner(doubler: &Arc<Doubler>, limits: Limits) -> Arc<Combiner<Arc<Doubler>>> {
    Arc::new(Combiner::new(Arc::clone(doubler), limits))
}

async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not come about");
}

/// Polls a future once, as `select!` or a stream of futures does, and leaves it.
fn poll_once<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[tokio::test]
async fn a_lone_caller_travels_alone_and_those_who_come_meanwhile_travel_together() {
    let doubler = Arc::new(Doubler::default());
    let combiner = combiner(&doubler, LIMITS);
    assert_eq!(combiner.submit(1, soon()).await.unwrap(), 2);
    let first = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(2, soon()).await }
    });
    wait_until(|| doubler.groups().len() == 2).await;
    let answers = join_all((0..50).map(|n| combiner.submit(n, soon()))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        match n {
            13 => assert_eq!(answer.unwrap_err().message(), "13"),
            _ => assert_eq!(answer.unwrap(), n as u64 * 2),
        }
    }
    assert_eq!(first.await.unwrap().unwrap(), 4);
    let sizes: Vec<usize> = doubler.groups().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1, 50]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_groups_run_than_may_and_every_caller_gets_its_own_answer() {
    let doubler = Arc::new(Doubler::default());
    let combiner = combiner(&doubler, Limits { workers: 3, items: 7, ..LIMITS });
    let callers = (0..64_u64).map(|caller| {
        let combiner = Arc::clone(&combiner);
        tokio::spawn(async move {
            for round in 0..20 {
                let item = 1_000 + caller * 100 + round;
                assert_eq!(combiner.submit(item, soon()).await.unwrap(), item * 2);
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    assert!(doubler.most.load(Ordering::SeqCst) <= 3);
    assert!(doubler.groups().iter().all(|group| group.len() <= 7));
}

#[tokio::test]
async fn groups_are_bounded_in_bytes_and_a_large_operation_travels_alone() {
    let doubler = Arc::new(Doubler::default());
    let combiner = combiner(&doubler, Limits { bytes: 100, ..LIMITS });
    join_all([1, 60, 30, 500, 40, 50].map(|n| combiner.submit(n, soon()))).await;
    assert_eq!(doubler.groups(), [vec![1, 60, 30], vec![500], vec![40, 50]]);
}

#[tokio::test]
async fn a_call_that_is_polled_once_and_kept_blocks_nobody() {
    let doubler = Arc::new(Doubler::default());
    let combiner = combiner(&doubler, LIMITS);
    let mut kept: Vec<_> = (0..200).map(|n| Box::pin(combiner.submit(n + 1_000, soon()))).collect();
    kept.iter_mut().for_each(|call| poll_once(call.as_mut()));
    for n in 0..20 {
        assert_eq!(combiner.submit(n + 20, soon()).await.unwrap(), (n + 20) * 2);
    }
    for (n, call) in kept.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), (n as u64 + 1_000) * 2, "its own answer waits for it");
    }
}

#[tokio::test]
async fn a_caller_that_gave_up_before_its_operation_was_taken_is_not_begun() {
    let doubler = Doubler::gated();
    let combiner = combiner(&doubler, LIMITS);
    let first = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(1, soon()).await }
    });
    wait_until(|| doubler.groups().len() == 1).await;
    let started = Instant::now();
    let late = combiner.submit(2, Deadline::after(Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "nobody took it");
    assert!(started.elapsed() < Duration::from_secs(1));
    for round in 0..100 {
        let mut dropped = Box::pin(combiner.submit(round, soon()));
        poll_once(dropped.as_mut());
        assert_eq!(combiner.waiting(), 1);
        drop(dropped);
        assert_eq!(combiner.waiting(), 0);
    }
    doubler.open_gate();
    first.await.unwrap().unwrap();
    assert_eq!(doubler.groups(), [[1]]);
}

#[tokio::test]
async fn a_caller_whose_operation_was_taken_is_told_that_the_outcome_is_unknown() {
    let doubler = Doubler::gated();
    let combiner = combiner(&doubler, LIMITS);
    let late = combiner.submit(2, Deadline::after(Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::OutcomeUnknown);
    doubler.open_gate();
}

#[tokio::test]
async fn a_panic_is_told_to_its_group_and_the_next_group_goes_on() {
    let doubler = Arc::new(Doubler::default());
    let combiner = combiner(&doubler, Limits { items: 1, ..LIMITS });
    let answers = join_all([1, 666, 2, 666, 3].map(|n| combiner.submit(n, soon()))).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
    let lost = Err(ErrorKind::OutcomeUnknown);
    assert_eq!(kinds, [Ok(2), lost, Ok(4), lost, Ok(6)]);
}

#[tokio::test]
async fn where_no_worker_can_start_everybody_is_told_and_the_next_caller_tries_again() {
    let doubler = Arc::new(Doubler::default());
    doubler.refuses.store(true, Ordering::SeqCst);
    let combiner = combiner(&doubler, LIMITS);
    for answer in join_all((0..5).map(|n| combiner.submit(n, soon()))).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    doubler.refuses.store(false, Ordering::SeqCst);
    assert_eq!(combiner.submit(4, soon()).await.unwrap(), 8);
}

#[tokio::test]
async fn a_closed_queue_refuses_what_waits_and_what_comes() {
    let doubler = Doubler::gated();
    let combiner = combiner(&doubler, LIMITS);
    let mut taken = Box::pin(combiner.submit(1, soon()));
    poll_once(taken.as_mut());
    wait_until(|| doubler.groups().len() == 1).await;
    let mut waiting = Box::pin(combiner.submit(2, soon()));
    poll_once(waiting.as_mut());
    combiner.close();
    assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(combiner.submit(3, soon()).await.unwrap_err().kind(), ErrorKind::NotConnected);
    doubler.open_gate();
    assert_eq!(taken.await.unwrap(), 2);
}

#[test]
fn a_thread_without_a_runtime_is_served() {
    let combiner = combiner(&Arc::new(Doubler::default()), LIMITS);
    assert_eq!(futures::executor::block_on(combiner.submit(4, soon())).unwrap(), 8);
    let gated = self::combiner(&Doubler::gated(), LIMITS);
    let late = gated.submit(4, Deadline::after(Duration::from_millis(30)));
    assert_eq!(futures::executor::block_on(late).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn where_a_runtime_ends_its_worker_goes_on_for_the_callers_of_another() {
    let doubler = Doubler::gated();
    let combiner = combiner(&doubler, LIMITS);
    let (ending, other) = (current_thread(), current_thread());
    // The worker starts on the runtime that ends, and has a group.
    let mut first = Box::pin(combiner.submit(1, soon()));
    ending.block_on(async {
        poll_once(first.as_mut());
        wait_until(|| doubler.groups().len() == 1).await;
    });
    let mut second = Box::pin(combiner.submit(2, soon()));
    other.block_on(async { poll_once(second.as_mut()) });
    drop(ending);
    doubler.open_gate();
    other.block_on(async {
        assert_eq!(first.await.unwrap(), 2, "also where the caller itself has moved");
        wait_until(|| doubler.groups().len() == 2).await;
        doubler.open_gate();
        assert_eq!(second.await.unwrap(), 4);
    });
}

#[test]
fn where_a_runtime_is_not_driven_any_more_the_background_works_for_others() {
    let doubler = Arc::new(Doubler { in_background: false, ..Doubler::default() });
    let combiner = combiner(&doubler, LIMITS);
    let (still, other) = (current_thread(), current_thread());
    let mut kept = Box::pin(combiner.submit(1, soon()));
    still.block_on(async { poll_once(kept.as_mut()) });
    // From here on nobody drives `still`, but its timers: what sleeps on them sleeps.
    let started = Instant::now();
    let answer = other.block_on(combiner.submit(2, Deadline::after(Duration::from_millis(500))));
    assert!(started.elapsed() < Duration::from_secs(2), "{answer:?}");
    drop(still);
}

/// A worker that never sleeps: what its own runtime does not poll, the background does.
struct Echo;

impl Work for Echo {
    type Item = u64;
    type Answer = u64;

    fn weight(&self, _: &u64) -> usize {
        1
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Timeout
    }

    fn start(worker: Worker<Self>) {
        task::spawn(worker.serve(async |_: &Self, items: Vec<u64>| items.into_iter().map(Ok).collect()));
    }
}

#[test]
fn a_task_that_computes_beside_a_call_stalls_nobody() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let combiner = Arc::new(Combiner::new(Echo, LIMITS));
    runtime.block_on(async {
        let computing = tokio::spawn({
            let combiner = Arc::clone(&combiner);
            async move {
                // The worker that this starts lies in a slot that only this thread looks into.
                let mut kept = Box::pin(combiner.submit(1, soon()));
                poll_once(kept.as_mut());
                thread::sleep(Duration::from_secs(2));
                kept.await.unwrap()
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        for n in 0..20 {
            let started = Instant::now();
            assert_eq!(combiner.submit(n, soon()).await.unwrap(), n);
            assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
        }
        assert_eq!(computing.await.unwrap(), 1);
    });
}

#[test]
fn a_runtime_that_computes_stalls_no_other() {
    let combiner = Arc::new(Combiner::new(Echo, LIMITS));
    let started = Arc::new(std::sync::Barrier::new(2));
    let computing = thread::spawn({
        let (combiner, started) = (Arc::clone(&combiner), Arc::clone(&started));
        move || {
            current_thread().block_on(async {
                assert_eq!(combiner.submit(1, soon()).await.unwrap(), 1);
                started.wait();
                thread::sleep(Duration::from_secs(2));
            });
        }
    });
    started.wait();
    current_thread().block_on(async {
        for n in 0..20 {
            let started = Instant::now();
            assert_eq!(combiner.submit(n, soon()).await.unwrap(), n);
            assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
        }
    });
    computing.join().unwrap();
}

#[tokio::test]
async fn disconnect_waits_for_the_leases_and_lets_nobody_in() {
    let lifecycle = Arc::new(Lifecycle::<u8>::new());
    assert_eq!(lifecycle.enter().unwrap_err().kind(), ErrorKind::NotConnected);
    lifecycle.connect(soon(), || async { Ok(7) }).await.unwrap();
    let lease = lifecycle.enter().unwrap();
    let closing = tokio::spawn({
        let lifecycle = Arc::clone(&lifecycle);
        async move { lifecycle.disconnect(soon(), |_| async { Ok(()) }).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!closing.is_finished(), "a lease is out");
    assert_eq!(lifecycle.enter().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(*lease, 7);
    drop(lease);
    closing.await.unwrap().unwrap();
    lifecycle.connect(soon(), || async { Ok(8) }).await.unwrap();
    assert_eq!(*lifecycle.enter().unwrap(), 8);
}

#[tokio::test]
async fn a_disconnect_ends_in_time_goes_on_and_the_next_one_waits_for_it() {
    let lifecycle = Lifecycle::<u8>::new();
    lifecycle.connect(soon(), || async { Ok(7) }).await.unwrap();
    let lease = lifecycle.enter().unwrap();
    let closed = Arc::new(AtomicUsize::new(0));
    let close = |closed: &Arc<AtomicUsize>| {
        let closed = Arc::clone(closed);
        move |_| async move {
            closed.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    };
    let short = Deadline::after(Duration::from_millis(30));
    let late = lifecycle.disconnect(short, close(&closed)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    let mut given_up = Box::pin(lifecycle.disconnect(soon(), close(&closed)));
    poll_once(given_up.as_mut());
    drop(given_up);
    assert_eq!(closed.load(Ordering::SeqCst), 0);
    drop(lease);
    lifecycle.disconnect(soon(), close(&closed)).await.unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 1, "closed once, and before the next one ends");
}

#[tokio::test]
async fn a_connect_that_is_given_up_goes_on_and_the_next_one_waits_for_it() {
    let lifecycle = Lifecycle::<u8>::new();
    let gate = Arc::new(Notify::new());
    let open = {
        let gate = Arc::clone(&gate);
        || async move {
            gate.notified().await;
            Ok(7)
        }
    };
    let mut given_up = Box::pin(lifecycle.connect(soon(), open));
    poll_once(given_up.as_mut());
    drop(given_up);
    gate.notify_one();
    lifecycle.connect(soon(), || async { panic!("it is being opened already") }).await.unwrap();
    assert_eq!(*lifecycle.enter().unwrap(), 7);
}

#[tokio::test]
async fn a_failed_connect_can_be_tried_again() {
    let lifecycle = Lifecycle::<u8>::new();
    let down = || async { Err(Error::new(ErrorKind::Unavailable, "down")) };
    assert_eq!(lifecycle.connect(soon(), down).await.unwrap_err().message(), "down");
    let panics = || async { panic!("while opening") };
    assert_eq!(lifecycle.connect(soon(), panics).await.unwrap_err().kind(), ErrorKind::Unavailable);
    lifecycle.connect(soon(), || async { Ok(1) }).await.unwrap();
    lifecycle.connect(soon(), || async { panic!("it is open already") }).await.unwrap();
}

#[test]
fn a_home_is_that_of_the_runtime_that_made_it() {
    let (own, other) = (current_thread(), current_thread());
    let homes = own.block_on(async { Homes::new(|home| home) });
    assert_eq!(own.block_on(async { *homes.here() }), Home::Own);
    assert_eq!(other.block_on(async { *homes.here() }), Home::Background);
    assert_eq!(*homes.here(), Home::Background);
    assert_eq!(*Homes::new(|home| home).here(), Home::Background);
}

#[test]
fn thousands_of_deadlines_are_kept_and_leave_nothing() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let waits = (0..20_000).map(|n| {
            tokio::spawn(async move {
                let limit = Duration::from_millis(20 + n % 50);
                let started = Instant::now();
                assert_eq!(Deadline::after(limit).within(std::future::pending::<()>()).await, None);
                assert!(started.elapsed() >= limit);
            })
        });
        for wait in join_all(waits).await {
            wait.unwrap();
        }
        assert_eq!(Deadline::after(Duration::from_secs(9)).within(async { 7 }).await, Some(7));
    });
}
