//! Concurrent callers share round trips.
//!
//! Callers each await one operation. While the store is idle, a caller's operation runs at once, in the caller's own
//! task: no queue, no hop, no delay. Callers that arrive meanwhile wait in a queue, and what has gathered when a slot gets
//! free travels together, as one group. A lone caller so pays nothing for what crowds gain.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot};

use crate::{Error, ErrorKind, Result};

/// One unit of the queue's bound.
const UNIT: usize = 1024;

/// Work that takes several operations in one round trip.
pub trait Group: Send + Sync + 'static {
    /// One caller's operation.
    type Item: Send + 'static;
    /// What it answers.
    type Answer: Send + 'static;

    /// Runs the operations as if one after the other, and returns one answer for each, in their order. One that fails
    /// must not fail the others. Ends within the deadline of the store.
    fn run(&self, items: Vec<Self::Item>) -> impl Future<Output = Vec<Result<Self::Answer>>> + Send;

    /// Roughly how many bytes the operation carries to the store.
    fn weight(&self, item: &Self::Item) -> usize;

    /// What a caller is told whose group was taken up and did not answer in time.
    fn lost(&self) -> ErrorKind;
}

/// How much travels together.
#[derive(Debug, Clone, Copy)]
pub struct CombineConfig {
    /// Groups under way at once.
    pub running: usize,
    /// Operations of one group at most.
    pub items: usize,
    /// Bytes of one group at most; a single larger operation travels alone.
    pub bytes: usize,
    /// Bytes that may wait; further callers wait outside, in order. Each operation counts as 1 KiB at least.
    pub queue_bytes: usize,
}

/// A queue in front of a [`Group`].
pub struct Combiner<G: Group> {
    shared: Arc<Shared<G>>,
}

struct Shared<G: Group> {
    group: G,
    config: CombineConfig,
    room: Semaphore,
    state: Mutex<State<G>>,
}

struct State<G: Group> {
    running: usize,
    next_ticket: u64,
    queue: VecDeque<Waiting<G>>,
}

struct Waiting<G: Group> {
    ticket: u64,
    weight: usize,
    item: G::Item,
    reply: oneshot::Sender<Result<G::Answer>>,
}

impl<G: Group> Combiner<G> {
    /// An empty queue in front of `group`.
    #[must_use]
    pub fn new(group: G, config: CombineConfig) -> Self {
        let room = Semaphore::new(config.queue_bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS));
        let state = Mutex::new(State { running: 0, next_ticket: 0, queue: VecDeque::new() });
        Self { shared: Arc::new(Shared { group, config, room, state }) }
    }

    /// A turn for a caller that runs its operation by itself, where the store is idle; `None` where it has to
    /// [`submit`](Self::submit). Others wait until it is dropped.
    #[must_use]
    pub fn begin(&self) -> Option<Turn<G>> {
        self.shared.begin()
    }

    /// Runs one operation, alone where the store is idle, else with others. Ends within `limit`.
    ///
    /// # Errors
    /// What the group answers for it; `Timeout`, with nothing applied, where its turn did not come in time;
    /// [`Group::lost`] where its turn had come.
    pub async fn submit(&self, item: G::Item, limit: Duration) -> Result<G::Answer> {
        if let Some(turn) = self.begin() {
            return turn.run_alone(item).await;
        }
        let mut place = Place { shared: &self.shared, queued: None };
        match tokio::time::timeout(limit, place.wait(item)).await {
            Ok(answer) => answer,
            Err(_) if place.leave() => Err(timeout(limit)),
            Err(_) => Err(Error::new(self.shared.group.lost(), format!("no answer within {limit:?}"))),
        }
    }

    /// [`submit`](Self::submit) for a caller that has a limit of its own: dropping the future takes the operation back
    /// where its turn has not come.
    ///
    /// # Errors
    /// What the group answers for it.
    pub async fn submit_unlimited(&self, item: G::Item) -> Result<G::Answer> {
        match self.begin() {
            Some(turn) => turn.run_alone(item).await,
            None => Place { shared: &self.shared, queued: None }.wait(item).await,
        }
    }
}

/// A caller's place in the queue. Dropping it takes the operation back where its turn has not come.
struct Place<'a, G: Group> {
    shared: &'a Arc<Shared<G>>,
    /// The ticket, and where the answer comes. It is listened to until the operation is taken back, so that nobody
    /// leaves it out in between.
    queued: Option<(u64, oneshot::Receiver<Result<G::Answer>>)>,
}

