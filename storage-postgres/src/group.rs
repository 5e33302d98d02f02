//! Concurrent callers share statements: what gathers while the connections are busy travels as one.

use std::{fmt, future::Future, sync::Arc};

use storage_core::{CombineConfig, Combiner, ErrorKind, Group, Result};
use tokio::time::Instant;

use crate::{
    error::{Failure, State},
    kinds::{Creates, Deletes, Exists, Gets, Sets, Swaps},
    pool::Pool,
};

/// How many groups of one kind are under way at once. One is at the server while the callers of the other wake up;
/// more would be smaller, and a statement costs more than the keys in it.
const RUNNING: usize = 2;
/// How many operations a group has at most, and about how many bytes of them.
const ITEMS: usize = 1_024;
const BYTES: usize = 1024 * 1024;
/// How many bytes wait at most in front of one kind of statement.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// What became of one operation.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// One kind of operation, and the statement over arrays that serves many of it.
pub(crate) trait Kind: Send + Sync + 'static {
    /// One caller's operation.
    type Item: Send + Sync + 'static;
    type Answer: Clone + Send + Sync + 'static;

    const WRITES: bool;
    /// Of several on one key the last is sent; else they are sent one after the other.
    const LAST_COUNTS: bool = false;

    fn key(item: &Self::Item) -> &str;

    /// About how many bytes it carries, to the server or from it.
    fn weight(&self, item: &Self::Item) -> usize;

    /// Sends operations on keys that are sorted and distinct, as one statement; an outcome for each, or why the
    /// statement failed.
    fn send(
        &self,
        pool: &Pool,
        deadline: Instant,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Vec<Outcome<Self::Answer>>, Failure>> + Send;

    /// What the answer to one operation says about another on its key; `None` where that has to be sent as well.
    fn implied(sent: &Self::Item, answer: &Self::Answer, other: &Self::Item)
    -> Option<Outcome<Self::Answer>>;
}

/// The queues in front of the pool.
pub(crate) struct Queues {
    pub(crate) gets: Combiner<Shared<Gets>>,
    pub(crate) exists: Combiner<Shared<Exists>>,
    pub(crate) sets: Combiner<Shared<Sets>>,
    pub(crate) deletes: Combiner<Shared<Deletes>>,
    pub(crate) creates: Combiner<Shared<Creates>>,
    pub(crate) swaps: Combiner<Shared<Swaps>>,
}

impl Queues {
    pub(crate) fn new(pool: &Arc<Pool>, connections: u32) -> Self {
        let running = RUNNING.min(usize::try_from(connections).unwrap_or(RUNNING));
        let config = CombineConfig { running, items: ITEMS, bytes: BYTES, queue_bytes: QUEUE_BYTES };
        fn queue<K: Kind>(pool: &Arc<Pool>, kind: K, config: CombineConfig) -> Combiner<Shared<K>> {
            Combiner::new(Shared { pool: Arc::clone(pool), kind }, config)
        }
        Self {
            gets: queue(pool, Gets::default(), config),
            exists: queue(pool, Exists, config),
            sets: queue(pool, Sets, config),
            deletes: queue(pool, Deletes, config),
            creates: queue(pool, Creates, config),
            swaps: queue(pool, Swaps, config),
        }
    }
}

/// A kind of operation on a pool.
pub(crate) struct Shared<K> {
    pool: Arc<Pool>,
    kind: K,
}

/// One operation of a group, and its place there.
struct Turn<'a, K: Kind> {
    place: usize,
    item: &'a K::Item,
    outcome: Option<Outcome<K::Answer>>,
}

impl<K: Kind> Group for Shared<K> {
    type Item = K::Item;
    type Answer = K::Answer;

    async fn run(&self, items: Vec<K::Item>) -> Vec<Result<K::Answer>> {
        let deadline = self.pool.deadline();
        let turns = items.iter().enumerate();
        let mut turns: Vec<Turn<'_, K>> =
            turns.map(|(place, item)| Turn { place, item, outcome: None }).collect();
        if K::LAST_COUNTS {
            turns.reverse();
        }
        // Stable: what shares a key keeps its order.
        turns.sort_by(|left, right| K::key(left.item).cmp(K::key(right.item)));
        loop {
            let sent: Vec<&K::Item> = by_key(&mut turns).map(|same| same.0.item).collect();
            if sent.is_empty() {
                break;
            }
            let outcomes = self.outcomes(&sent, deadline).await;
            by_key(&mut turns)
                .zip(outcomes)
                .for_each(|((first, others), outcome)| first.end(others, outcome));
        }
        turns.sort_unstable_by_key(|turn| turn.place);
        let outcomes = turns.into_iter().filter_map(|turn| turn.outcome);
        outcomes.map(|outcome| outcome.map_err(|failure| failure.into_error(K::WRITES))).collect()
    }

    fn weight(&self, item: &K::Item) -> usize {
        self.kind.weight(item)
    }

    fn lost(&self) -> ErrorKind {
        if K::WRITES { ErrorKind::OutcomeUnknown } else { ErrorKind::Timeout }
    }
}

impl<K: Kind> Shared<K> {
    /// Sends operations together. Where the server refuses what is in one of them, nothing was applied, and each half
    /// goes by itself, until what is refused stands alone.
    async fn outcomes(&self, items: &[&K::Item], deadline: Instant) -> Vec<Outcome<K::Answer>> {
        let mut outcomes = Vec::with_capacity(items.len());
        let mut parts = vec![items];
        while let Some(part) = parts.pop() {
            match self.kind.send(&self.pool, deadline, part).await {
                Ok(answers) => outcomes.extend(answers),
                Err(failure) if failure.state == State::Unfit && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(failure) => outcomes.extend(part.iter().map(|_| Err(failure.clone()))),
            }
        }
        outcomes
    }
}

/// For each key the first operation that has no outcome yet, and those after it.
fn by_key<'t, 'a, K: Kind>(
    turns: &'t mut [Turn<'a, K>],
) -> impl Iterator<Item = (&'t mut Turn<'a, K>, &'t mut [Turn<'a, K>])> {
    let keys = turns.chunk_by_mut(|left, right| K::key(left.item) == K::key(right.item));
    keys.filter_map(|same| {
        let open = same.iter().position(|turn| turn.outcome.is_none())?;
        same.get_mut(open..)?.split_first_mut()
    })
}

impl<K: Kind> Turn<'_, K> {
    /// Notes the outcome, and what it says about the others on the key.
    fn end(&mut self, others: &mut [Self], outcome: Outcome<K::Answer>) {
        for other in others.iter_mut().filter(|other| other.outcome.is_none()) {
            other.outcome = match &outcome {
                Ok(answer) => K::implied(self.item, answer, other.item),
                // It was this one's own fault.
                Err(failure) if failure.state == State::Unfit => None,
                Err(failure) => Some(Err(failure.clone())),
            };
        }
        self.outcome = Some(outcome);
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queues")
    }
}
