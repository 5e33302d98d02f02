//! Queues of callers by key, where one that does not go on is passed.
//!
//! `update` runs code of its caller, so it cannot run anywhere but in the caller's future, which may be kept without being
//! polled, or belong to a runtime that computes for seconds. A ticket therefore notes whether its caller has to go on, or the
//! store has to answer, by the wakers that it puts between them; who has to go on and does not is passed.
//!
//! ```text
//!            admitted           polled            it waits for the store
//!  WAITING -----------> DUE ----------> RUNNING -----------------------> BLOCKED
//!                        ^ |                |                               |
//!                        | | too long       | too long, where advisory      |
//!                        | +-> PASSED <-----+                               |
//!                        +--------------------- woken ----------------------+
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use super::pulse::Pulse;
use crate::DEFAULT_OPERATION_TIMEOUT;

/// What the order of a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// It spares conflicts, and something else keeps callers apart: passing one is harmless.
    Advisory,
    /// It alone keeps the callers of this process apart.
    Exclusive,
}

impl Order {
    /// How long a caller that has to go on is waited for.
    const fn patience(self) -> Duration {
        match self {
            // A busy machine takes some 20 ms to poll what is woken, and a wrong guess costs a conflict.
            Self::Advisory => Duration::from_millis(100),
            // Passing one costs it a new start, or its knowledge of the outcome.
            Self::Exclusive => Duration::from_millis(500),
        }
    }

    /// How long it is waited for in any case, also where the store does not answer it.
    const fn limit(self) -> Duration {
        match self {
            Self::Advisory => Duration::from_secs(2),
            Self::Exclusive => DEFAULT_OPERATION_TIMEOUT,
        }
    }
}

/// How many race for a key at most: 300 kept calls are then passed within a second, and so few live ones still get through
/// in the tries that `update` has.
const WIDEST: usize = 32;

/// Shrinking with each that goes on would undo what passing those between them has widened.
const CALM: usize = 8;

static PULSE: Pulse = Pulse::new(pass_stalled);

/// In shards, so that callers with different keys do not wait for each other.
static SHARDS: [Mutex<BTreeMap<u64, Queue>>; 64] = [const { Mutex::new(BTreeMap::new()) }; 64];

/// The callers with one key.
struct Queue {
    admitted: Vec<Arc<Ticket>>,
    waiting: VecDeque<Arc<Ticket>>,
    /// How many are admitted at once: one, twice as many each time that some are passed, one less for each [`CALM`] that went on.
    /// So live callers soon get past any number of kept ones, also where the two alternate.
    width: usize,
    /// How many have gone on since the width changed.
    calm: usize,
}

impl Queue {
    const EMPTY: Self = Self { admitted: Vec::new(), waiting: VecDeque::new(), width: 1, calm: 0 };

    /// Admits whom it may; they are to be woken.
    fn admit(&mut self) -> Vec<Arc<Ticket>> {
        let free = self.width.saturating_sub(self.admitted.len()).min(self.waiting.len());
        let admitted: Vec<_> = self.waiting.drain(..free).collect();
        let now = Instant::now();
        for ticket in &admitted {
            let mut state = ticket.lock();
            (state.phase, state.ends) = (Phase::Due(now), now + ticket.order.limit());
        }
        self.admitted.extend(admitted.iter().cloned());
        admitted
    }

    /// Passes those that do not go on; those who are to be woken.
    fn pass_stalled(&mut self, now: Instant) -> Vec<Arc<Ticket>> {
        let (mut passed, kept): (Vec<_>, Vec<_>) =
            self.admitted.drain(..).partition(|ticket| ticket.is_stalled(now));
        self.admitted = kept;
        for ticket in &passed {
            ticket.lock().phase = Phase::Passed;
        }
        if passed.iter().any(|ticket| ticket.order == Order::Advisory) {
            (self.width, self.calm) = (WIDEST.min(self.width * 2), 0);
        }
        passed.extend(self.admit());
        passed
    }

    fn remove(&mut self, ticket: &Arc<Ticket>) -> Vec<Arc<Ticket>> {
        let others = |other: &Arc<Ticket>| !Arc::ptr_eq(other, ticket);
        let before = self.admitted.len();
        self.admitted.retain(others);
        if self.admitted.len() < before {
            self.calm += 1;
            if self.calm >= CALM {
                (self.width, self.calm) = (self.width.saturating_sub(1).max(1), 0);
            }
        } else {
            self.waiting.retain(others);
        }
        self.admit()
    }
}

struct Ticket {
    order: Order,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// When it is passed in any case; set when it is admitted.
    ends: Instant,
    waker: Option<Waker>,
    /// Whether it was woken since its last poll began.
    woken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For others.
    Waiting,
    /// Its caller has to go on, since then.
    Due(Instant),
    /// Its caller is at it, since then.
    Running(Instant),
    /// The store has to answer.
    Blocked,
    /// It has no place any more.
    Passed,
}

