//! One connection that any number of calls share, as something that runs by itself.
//!
//! Requests wait in a queue, and the connection takes what has gathered whenever it can write: all of it goes out in one
//! piece, and the answers are handed out as they come. Nothing of that belongs to a caller's future, so one that is kept
//! without being polled occupies nothing. What the connection has not taken surely never left; what it has taken and not
//! answered may have been applied.
//!
//! A connection that nobody uses for a while ends its work and leaves the stream aside. The next request begins with asking
//! whether it still is one: a NAT or a balancer may have dropped it without a word.
//!
//! The multiplexed connection of the redis crate hands its queue's places to futures that may not be polled, cannot take a
//! request back, and takes twice the processor time for a request.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use futures::task::AtomicWaker;
use storage_core::{
    ErrorKind, Result,
    engine::{Combiner, Deadline, Entry, Home, Limits, Reply, Unanswered, Work, Worker, background},
};
use tokio::io::AsyncWrite as _;
use tokio_util::{
    io::poll_read_buf,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

pub(crate) use super::request::Request;
use super::{
    connector::Connector,
    request::{Expected, Progress},
    wire::{Stream, Wire},
};
use crate::{
    error::Failure,
    statements::answer::{Answer, Decoder, Malformed},
    url::Address,
};

/// What the connection takes at once: more would keep the first of them waiting.
const LIMITS: Limits = Limits { workers: 1, items: 1_024, bytes: 256 * 1024 };
/// How much is read at once.
const READ: usize = 32 * 1024;
/// From so much on that has not arrived whole or could not be written, other lanes are the better choice.
const MUCH: usize = 64 * 1024;
/// From so many requests on, the connection lets other tasks add theirs before it writes.
const CROWD: usize = 4;
/// How often it does so, for as long as more come.
const YIELDS: u32 = 2;

/// A lane to one server.
pub(crate) struct Lane {
    address: Address,
    connector: Arc<Connector>,
    home: Home,
    /// The connection that there is now.
    current: ArcSwapOption<Signals>,
    /// A connection that was idle.
    aside: Mutex<Option<Wire>>,
    /// How often connections were retired.
    retirements: AtomicU64,
    /// What waits, and what is under way; `disconnect` waits for it.
    under_way: TaskTracker,
}

/// What goes over in one piece.
pub(crate) struct Item {
    request: Request,
    _under_way: TaskTrackerToken,
}

/// What a connection and those who use it tell each other.
struct Signals {
    opened: Instant,
    retired: AtomicBool,
    congested: AtomicBool,
    /// How often requests were taken.
    taken: AtomicU64,
    /// None was for a while.
    idle: AtomicBool,
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl Signals {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            retired: AtomicBool::default(),
            congested: AtomicBool::default(),
            taken: AtomicU64::default(),
            idle: AtomicBool::default(),
            ended: AtomicBool::default(),
            waker: AtomicWaker::default(),
        }
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.waker.wake();
    }
}

impl Lane {
    pub(crate) fn new(address: &Address, connector: &Arc<Connector>, home: Home) -> Combiner<Self> {
        let (address, connector) = (address.clone(), Arc::clone(connector));
        let (current, under_way) = (ArcSwapOption::empty(), TaskTracker::new());
        let (aside, retirements) = (Mutex::default(), AtomicU64::new(0));
        Combiner::new(Self { address, connector, home, current, aside, retirements, under_way }, LIMITS)
    }

    /// How much is in the way of another request: first whether something large is on its way, then how many there are.
    pub(crate) fn load(&self) -> (bool, usize) {
        let current = self.current.load();
        // Relaxed: a hint for choosing a lane, which may be late.
        let congested = current.as_ref().is_some_and(|current| current.congested.load(Ordering::Relaxed));
        (congested, self.under_way.len())
    }

