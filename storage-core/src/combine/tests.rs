//! What callers see of combining, with a store that says how it was called.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::sync::Notify;

use super::*;

/// Doubles numbers, refuses 13, and holds each group until told to go on.
#[derive(Default)]
struct Doubler {
    groups: Arc<Mutex<Vec<Vec<u64>>>>,
    running: AtomicUsize,
    most: Arc<AtomicUsize>,
    gate: Option<Arc<Notify>>,
}

impl Group for Doubler {
    type Item = u64;
    type Answer = u64;

    async fn run(&self, items: Vec<u64>) -> Vec<Result<u64>> {
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

    fn weight(&self, item: &u64) -> usize {
        usize::try_from(*item).unwrap()
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }
}

const LIMIT: Duration = Duration::from_secs(5);
const CONFIG: CombineConfig = CombineConfig { running: 1, items: 100, bytes: 1 << 20, queue_bytes: 1 << 20 };

async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not come about");
}

fn waiting(combiner: &Combiner<Doubler>) -> usize {
    combiner.shared.lock().queue.len()
}

#[tokio::test]
async fn a_lone_caller_travels_alone_and_those_who_come_meanwhile_travel_together() {
    let doubler = Doubler::default();
    let groups = Arc::clone(&doubler.groups);
    let combiner = Combiner::new(doubler, CONFIG);
    assert_eq!(combiner.submit(1, LIMIT).await.unwrap(), 2);
    let answers = join_all((0..50).map(|n| combiner.submit(n, LIMIT))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        match n {
            13 => assert_eq!(answer.unwrap_err().message(), "13"),
            _ => assert_eq!(answer.unwrap(), n as u64 * 2),
        }
    }
    let sizes: Vec<usize> = groups.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1, 49]);
    wait_until(|| combiner.shared.lock().running == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_groups_run_than_may_and_every_caller_gets_its_own_answer() {
    let doubler = Doubler::default();
    let most = Arc::clone(&doubler.most);
    let combiner = Arc::new(Combiner::new(doubler, CombineConfig { running: 3, items: 7, ..CONFIG }));
    let callers = (0..64_u64).map(|caller| {
        let combiner = Arc::clone(&combiner);
        tokio::spawn(async move {
            for round in 0..20 {
                let item = 1_000 + caller * 100 + round;
                assert_eq!(combiner.submit(item, LIMIT).await.unwrap(), item * 2);
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= 3);
    wait_until(|| combiner.shared.lock().running == 0).await;
}

#[tokio::test]
async fn groups_are_bounded_in_bytes_and_a_large_operation_travels_alone() {
    let doubler = Doubler::default();
    let groups = Arc::clone(&doubler.groups);
    let combiner = Combiner::new(doubler, CombineConfig { bytes: 100, ..CONFIG });
    join_all([1, 60, 30, 500, 40, 50].map(|n| combiner.submit(n, LIMIT))).await;
    assert_eq!(*groups.lock().unwrap(), [vec![1], vec![60, 30], vec![500], vec![40, 50]]);
}

#[tokio::test]
async fn a_first_caller_that_goes_away_harms_nobody() {
    let gate = Arc::new(Notify::new());
    let combiner =
        Arc::new(Combiner::new(Doubler { gate: Some(Arc::clone(&gate)), ..Doubler::default() }, CONFIG));
    let first = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(1, LIMIT).await }
    });
    wait_until(|| combiner.shared.lock().running == 1).await;
    let second = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(2, LIMIT).await }
    });
    wait_until(|| waiting(&combiner) == 1).await;
    first.abort();
    wait_until(|| waiting(&combiner) == 0).await;
    gate.notify_one();
    assert_eq!(second.await.unwrap().unwrap(), 4);
    wait_until(|| combiner.shared.lock().running == 0).await;
}