impl<G: Group> Place<'_, G> {
    async fn wait(&mut self, item: G::Item) -> Result<G::Answer> {
        let shared = self.shared;
        let weight = shared.group.weight(&item);
        // One operation may be larger than the whole queue: it then takes all of it.
        let units = weight.div_ceil(UNIT).clamp(1, shared.config.queue_bytes.div_ceil(UNIT).max(1));
        let room = shared.room.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        let _room = room.map_err(|_| unanswered())?;
        let (reply, answer) = oneshot::channel();
        let (_, answer) = self.queued.insert((shared.enqueue(item, weight, reply), answer));
        let answer = answer.await;
        self.queued = None;
        answer.unwrap_or_else(|_| {
            Err(Error::new(shared.group.lost(), "the group that the operation was in was given up"))
        })
    }

    /// Takes the operation back; false where its turn has come.
    fn leave(&mut self) -> bool {
        self.queued.take().is_none_or(|(ticket, _answer)| self.shared.withdraw(ticket))
    }
}

impl<G: Group> Drop for Place<'_, G> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One of the groups that may be under way. Dropped, it goes to whoever waits.
pub struct Turn<G: Group>(Arc<Shared<G>>);

impl<G: Group> Turn<G> {
    async fn run_alone(self, item: G::Item) -> Result<G::Answer> {
        let answers = self.0.group.run(vec![item]).await;
        drop(self);
        answers.into_iter().next().unwrap_or_else(|| Err(unanswered()))
    }
}

impl<G: Group> Drop for Turn<G> {
    fn drop(&mut self) {
        let shared = &self.0;
        let mut state = shared.lock();
        // A caller that was dropped half-way may be dropped outside a runtime; those who wait are inside one.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !state.queue.is_empty() => {
                drop(state);
                let slot = Driver(Some(Arc::clone(shared)));
                runtime.spawn(slot.drive());
            }
            _ => state.running -= 1,
        }
    }
}

/// Runs groups until nobody waits; if it is itself given up, its slot is free again.
struct Driver<G: Group>(Option<Arc<Shared<G>>>);

impl<G: Group> Driver<G> {
    async fn drive(mut self) {
        while let Some(shared) = &self.0 {
            let Some((items, replies)) = shared.take() else {
                // `take` has given the slot back.
                self.0 = None;
                return;
            };
            if items.is_empty() {
                continue;
            }
            let answers = shared.group.run(items).await;
            for (reply, answer) in replies.into_iter().zip(answers) {
                // A caller that has gone away does not listen.
                let _ = reply.send(answer);
            }
            if shared.lock().queue.is_empty() {
                // Those who were just answered come back together, not one by one.
                tokio::task::yield_now().await;
            }
        }
    }
}

impl<G: Group> Drop for Driver<G> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.lock().running -= 1;
        }
    }
}

type Taken<G> = (Vec<<G as Group>::Item>, Vec<oneshot::Sender<Result<<G as Group>::Answer>>>);

impl<G: Group> Shared<G> {
    fn lock(&self) -> MutexGuard<'_, State<G>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Option<Turn<G>> {
        let mut state = self.lock();
        let idle = state.running < self.config.running && state.queue.is_empty();
        if !idle {
            return None;
        }
        state.running += 1;
        Some(Turn(Arc::clone(self)))
    }

    fn enqueue(
        self: &Arc<Self>,
        item: G::Item,
        weight: usize,
        reply: oneshot::Sender<Result<G::Answer>>,
    ) -> u64 {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.push_back(Waiting { ticket, weight, item, reply });
        // The slots may have become free between looking and queueing.
        if state.running < self.config.running {
            state.running += 1;
            drop(state);
            tokio::spawn(Driver(Some(Arc::clone(self))).drive());
        }
        ticket
    }

    /// The next group, without those who have gone away; gives the slot back where nobody waits.
    fn take(&self) -> Option<Taken<G>> {
        let mut state = self.lock();
        if state.queue.is_empty() {
            state.running -= 1;
            return None;
        }
        let (mut items, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(waiting) = state.queue.front() {
            bytes = bytes.saturating_add(waiting.weight);
            let full = items.len() >= self.config.items || bytes > self.config.bytes;
            if full && !items.is_empty() {
                break;
            }
            let Some(waiting) = state.queue.pop_front() else { break };
            if waiting.reply.is_closed() {
                bytes -= waiting.weight;
                continue;
            }
            items.push(waiting.item);
            replies.push(waiting.reply);
        }
        Some((items, replies))
    }

    /// Takes an operation out of the queue; false where its turn has come.
    fn withdraw(&self, ticket: u64) -> bool {
        let mut state = self.lock();
        let found = state.queue.binary_search_by_key(&ticket, |waiting| waiting.ticket);
        let withdrawn = found.ok().and_then(|index| state.queue.remove(index));
        drop(state);
        withdrawn.is_some()
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Unavailable, "the store gave no answer for the operation")
}

fn timeout(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("its turn did not come within {limit:?}"))
}

impl<G: Group> fmt::Debug for Turn<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

impl<G: Group> fmt::Debug for Combiner<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Combiner")
            .field("running", &state.running)
            .field("waiting", &state.queue.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