    /// Waits until nothing is under way. Nothing may be sent any more.
    pub(crate) async fn drain(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Gives the connection no more requests, and opens another for the next one. Those under way go on.
    pub(crate) fn retire(&self) {
        // First: one that is being opened finds out by this.
        self.retirements.fetch_add(1, Ordering::SeqCst);
        if let Some(current) = &*self.current.load() {
            current.retire();
        }
        // After the mark, which `set_aside` reads under the lock.
        let aside = self.aside().take();
        drop(aside);
    }

    /// A request that was begun at `since` has no answer: its connection may lead nowhere any more, which TCP takes minutes to
    /// find out. One that was opened later is not it.
    fn no_answer(&self, since: Option<Instant>) {
        if let Some(current) = &*self.current.load()
            && since.is_none_or(|since| current.opened <= since)
        {
            current.retire();
        }
    }

    /// Keeps the stream of a connection that was idle, unless it is retired.
    fn set_aside(&self, stream: Box<dyn Stream>, signals: &Signals) {
        let mut aside = self.aside();
        if !signals.retired.load(Ordering::Relaxed) {
            *aside = Some(Wire::new(stream));
        }
    }

    fn aside(&self) -> MutexGuard<'_, Option<Wire>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was idle, where it still is one, or a new one.
    async fn connect(&self) -> Result<(Wire, Arc<Signals>)> {
        let before = self.retirements.load(Ordering::SeqCst);
        // A statement of its own: the lock would else be kept while it waits.
        let aside = self.aside().take();
        let aside = match aside {
            Some(wire) => self.connector.if_alive(wire).await,
            None => None,
        };
        let wire = match aside {
            Some(wire) => wire,
            None => self.connector.open(&self.address).await?,
        };
        let signals = Arc::new(Signals::new());
        self.current.store(Some(Arc::clone(&signals)));
        // Who has retired what there was meanwhile has not seen this one.
        if self.retirements.load(Ordering::SeqCst) != before {
            signals.retired.store(true, Ordering::Relaxed);
        }
        watch(&signals, self.connector.idle_check() / 2);
        Ok((wire, signals))
    }
}

/// Tells a connection when it is idle. In the background: a timer of its own would depend on the runtime's.
fn watch(signals: &Arc<Signals>, period: Duration) {
    let Ok(background) = background() else { return };
    let signals: Weak<Signals> = Arc::downgrade(signals);
    background.spawn(async move {
        let mut before = 0;
        loop {
            tokio::time::sleep(period).await;
            let Some(signals) = signals.upgrade().filter(|signals| !signals.ended.load(Ordering::Relaxed))
            else {
                return;
            };
            let taken = signals.taken.load(Ordering::Relaxed);
            if taken == before {
                signals.idle.store(true, Ordering::Relaxed);
                signals.waker.wake();
            }
            before = taken;
        }
    });
}

impl Work for Lane {
    type Item = Item;
    type Answer = Answer;

    fn weight(&self, item: &Item) -> usize {
        item.request.len()
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }

    fn start(worker: Worker<Self>) {
        worker.work().home.spawn(async move {
            let (wire, signals) = match worker.work().connect().await {
                Ok(connected) => connected,
                // Those who wait are told now, instead of at their deadlines; the next call tries again.
                Err(error) => return worker.refuse_waiting(&error),
            };
            // It may be retired already: what waits goes to the next connection then.
            worker.begin();
            let limit = worker.work().connector.drain_limit();
            Connection::new(wire.into_stream(), worker, signals).serve(limit).await;
        });
    }
}

/// Sends a request, and waits for its answer. An error that the server answers is a [`Answer::Error`].
pub(crate) async fn call(
    lane: &Combiner<Lane>,
    request: Request,
    deadline: Deadline,
) -> Result<Answer, Failure> {
    let item = Item { request, _under_way: lane.work().under_way.token() };
    match lane.call(item, deadline).await {
        Ok(answer) => answer.map_err(Failure::NotSent),
        Err(Unanswered::Waiting) => Err(Failure::NotSent(deadline.error(ErrorKind::Timeout))),
        Err(Unanswered::Lost) => Err(Failure::Lost),
        Err(Unanswered::Taken) => {
            lane.work().no_answer(Instant::now().checked_sub(deadline.limit()));
            Err(Failure::TimedOut)
        }
    }
}

/// A request that was written, or is about to be.
struct InFlight {
    expected: Expected,
    reply: Reply<Answer>,
    _under_way: TaskTrackerToken,
}

/// The connection. It ends when the server closes it, when it is idle, or when it has been retired and nothing is under way any
/// more; what is under way then is lost.
struct Connection {
    stream: Box<dyn Stream>,
    /// `None` once it takes no more requests.
    worker: Option<Worker<Lane>>,
    signals: Shown,
    writing: Vec<u8>,
    written: usize,
    in_flight: VecDeque<InFlight>,
    arrived: BytesMut,
    decoder: Decoder,
    yields: u32,
    /// How many requests waited when it last yielded.
    seen: usize,
}

/// Why a connection cannot go on.
#[derive(Debug)]
struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Self {
        tracing::warn!("a server's answer is not Redis' protocol; the connection is closed");
        Self
    }
}

/// Signals that the lane shows until another connection replaces them.
struct Shown(Arc<Signals>);

impl Deref for Shown {
    type Target = Signals;

    fn deref(&self) -> &Signals {
        &self.0
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.congested.store(false, Ordering::Relaxed);
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Why a connection takes no more requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Idle,
    Other,
}

impl Connection {
    fn new(stream: Box<dyn Stream>, worker: Worker<Lane>, signals: Arc<Signals>) -> Self {
        Self {
            stream,
            worker: Some(worker),
            signals: Shown(signals),
            writing: Vec::new(),
            written: 0,
            in_flight: VecDeque::new(),
            arrived: BytesMut::new(),
            decoder: Decoder::default(),
            yields: 0,
            seen: 0,
        }
    }

