//! The queue and the tasks under a model checker: `cargo xtask models`.
//!
//! Loom runs a small case in every interleaving of up to four preemptions that the memory model allows, shuttle a larger
//! one in many random ones. Both fail on a deadlock, and so on a wake-up that is lost.

#![cfg(any(storage_loom, storage_shuttle))]

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Poll, Waker},
};

use super::{
    queue::{Limits, Next, Queue, WorkerId},
    sync::{AtomicU32, Mutex, Ordering, lock},
    task::{Host, Polled, Task},
};

#[cfg(storage_loom)]
use loom::{future::block_on, thread};
#[cfg(storage_shuttle)]
use shuttle::{future::block_on, thread};

#[cfg(storage_loom)]
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Errors in concurrent code need few preemptions: Musuvathi & Qadeer, "Iterative context bounding", PLDI 2007.
    builder.preemption_bound = Some(4);
    builder.check(model);
}

#[cfg(storage_shuttle)]
fn check(model: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(model, 100_000);
}

/// A queue whose workers are threads, and what came of each item.
struct House {
    queue: Queue<u32>,
    taken: Mutex<Vec<u32>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Workers that die after their first group.
    dies: bool,
}

impl House {
    fn new(workers: usize, dies: bool) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(Limits { workers, items: 2, bytes: usize::MAX }),
            taken: Mutex::new(Vec::new()),
            threads: Mutex::new(Vec::new()),
            dies,
        })
    }

    fn proceed(self: &Arc<Self>, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Wake(worker) => worker.wake(),
            Next::Start(id) => {
                let house = Arc::clone(self);
                let worker = thread::spawn(move || house.work(id));
                lock(&self.threads).push(worker);
            }
        }
    }

    fn work(self: Arc<Self>, id: WorkerId) {
        while let Some(group) = block_on(poll_fn(|context| self.queue.poll_take(id, context))) {
            assert!(self.queue.workers() <= 2, "more workers than places");
            lock(&self.taken).extend(group);
            if self.dies {
                break;
            }
        }
        let next = self.queue.leave(id);
        self.proceed(next);
    }

    /// Waits until all items are taken or taken back, and checks that each was in exactly one hand.
    fn end(self: &Arc<Self>, items: u32, withdrawn: &[u32]) {
        loop {
            let mut all = lock(&self.taken).clone();
            all.extend(withdrawn);
            if all.len() == items as usize {
                all.sort_unstable();
                assert_eq!(all, (0..items).collect::<Vec<_>>());
                break;
            }
            thread::yield_now();
        }
        assert!(self.queue.close().is_empty());
        loop {
            let Some(worker) = lock(&self.threads).pop() else { break };
            worker.join().unwrap();
        }
        assert_eq!(self.queue.workers(), 0, "a worker that ended has left");
    }
}

/// Every item is taken by exactly one worker, though they come while workers are idle, busy and about to be either.
#[test]
fn every_item_is_taken_once() {
    check(|| {
        let house = House::new(1, false);
        let other = thread::spawn({
            let house = Arc::clone(&house);
            move || {
                let (_, next) = house.queue.push(0, 1).unwrap();
                house.proceed(next);
            }
        });
        let (_, next) = house.queue.push(1, 1).unwrap();
        house.proceed(next);
        other.join().unwrap();
        house.end(2, &[]);
    });
}

/// What a worker that dies leaves waiting is taken by another.
#[test]
fn a_worker_that_dies_hands_the_queue_on() {
    check(|| {
        let house = House::new(1, true);
        for item in 0..3 {
            let (_, next) = house.queue.push(item, 1).unwrap();
            house.proceed(next);
        }
        house.end(3, &[]);
    });
}

/// An item that its caller takes back is not taken by a worker as well.
#[test]
fn an_item_is_taken_or_taken_back() {
    check(|| {
        let house = House::new(1, false);
        let (_, next) = house.queue.push(0, 1).unwrap();
        house.proceed(next);
        let (ticket, next) = house.queue.push(1, 1).unwrap();
        house.proceed(next);
        let withdrawn: Vec<u32> = house.queue.withdraw(ticket).into_iter().collect();
        house.end(2, &withdrawn);
    });
}

/// Two workers and three callers; more than loom gets through.
#[cfg(storage_shuttle)]
#[test]
fn a_crowd_is_served_by_workers_that_die() {
    check(|| {
        let house = House::new(2, true);
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let house = Arc::clone(&house);
                thread::spawn(move || {
                    let mut withdrawn = Vec::new();
                    for item in [2 * caller, 2 * caller + 1] {
                        let (ticket, next) = house.queue.push(item, 1).unwrap();
                        house.proceed(next);
                        if item % 3 == 0 {
                            withdrawn.extend(house.queue.withdraw(ticket));
                        }
                    }
                    withdrawn
                })
            })
            .collect();
        let withdrawn: Vec<u32> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        house.end(6, &withdrawn);
    });
}

/// An event and who waits for it.
#[derive(Default)]
struct Event {
    count: AtomicU32,
    waiter: Mutex<Option<Waker>>,
}

impl Event {
    fn happen(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let waiter = lock(&self.waiter).take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn has_happened(&self, times: u32) -> impl Future<Output = ()> + use<'_> {
        poll_fn(move |context| {
            *lock(&self.waiter) = Some(context.waker().clone());
            if self.count.load(Ordering::SeqCst) >= times { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

/// Its host alone polls a task that is woken again and again, and misses nothing.
#[test]
fn a_task_is_polled_by_its_host_after_each_wake_up() {
    check(|| {
        let event = Arc::new(Event::default());
        let task = Task::new({
            let event = Arc::clone(&event);
            async move {
                event.has_happened(1).await;
                event.has_happened(2).await;
            }
        });
        let waking = thread::spawn(move || {
            event.happen();
            event.happen();
        });
        block_on(Host { task, moved: false });
        waking.join().unwrap();
    });
}

/// Host and background poll a task at once while it is woken: one of them polls the work, and either it has ended or the
/// task is due, so that it is polled again.
#[test]
fn a_task_is_polled_after_each_wake_up_by_one_at_a_time() {
    check(|| {
        let event = Arc::new(Event::default());
        let polling = Arc::new(AtomicU32::new(0));
        let task = Task::new({
            let (event, polling) = (Arc::clone(&event), Arc::clone(&polling));
            async move {
                let mut happened = Box::pin(event.has_happened(1));
                poll_fn(|context| {
                    assert_eq!(polling.fetch_add(1, Ordering::SeqCst), 0, "two poll at once");
                    let polled = happened.as_mut().poll(context);
                    polling.fetch_sub(1, Ordering::SeqCst);
                    polled
                })
                .await;
            }
        });
        let relief = thread::spawn({
            let task = Arc::clone(&task);
            move || task.poll()
        });
        let waking = thread::spawn({
            let event = Arc::clone(&event);
            move || event.happen()
        });
        let host = task.poll();
        let relief = relief.join().unwrap();
        waking.join().unwrap();
        let ended = [&host, &relief].iter().any(|polled| **polled == Polled::Ended);
        // Whoever comes next finds it due, or it has ended.
        assert!(ended || task.is_due(), "a wake-up was lost");
        assert_eq!(task.poll(), Polled::Ended);
    });
}
