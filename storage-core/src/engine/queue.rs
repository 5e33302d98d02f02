//! What waits, and who works on it: the state machine under [`Combiner`](super::Combiner).
//!
//! A queue has a number of places for workers. A worker is something that runs by itself: a thread, or a
//! [task](super::task). A caller only puts an item in and may take it back; it never occupies a place.
//!
//! ```text
//!                     push, nobody idle, a place is free
//!      (no worker) ------------------------------------------> BUSY <---------------+
//!           ^                                                 |    |                |
//!           | leave (ends, panics, its runtime ends)          |    | poll_take:     | push wakes it, or
//!           +-------------------------------------------------+    | nothing waits  | poll_take finds items
//!                                                                  v                |
//!                                                                IDLE --------------+
//! ```
//!
//! - An item is in exactly one of three hands: it waits, one worker has taken it, or its caller has taken it back.
//! - While anything waits, a worker is busy: `push` wakes an idle one or starts one where all places but one are free or
//!   more, and one that leaves passes what waits on to another.
//! - There are never more workers than places.
//!
//! Both are checked in every interleaving of small cases with loom, and at random in larger ones with shuttle: see
//! `models.rs`.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use super::sync::{Mutex, MutexGuard, lock};

/// How much a worker takes at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Workers at once: more of them only where that is faster.
    pub workers: usize,
    /// Items that one takes at once.
    pub items: usize,
    /// Bytes of what one takes at once; a single larger item is taken alone.
    pub bytes: usize,
}

pub(super) struct Queue<T> {
    limits: Limits,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// In the order of the tickets.
    waiting: VecDeque<Waiting<T>>,
    next_ticket: u64,
    /// Idle and busy ones.
    workers: usize,
    idle: Vec<(WorkerId, Waker)>,
    next_worker: u64,
    closed: bool,
}

struct Waiting<T> {
    ticket: Ticket,
    weight: usize,
    item: T,
}

/// By which an item is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerId(u64);

/// What whoever changed the queue has to do next, outside the lock.
#[derive(Debug)]
#[must_use]
pub(super) enum Next {
    Nothing,
    Wake(Waker),
    /// A place was taken for this worker.
    Start(WorkerId),
}

impl<T> Queue<T> {
    pub(super) fn new(limits: Limits) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            next_ticket: 0,
            workers: 0,
            idle: Vec::new(),
            next_worker: 0,
            closed: false,
        };
        Self { limits, state: Mutex::new(state) }
    }

    /// Puts an item at the end; gives it back where the queue is closed.
    pub(super) fn push(&self, item: T, weight: usize) -> Result<(Ticket, Next), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        let ticket = Ticket(state.next_ticket);
        state.next_ticket += 1;
        state.waiting.push_back(Waiting { ticket, weight, item });
        Ok((ticket, self.find_worker(&mut state)))
    }

    /// Takes an item back; `None` where a worker has it.
    pub(super) fn withdraw(&self, ticket: Ticket) -> Option<T> {
        let mut state = self.lock();
        let place = state.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()?;
        state.waiting.remove(place).map(|waiting| waiting.item)
    }

    /// What a worker takes from the front, at least one item. Pending where nothing waits: the worker is woken then. `None`
    /// once the queue is closed.
    pub(super) fn poll_take(&self, worker: WorkerId, context: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        let mut state = self.lock();
        let idle = state.idle.iter().position(|(id, _)| *id == worker);
        if !state.waiting.is_empty() || state.closed {
            // `push` takes out whom it wakes. One that was polled for another reason is still listed, and is busy from here on.
            if let Some(place) = idle {
                state.idle.swap_remove(place);
            }
            let taken = self.take(&mut state);
            return Poll::Ready(if taken.is_empty() { None } else { Some(taken) });
        }
        let waker = context.waker().clone();
        match idle.and_then(|place| state.idle.get_mut(place)) {
            Some((_, known)) => *known = waker,
            None => state.idle.push((worker, waker)),
        }
        Poll::Pending
    }

    /// Gives up a worker's place, and what waits to another worker.
    pub(super) fn leave(&self, worker: WorkerId) -> Next {
        let mut state = self.lock();
        state.workers -= 1;
        // A worker may end while it is idle: a wake-up meant for it would reach nobody.
        state.idle.retain(|(id, _)| *id != worker);
        if state.waiting.is_empty() { Next::Nothing } else { self.find_worker(&mut state) }
    }

    /// Takes out everything that waits.
    pub(super) fn drain(&self) -> Vec<T> {
        self.lock().waiting.drain(..).map(|waiting| waiting.item).collect()
    }

    /// Lets nothing in any more and ends the workers; returns what waited.
    pub(super) fn close(&self) -> Vec<T> {
        let (waiting, idle) = {
            let mut state = self.lock();
            state.closed = true;
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.idle))
        };
        // A waker is somebody else's code: not under the lock.
        idle.into_iter().for_each(|(_, waker)| waker.wake());
        waiting.into_iter().map(|waiting| waiting.item).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.lock().workers
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    fn find_worker(&self, state: &mut State<T>) -> Next {
        // Taken out, so that the next push wakes another one.
        if let Some((_, waker)) = state.idle.pop() {
            return Next::Wake(waker);
        }
        if state.workers >= self.limits.workers {
            return Next::Nothing;
        }
        state.workers += 1;
        state.next_worker += 1;
        Next::Start(WorkerId(state.next_worker))
    }

    fn take(&self, state: &mut State<T>) -> Vec<T> {
        let (mut count, mut bytes) = (0, 0_usize);
        // At least one: a worker that is given none takes the queue for closed.
        for waiting in state.waiting.iter().take(self.limits.items.max(1)) {
            bytes = bytes.saturating_add(waiting.weight);
            if count > 0 && bytes > self.limits.bytes {
                break;
            }
            count += 1;
        }
        state.waiting.drain(..count).map(|waiting| waiting.item).collect()
    }
}