impl Ticket {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stalled(&self, now: Instant) -> bool {
        let state = self.lock();
        let since = match state.phase {
            Phase::Due(since) => Some(since),
            // An exclusive one that is being polled may be in the middle of its write: only `ends` passes it.
            Phase::Running(since) if self.order == Order::Advisory => Some(since),
            _ => None,
        };
        let too_long = since.is_some_and(|since| now.duration_since(since) >= self.order.patience());
        too_long || now >= state.ends
    }

    /// Notes that its caller is at it; false where it was passed.
    fn begin(&self, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        // Before the poll: what wakes it from here on is for the next one.
        state.woken = false;
        if state.phase == Phase::Passed {
            return false;
        }
        state.phase = Phase::Running(Instant::now());
        true
    }

    fn poll<F: Future>(self: &Arc<Self>, work: Pin<&mut F>) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        let polled = work.poll(&mut Context::from_waker(&waker));
        let mut state = self.lock();
        if polled.is_pending() && matches!(state.phase, Phase::Running(_)) {
            state.phase = if state.woken { Phase::Due(Instant::now()) } else { Phase::Blocked };
        }
        polled
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.lock();
        state.woken = true;
        if state.phase == Phase::Blocked {
            state.phase = Phase::Due(Instant::now());
        }
        let waker = state.waker.clone();
        // A waker is somebody else's code: not under the lock.
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A caller's place in the queue of a key. Dropping it admits the next.
pub(crate) struct Place {
    shard: &'static Mutex<BTreeMap<u64, Queue>>,
    key: u64,
    ticket: Arc<Ticket>,
}

/// A caller was passed. Its future is not to be polled again.
pub(crate) struct Passed {
    /// Whether the work had begun.
    pub(crate) begun: bool,
}

impl Place {
    /// Joins the queue of a key.
    pub(crate) fn join(key: &str, order: Order) -> Self {
        // Not seeded, so that all callers agree; keys that collide share a queue, which costs time and nothing else.
        let key = BuildHasherDefault::<DefaultHasher>::default().hash_one((key, order));
        let state = State { phase: Phase::Waiting, ends: Instant::now(), waker: None, woken: false };
        let ticket = Arc::new(Ticket { order, state: Mutex::new(state) });
        let [first, ..] = &SHARDS;
        let place = usize::try_from(key % SHARDS.len() as u64).ok();
        let shard = place.and_then(|place| SHARDS.get(place)).unwrap_or(first);
        let mut queues = lock(shard);
        let queue = queues.entry(key).or_insert(Queue::EMPTY);
        queue.waiting.push_back(Arc::clone(&ticket));
        // Nobody waits for it yet.
        drop(queue.admit());
        drop(queues);
        PULSE.ensure();
        Self { shard, key, ticket }
    }

    /// Waits until those before have left or were passed.
    pub(crate) async fn admitted(&self) {
        poll_fn(|context| {
            let mut state = self.ticket.lock();
            if state.phase != Phase::Waiting {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether others went on without it.
    pub(crate) fn is_passed(&self) -> bool {
        self.ticket.lock().phase == Phase::Passed
    }

    /// Goes on without a place.
    pub(crate) fn leave(&self) {
        let mut queues = lock(self.shard);
        // Lock order: the shard, then a ticket, as in `admit`.
        let before = std::mem::replace(&mut self.ticket.lock().phase, Phase::Passed);
        let Some(queue) = queues.get_mut(&self.key) else { return };
        if before == Phase::Passed {
            // It was slow, and not kept.
            queue.width = queue.width.div_ceil(2);
            return;
        }
        let admitted = queue.remove(&self.ticket);
        if queue.admitted.is_empty() && queue.waiting.is_empty() {
            queues.remove(&self.key);
        }
        drop(queues);
        wake(&admitted);
    }

    /// Does a part of what the place is for, whether it was passed or not.
    pub(crate) async fn run<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.ticket.begin(context);
            self.ticket.poll(work.as_mut())
        })
        .await
    }

    /// [`run`](Self::run), but stops where it was passed.
    pub(crate) async fn run_unless_passed<F: Future>(&self, work: F) -> Result<F::Output, Passed> {
        let (mut work, mut begun) = (pin!(work), false);
        poll_fn(|context| {
            if !self.ticket.begin(context) {
                return Poll::Ready(Err(Passed { begun }));
            }
            begun = true;
            self.ticket.poll(work.as_mut()).map(Ok)
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Passes those that do not go on; whether anybody has a place at all.
fn pass_stalled() -> bool {
    let (now, mut any) = (Instant::now(), false);
    for shard in &SHARDS {
        let mut woken = Vec::new();
        lock(shard).retain(|_, queue| {
            any = true;
            woken.extend(queue.pass_stalled(now));
            !(queue.admitted.is_empty() && queue.waiting.is_empty())
        });
        wake(&woken);
    }
    any
}

fn wake(tickets: &[Arc<Ticket>]) {
    tickets.iter().for_each(Wake::wake_by_ref);
}

fn lock(shard: &Mutex<BTreeMap<u64, Queue>>) -> MutexGuard<'_, BTreeMap<u64, Queue>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