#[tokio::test]
async fn a_caller_that_gave_up_before_its_turn_is_not_begun() {
    let gate = Arc::new(Notify::new());
    let doubler = Doubler { gate: Some(Arc::clone(&gate)), ..Doubler::default() };
    let groups = Arc::clone(&doubler.groups);
    let combiner = Arc::new(Combiner::new(doubler, CONFIG));
    let first = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(1, LIMIT).await }
    });
    wait_until(|| combiner.shared.lock().running == 1).await;
    let late = combiner.submit(2, Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "its turn did not come");
    drop(tokio::time::timeout(Duration::from_millis(20), combiner.submit(3, LIMIT)).await);
    gate.notify_one();
    first.await.unwrap().unwrap();
    assert_eq!(*groups.lock().unwrap(), [vec![1]]);
}

#[tokio::test]
async fn a_caller_whose_turn_had_come_is_told_that_the_outcome_is_unknown() {
    let gate = Arc::new(Notify::new());
    let combiner =
        Arc::new(Combiner::new(Doubler { gate: Some(Arc::clone(&gate)), ..Doubler::default() }, CONFIG));
    let first = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(1, LIMIT).await }
    });
    wait_until(|| combiner.shared.lock().running == 1).await;
    let second = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(2, Duration::from_millis(100)).await }
    });
    wait_until(|| waiting(&combiner) == 1).await;
    gate.notify_one();
    first.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn a_full_queue_holds_further_callers_back() {
    let gate = Arc::new(Notify::new());
    let doubler = Doubler { gate: Some(Arc::clone(&gate)), ..Doubler::default() };
    let combiner = Arc::new(Combiner::new(doubler, CombineConfig { queue_bytes: 4 * UNIT, ..CONFIG }));
    let callers: Vec<_> = (0..20)
        .map(|n| {
            let combiner = Arc::clone(&combiner);
            tokio::spawn(async move { combiner.submit(n, LIMIT).await })
        })
        .collect();
    wait_until(|| waiting(&combiner) == 4).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(waiting(&combiner), 4, "the others wait outside");
    let opening = tokio::spawn(async move {
        loop {
            gate.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for (n, caller) in callers.into_iter().enumerate() {
        let answer = caller.await.unwrap();
        assert!(n == 13 || answer.unwrap() == n as u64 * 2);
    }
    opening.abort();
}

#[tokio::test]
async fn callers_that_go_away_leave_nothing_in_the_queue() {
    let gate = Arc::new(Notify::new());
    let doubler = Doubler { gate: Some(Arc::clone(&gate)), ..Doubler::default() };
    let groups = Arc::clone(&doubler.groups);
    let combiner = Arc::new(Combiner::new(doubler, CombineConfig { queue_bytes: 4 * UNIT, ..CONFIG }));
    let first = tokio::spawn({
        let combiner = Arc::clone(&combiner);
        async move { combiner.submit(1, LIMIT).await }
    });
    wait_until(|| combiner.shared.lock().running == 1).await;
    for round in 0..100 {
        let waited = tokio::time::timeout(Duration::from_millis(1), combiner.submit_unlimited(round)).await;
        assert!(waited.is_err());
        assert_eq!(waiting(&combiner), 0);
    }
    assert_eq!(combiner.shared.room.available_permits(), 4);
    gate.notify_one();
    first.await.unwrap().unwrap();
    assert_eq!(*groups.lock().unwrap(), [vec![1]]);
}

#[tokio::test]
async fn whoever_has_a_turn_runs_by_itself_and_the_others_wait() {
    let doubler = Doubler::default();
    let groups = Arc::clone(&doubler.groups);
    let combiner = Arc::new(Combiner::new(doubler, CONFIG));
    let turn = combiner.begin().unwrap();
    assert!(combiner.begin().is_none());
    let queued = (0..4_u64).map(|item| {
        let combiner = Arc::clone(&combiner);
        tokio::spawn(async move { combiner.submit(item, LIMIT).await })
    });
    let queued: Vec<_> = queued.collect();
    wait_until(|| waiting(&combiner) == 4).await;
    assert!(groups.lock().unwrap().is_empty());
    drop(turn);
    for (item, answer) in join_all(queued).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().unwrap(), item as u64 * 2);
    }
    assert_eq!(*groups.lock().unwrap(), [[0, 1, 2, 3]]);
}
