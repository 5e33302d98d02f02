//! Concurrent callers share the work: what gathers while workers are busy is done together.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{
    Deadline, Limits,
    queue::{Next, Queue, Ticket, WorkerId},
    task,
};
use crate::{Error, ErrorKind, Result};

/// Work that is done for several callers at once.
pub trait Work: Send + Sync + Sized + 'static {
    /// One caller's operation.
    type Item: Send + 'static;
    /// What it answers.
    type Answer: Send + 'static;

    /// Roughly how many bytes the operation carries.
    fn weight(&self, item: &Self::Item) -> usize;

    /// What a caller is told whose operation was taken by a worker that does not answer: `Timeout` for what changes
    /// nothing, `OutcomeUnknown` for a write.
    fn lost(&self) -> ErrorKind;

    /// Starts a worker as something that runs by itself, a thread or a [task](super::task), which takes operations until
    /// there are none to take any more. Called from within a caller's own call, and must not block. A worker that is
    /// dropped before it has taken anything could not be started: what waits is told so.
    fn start(worker: Worker<Self>);
}

/// A queue in front of some [`Work`].
///
/// While nobody else calls, an operation is taken as soon as it is put in; those that come while the workers are busy
/// wait, and what has gathered is taken as one group. So a lone caller waits for nobody, and a crowd shares what one
/// round trip, one transaction or one flush to disk costs. The queue holds what living callers wait for: it is bounded
/// by them, and an operation whose caller gives up before it was taken is not begun.
pub struct Combiner<W: Work> {
    shared: Arc<Shared<W>>,
}

struct Shared<W: Work> {
    work: W,
    queue: Queue<Entry<W>>,
}

/// One caller's operation, in the hands of a worker.
pub struct Entry<W: Work> {
    /// What to do.
    pub item: W::Item,
    /// Where the answer goes.
    pub reply: Reply<W::Answer>,
}

/// Where a caller waits for its answer. Dropped without one, the caller is told that its operation was lost.
pub struct Reply<A>(oneshot::Sender<Result<A>>);

/// Where the answers to a group go, in the order of its items.
pub struct Replies<A>(Vec<Reply<A>>);

/// Why an operation has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The deadline passed before a worker took it: it was not begun.
    Waiting,
    /// The deadline passed while a worker had it.
    Taken,
    /// The worker that had it ended.
    Lost,
}

impl<W: Work> Combiner<W> {
    /// An empty queue; workers start as they are needed.
    #[must_use]
    pub fn new(work: W, limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { work, queue: Queue::new(limits) }) }
    }

    /// What is done.
    #[must_use]
    pub fn work(&self) -> &W {
        &self.shared.work
    }

    /// Does one operation, alone or with others.
    ///
    /// # Errors
    /// What is answered for it; `Timeout`, with nothing applied, where it was not begun by the deadline, and
    /// [`Work::lost`] where it was.
    pub async fn submit(&self, item: W::Item, deadline: Deadline) -> Result<W::Answer> {
        match self.call(item, deadline).await {
            Ok(answer) => answer,
            Err(Unanswered::Waiting) => Err(deadline.error(ErrorKind::Timeout)),
            Err(Unanswered::Taken) => Err(deadline.error(self.shared.work.lost())),
            Err(Unanswered::Lost) => {
                let kind = match self.shared.work.lost() {
                    // Nothing was applied, and it did not take too long.
                    ErrorKind::Timeout => ErrorKind::Unavailable,
                    kind => kind,
                };
                Err(Error::new(kind, "the work that the call shared was interrupted"))
            }
        }
    }

    /// [`submit`](Self::submit) for a caller that knows by itself what a missing answer means.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(&self, item: W::Item, deadline: Deadline) -> Result<Result<W::Answer>, Unanswered> {
        let (reply, mut answer) = oneshot::channel();
        let weight = self.shared.work.weight(&item);
        let entry = Entry { item, reply: Reply(reply) };
        let Ok((ticket, next)) = self.shared.queue.push(entry, weight) else { return Ok(Err(closed())) };
        // Before anything else can fail: from here on dropping this future takes the operation back.
        let mut place = Place { shared: &self.shared, ticket: Some(ticket) };
        self.shared.proceed(next);
        match deadline.within(&mut answer).await {
            Some(answer) => {
                // It is not in the queue any more: no lock need be taken to look for it.
                place.ticket = None;
                answer.map_err(|_| Unanswered::Lost)
            }
            None if place.leave() => Err(Unanswered::Waiting),
            // It may have come at the same moment.
            None => answer.try_recv().map_err(|_| Unanswered::Taken),
        }
    }

    /// Puts in an operation whose answer nobody waits for. On a closed queue it is dropped.
    pub fn put(&self, item: W::Item) {
        let (reply, _) = oneshot::channel();
        let weight = self.shared.work.weight(&item);
        if let Ok((_, next)) = self.shared.queue.push(Entry { item, reply: Reply(reply) }, weight) {
            self.shared.proceed(next);
        }
    }

    /// How many operations wait for a worker.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }

    /// Lets nothing in any more and ends the workers as soon as they are idle.
    pub fn close(&self) {
        refuse(self.shared.queue.close(), &closed());
    }
}