    /// Runs until it ends; once it takes no more requests, those under way have until `limit`.
    async fn serve(mut self, limit: Duration) {
        if poll_fn(|context| self.poll_serve(context)).await == End::Idle {
            if let Some(worker) = self.worker {
                // Before the worker ends, which may begin the next one.
                worker.work().set_aside(self.stream, &self.signals);
            }
            return;
        }
        // Bounded: a server that went silent would keep the requests, and with them `disconnect`.
        let drained = Deadline::after(limit).within(poll_fn(|context| self.poll_drain(context)));
        drained.await;
    }

    /// Ends when the connection takes no more requests.
    fn poll_serve(&mut self, context: &mut Context<'_>) -> Poll<End> {
        // Before `retired` is read: `AtomicWaker` orders the two, so Relaxed misses no retirement.
        self.signals.waker.register(context.waker());
        if self.signals.retired.load(Ordering::Relaxed) {
            self.worker = None;
        }
        match self.poll_exchange(context) {
            Poll::Ready(Err(Broken)) => {
                // Dropped replies tell that they were lost; the dropped worker leaves what waits to a new connection.
                self.in_flight.clear();
                self.worker = None;
                Poll::Ready(End::Other)
            }
            _ if self.worker.is_none() => Poll::Ready(End::Other),
            _ if self.signals.idle.load(Ordering::Relaxed) && self.has_nothing() => Poll::Ready(End::Idle),
            _ => Poll::Pending,
        }
    }

    fn has_nothing(&self) -> bool {
        self.in_flight.is_empty() && self.written == self.writing.len() && self.arrived.is_empty()
    }

    /// Ends when nothing is under way.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.in_flight.is_empty() || self.poll_exchange(context).is_ready() || self.in_flight.is_empty() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Reads and writes what can be read and written; ready where that fails.
    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // Ends when the write is pending; the read before it was pending, too, or has woken this again.
        loop {
            self.read(context)?;
            ready!(self.poll_write(context))?;
        }
    }

    /// Hands out what has arrived, and waits for more.
    fn read(&mut self, context: &mut Context<'_>) -> Result<(), Broken> {
        loop {
            // Takes the buffer back where no answer shares it any more, instead of allocating.
            self.arrived.reserve(READ);
            match poll_read_buf(Pin::new(&mut self.stream), context, &mut self.arrived)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(0) => return Err(Broken),
                Poll::Ready(_) if self.answer()? < CROWD => {}
                Poll::Ready(_) => {
                    // Those who were answered come back with more, together where this waits for all of them. Woken by the
                    // first of them, it would run before the others.
                    context.waker().wake_by_ref();
                    return Ok(());
                }
            }
        }
    }

    /// How many requests were answered.
    fn answer(&mut self) -> Result<usize, Broken> {
        let before = self.in_flight.len();
        while let Some(answer) = self.decoder.decode(&mut self.arrived)? {
            // It answers nobody.
            if let Answer::Push(_) = answer {
                continue;
            }
            // An answer that nobody asked for: the next ones would go to the wrong callers.
            let Some(first) = self.in_flight.front_mut() else { return Err(Broken) };
            let answer = match first.expected.take(answer) {
                Progress::More => continue,
                Progress::Whole(answer) => Some(answer),
                Progress::Torn => None,
            };
            // Dropped, a reply tells that nobody knows.
            if let (Some(InFlight { reply, .. }), Some(answer)) = (self.in_flight.pop_front(), answer) {
                reply.send(Ok(answer));
            }
        }
        self.signals.congested.store(self.arrived.len() >= MUCH, Ordering::Relaxed);
        Ok(before - self.in_flight.len())
    }

    /// Writes what waits; pending where the stream takes no more, or nothing waits.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.written == self.writing.len() {
            self.writing.clear();
            self.written = 0;
            // A single large value has made it grow.
            if self.writing.capacity() > 4 * LIMITS.bytes {
                self.writing = Vec::new();
            }
            ready!(self.poll_take(context));
        }
        while let Some(rest) = self.writing.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(context, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(Broken)),
                Poll::Ready(written) => self.written += written,
                Poll::Pending => {
                    self.signals.congested.store(rest.len() >= MUCH, Ordering::Relaxed);
                    return Poll::Pending;
                }
            }
        }
        // Needed by TLS, which has a buffer of its own.
        Pin::new(&mut self.stream).poll_flush(context).map_err(Broken::from)
    }

    /// Takes requests from the queue.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(worker) = &self.worker else { return Poll::Pending };
        let waiting = worker.waiting();
        let grows = waiting > self.seen && waiting + self.in_flight.len() >= CROWD;
        if grows && self.yields < YIELDS {
            (self.yields, self.seen) = (self.yields + 1, waiting);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        (self.yields, self.seen) = (0, 0);
        match ready!(worker.poll_take(context)) {
            None => self.worker = None,
            Some(group) => {
                self.signals.idle.store(false, Ordering::Relaxed);
                // Written here alone.
                self.signals.taken.store(self.signals.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                for Entry { item: Item { request, _under_way }, reply } in group {
                    let expected = request.write_to(&mut self.writing);
                    self.in_flight.push_back(InFlight { expected, reply, _under_way });
                }
            }
        }
        Poll::Ready(())
    }
}
