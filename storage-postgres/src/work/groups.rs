//! Concurrent callers share statements: what gathers while the connections are busy travels as one.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering},
    },
};

use storage_core::{
    ErrorKind, Result,
    engine::{Combiner, Entry, Guard, Home, Limits, Work, Worker},
};

use crate::{
    connections::{executor::Executor, pool::Pool},
    error::{Failure, State},
};

/// How many groups of one kind are under way at once. One is at the server while the callers of the other wake up;
/// more would be smaller, and a statement costs more than the keys in it.
const WORKERS: usize = 2;
/// How many operations a group has at most, and about how many bytes of them.
const ITEMS: usize = 1_024;
const BYTES: usize = 1024 * 1024;

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
        executor: &mut Executor,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Vec<Outcome<Self::Answer>>, Failure>> + Send;

    /// What the answer to one operation says about another on its key; `None` where that has to be sent as well.
    fn implied(sent: &Self::Item, answer: &Self::Answer, other: &Self::Item)
    -> Option<Outcome<Self::Answer>>;
}

/// A kind of operation on a pool.
pub(crate) struct Shared<K> {
    /// Gone once the backend is disconnected, also where a caller keeps the queue.
    pool: Weak<Pool>,
    home: Home,
    kind: K,
}

/// One caller's operation.
pub(crate) struct Item<K: Kind> {
    pub(crate) item: K::Item,
    pub(crate) call: Arc<Call>,
    /// `disconnect` waits for it.
    pub(crate) _guard: Guard,
}

/// Whether an operation is sent or its caller gives up first: never both, so that a caller knows which.
#[derive(Debug, Default)]
pub(crate) struct Call(AtomicU8);

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Call {
    /// Whether it is to be sent.
    fn begin(&self) -> bool {
        self.leave(BEGUN)
    }

    /// Whether it has not been sent, and never will be.
    pub(crate) fn give_up(&self) -> bool {
        self.leave(GIVEN_UP)
    }

    fn leave(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// One operation of a group, and its place there.
struct Member<'a, K: Kind> {
    place: usize,
    item: &'a K::Item,
    outcome: Option<Outcome<K::Answer>>,
}

impl<K: Kind> Work for Shared<K> {
    type Item = Item<K>;
    type Answer = K::Answer;

    fn weight(&self, item: &Item<K>) -> usize {
        self.kind.weight(&item.item)
    }

    fn lost(&self) -> ErrorKind {
        if K::WRITES { ErrorKind::OutcomeUnknown } else { ErrorKind::Timeout }
    }

    fn start(worker: Worker<Self>) {
        worker.work().home.spawn(serve(worker));
    }
}

/// Runs groups, each on a connection of the pool, for as long as the backend is connected.
async fn serve<K: Kind>(worker: Worker<Shared<K>>) {
    while let Some(group) = worker.take().await {
        let Some(pool) = worker.work().pool.upgrade() else { return };
        let count = group.len();
        // A connection first: what was given up while there was none is not begun.
        match pool.checkout(pool.deadline()).await {
            Ok(connection) => {
                let begun = group.into_iter().filter(|entry| entry.item.call.begin()).collect();
                let (items, replies) = Entry::split(begun);
                let executor = Executor::on(&pool, connection);
                replies.send(worker.work().run(executor, &items).await);
            }
            Err(error) => group.into_iter().for_each(|entry| entry.reply.send(Err(error.clone()))),
        }
        if count > 1 && worker.waiting() == 0 {
            // Those who were just answered come back together, not one by one. One that is alone has nobody to wait for.
            tokio::task::yield_now().await;
        }
    }
}

impl<K: Kind> Shared<K> {
    pub(crate) fn queue(pool: &Arc<Pool>, home: Home, kind: K, connections: u32) -> Combiner<Self> {
        let workers = WORKERS.min(usize::try_from(connections).unwrap_or(WORKERS));
        let limits = Limits { workers, items: ITEMS, bytes: BYTES };
        Combiner::new(Self { pool: Arc::downgrade(pool), home, kind }, limits)
    }

    /// An answer for each, in their order, as if they were done one after the other. One that fails harms no other.
    async fn run(&self, mut executor: Executor, items: &[Item<K>]) -> Vec<Result<K::Answer>> {
        let members = items.iter().enumerate();
        let mut members: Vec<Member<'_, K>> =
            members.map(|(place, Item { item, .. })| Member { place, item, outcome: None }).collect();
        if K::LAST_COUNTS {
            // The last one of a key comes first then, and the first one is sent.
            members.reverse();
        }
        // Stable: what shares a key keeps its order.
        members.sort_by(|left, right| K::key(left.item).cmp(K::key(right.item)));
        loop {
            let sent: Vec<&K::Item> = by_key(&mut members).map(|same| same.0.item).collect();
            if sent.is_empty() {
                break;
            }
            let outcomes = self.outcomes(&mut executor, &sent).await;
            by_key(&mut members)
                .zip(outcomes)
                .for_each(|((first, others), outcome)| first.end(others, outcome));
        }
        members.sort_unstable_by_key(|member| member.place);
        let outcomes = members.into_iter().filter_map(|member| member.outcome);
        outcomes.map(|outcome| outcome.map_err(|failure| failure.into_error(K::WRITES))).collect()
    }

    /// Sends operations together. Where the server refuses what is in one of them, nothing was applied, and each half
    /// goes by itself, until what is refused stands alone.
    async fn outcomes(&self, executor: &mut Executor, items: &[&K::Item]) -> Vec<Outcome<K::Answer>> {
        let mut outcomes = Vec::with_capacity(items.len());
        let mut parts = vec![items];
        while let Some(part) = parts.pop() {
            match self.kind.send(executor, part).await {
                Ok(answers) => outcomes.extend(answers),
                Err(failure) if failure.state == State::Unfit && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    // A stack: the first half comes next, so that the outcomes keep their order.
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
    members: &'t mut [Member<'a, K>],
) -> impl Iterator<Item = (&'t mut Member<'a, K>, &'t mut [Member<'a, K>])> {
    let keys = members.chunk_by_mut(|left, right| K::key(left.item) == K::key(right.item));
    keys.filter_map(|same| {
        let open = same.iter().position(|member| member.outcome.is_none())?;
        same.get_mut(open..)?.split_first_mut()
    })
}

impl<K: Kind> Member<'_, K> {
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

impl<K> fmt::Debug for Shared<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