// Workers share the queue, so it does not end by itself: they would wait in it for ever.
impl<W: Work> Drop for Combiner<W> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<W: Work> fmt::Debug for Combiner<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = &self.shared.queue;
        f.debug_struct("Combiner").field("workers", &queue.workers()).field("waiting", &queue.len()).finish()
    }
}

impl<W: Work> Shared<W> {
    fn proceed(self: &Arc<Self>, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Wake(worker) => worker.wake(),
            Next::Start(id) => {
                W::start(Worker { shared: Arc::clone(self), id, started: AtomicBool::new(false) });
            }
        }
    }
}

/// A caller's place in the queue. Dropping it takes the operation back where no worker has it.
struct Place<'a, W: Work> {
    shared: &'a Shared<W>,
    ticket: Option<Ticket>,
}

impl<W: Work> Place<'_, W> {
    /// Takes the operation back; false where a worker has it.
    fn leave(&mut self) -> bool {
        self.ticket.take().is_some_and(|ticket| self.shared.queue.withdraw(ticket).is_some())
    }
}

impl<W: Work> Drop for Place<'_, W> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One of those who take operations from the queue. Dropped, it hands what waits to another.
pub struct Worker<W: Work> {
    shared: Arc<Shared<W>>,
    id: WorkerId,
    started: AtomicBool,
}

impl<W: Work> Worker<W> {
    /// What is done.
    #[must_use]
    pub fn work(&self) -> &W {
        &self.shared.work
    }

    /// The next group, at least one operation; `None` where the worker has to end.
    pub async fn take(&self) -> Option<Vec<Entry<W>>> {
        poll_fn(|context| self.poll_take(context)).await
    }

    /// [`take`](Self::take) for a worker that also waits for something else.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Vec<Entry<W>>>> {
        self.begin();
        match self.shared.queue.poll_take(self.id, context) {
            // The next caller starts one on a runtime that is alive.
            Poll::Pending if task::has_moved() => Poll::Ready(None),
            taken => taken,
        }
    }

    /// How many operations wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }

    /// Says that it runs: dropped before it has taken anything, it leaves what waits to the next one. A worker that is dropped
    /// without having run at all refuses what waits, for the next one would fare no better.
    pub fn begin(&self) {
        // Relaxed: only `Drop` reads it, which has the worker to itself.
        self.started.store(true, Ordering::Relaxed);
    }

    /// Answers everything that waits with an error: nothing of it was begun.
    pub fn refuse_waiting(&self, error: &Error) {
        // Else `Drop` would refuse what comes from now on, too.
        self.begin();
        refuse(self.shared.queue.drain(), error);
    }

    /// Takes groups, lets `run` answer them, and tells the callers.
    pub async fn serve(self, mut run: impl AsyncFnMut(&W, Vec<W::Item>) -> Vec<Result<W::Answer>>) {
        while let Some(group) = self.take().await {
            let (items, replies) = Entry::split(group);
            replies.send(run(&self.shared.work, items).await);
            if self.waiting() == 0 {
                // Those who were just answered come back together, not one by one.
                tokio::task::yield_now().await;
            }
        }
    }
}

impl<W: Work> Drop for Worker<W> {
    fn drop(&mut self) {
        if !*self.started.get_mut() {
            // Another one would fail like this one.
            let message = "the system has no thread or task for it";
            refuse(self.shared.queue.drain(), &Error::new(ErrorKind::Unavailable, message));
        }
        let next = self.shared.queue.leave(self.id);
        self.shared.proceed(next);
    }
}

impl<W: Work> fmt::Debug for Worker<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<A> Reply<A> {
    /// Answers. A caller that has gone away does not listen.
    pub fn send(self, answer: Result<A>) {
        let _ = self.0.send(answer);
    }
}

impl<W: Work> Entry<W> {
    /// The operations of a group, and where their answers go.
    #[must_use]
    pub fn split(group: Vec<Self>) -> (Vec<W::Item>, Replies<W::Answer>) {
        let (items, replies) = group.into_iter().map(|entry| (entry.item, entry.reply)).unzip();
        (items, Replies(replies))
    }
}

impl<A> Replies<A> {
    /// One answer for each, in their order.
    pub fn send(self, answers: impl IntoIterator<Item = Result<A>>) {
        self.0.into_iter().zip(answers).for_each(|(reply, answer)| reply.send(answer));
    }
}

impl<A> fmt::Debug for Replies<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replies").field(&self.0.len()).finish()
    }
}

impl<A> fmt::Debug for Reply<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl<W: Work> fmt::Debug for Entry<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

fn refuse<W: Work>(entries: Vec<Entry<W>>, error: &Error) {
    entries.into_iter().for_each(|entry| entry.reply.send(Err(error.clone())));
}

fn closed() -> Error {
    Error::new(ErrorKind::NotConnected, "the backend was disconnected")
}
