//! One connection that any number of calls share, as something that runs by itself.
//!
//! Requests wait in a queue, and the connection takes what has gathered whenever it can write: all of it goes out in one
//! piece, and the answers are handed out as they come. Nothing of that belongs to a caller's future, so one that is kept
//! without being polled occupies nothing. What the connection has not taken surely never left; what it has taken and not
//! answered may have been applied.
//!
//! The multiplexed connection of the redis crate hands its queue's places to futures that may not be polled, cannot take a
//! request back, and takes twice the processor time for a request.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use futures::task::AtomicWaker;
use storage_core::{
    ErrorKind,
    engine::{Combiner, Deadline, Entry, Home, Limits, Reply, Unanswered, Work, Worker},
};
use tokio::io::AsyncWrite as _;
use tokio_util::{
    io::poll_read_buf,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::connector::{Connector, Stream};
use crate::{
    error::Failure,
    statements::{
        answer::{Answer, Decoder, Malformed},
        command::Command,
    },
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
    /// What waits, and what is under way; `disconnect` waits for it.
    under_way: TaskTracker,
}

/// What goes over in one piece.
pub(crate) struct Item {
    request: Request,
    _under_way: TaskTrackerToken,
}

/// What is asked of the server.
#[derive(Clone)]
pub(crate) enum Request {
    One(Command),
    /// Answered by an array with an answer, or an error, for each command.
    Each(Vec<Command>),
    /// MULTI, the commands, EXEC.
    Transaction(Vec<Command>),
}

/// What a connection and those who use it tell each other.
#[derive(Default)]
struct Signals {
    retired: AtomicBool,
    congested: AtomicBool,
    waker: AtomicWaker,
}

impl Lane {
    pub(crate) fn new(address: &Address, connector: &Arc<Connector>, home: Home) -> Combiner<Self> {
        let (address, connector) = (address.clone(), Arc::clone(connector));
        let (current, under_way) = (ArcSwapOption::empty(), TaskTracker::new());
        Combiner::new(Self { address, connector, home, current, under_way }, LIMITS)
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
    fn retire(&self) {
        if let Some(current) = &*self.current.load() {
            current.retired.store(true, Ordering::Relaxed);
            current.waker.wake();
        }
    }
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
            let lane = worker.work();
            let stream = match lane.connector.open(&lane.address).await {
                Ok(wire) => wire.into_stream(),
                // Those who wait are told now, instead of at their deadlines; the next call tries again.
                Err(error) => return worker.refuse_waiting(&error),
            };
            tracing::debug!(server = %lane.address, "opened a connection");
            let signals = Arc::new(Signals::default());
            lane.current.store(Some(Arc::clone(&signals)));
            let deadline = lane.connector.drain_limit();
            Connection::new(stream, worker, signals).serve(deadline).await;
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
            // It may lead nowhere any more, which TCP takes minutes to find out.
            lane.work().retire();
            Err(Failure::TimedOut)
        }
    }
}

impl Request {
    /// About how many bytes it carries.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(command) => command.len(),
            Self::Each(commands) | Self::Transaction(commands) => commands.iter().map(Command::len).sum(),
        }
    }

    /// Writes it, and says how its answers are read.
    fn write_to(&self, out: &mut Vec<u8>) -> Expected {
        match self {
            Self::One(command) => {
                command.write_to(out);
                Expected::One
            }
            Self::Each(commands) => {
                commands.iter().for_each(|command| command.write_to(out));
                Expected::Each { count: commands.len(), values: Vec::with_capacity(commands.len()) }
            }
            Self::Transaction(commands) => {
                out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
                commands.iter().for_each(|command| command.write_to(out));
                out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
                Expected::Last { skip: commands.len() + 1, refused: None }
            }
        }
    }
}

/// A request that was written, or is about to be.
struct InFlight {
    expected: Expected,
    reply: Reply<Answer>,
    _under_way: TaskTrackerToken,
}

/// Which answers a request has.
enum Expected {
    One,
    Each {
        count: usize,
        values: Vec<Answer>,
    },
    /// That of EXEC; before it come those of MULTI and of queueing, of which a refusal says more.
    Last {
        skip: usize,
        refused: Option<Answer>,
    },
}

impl Expected {
    /// Takes one answer of the server; gives the answer to the request once it is whole.
    fn take(&mut self, answer: Answer) -> Option<Answer> {
        match self {
            Self::One => Some(answer),
            Self::Each { count, values } => {
                values.push(answer);
                (values.len() == *count).then(|| Answer::Array(std::mem::take(values)))
            }
            Self::Last { skip: 0, refused } => Some(refused.take().unwrap_or(answer)),
            Self::Last { skip, refused } => {
                *skip -= 1;
                if let Answer::Error(_) = answer {
                    refused.get_or_insert(answer);
                }
                None
            }
        }
    }
}

/// The connection. It ends when the server closes it, or when it has been retired and nothing is under way any more; what is
/// under way then is lost.
struct Connection {
    stream: Box<dyn Stream>,
    /// `None` once it takes no more requests.
    worker: Option<Worker<Lane>>,
    signals: Arc<Signals>,
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

impl Drop for Connection {
    fn drop(&mut self) {
        // The lane shows these signals until another connection replaces them.
        self.signals.congested.store(false, Ordering::Relaxed);
    }
}

impl Connection {
    fn new(stream: Box<dyn Stream>, worker: Worker<Lane>, signals: Arc<Signals>) -> Self {
        Self {
            stream,
            worker: Some(worker),
            signals,
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
        poll_fn(|context| self.poll_serve(context)).await;
        // Bounded: a server that went silent would keep the requests, and with them `disconnect`.
        let drained = Deadline::after(limit).within(poll_fn(|context| self.poll_drain(context)));
        drained.await;
    }

    /// Ends when the connection takes no more requests.
    fn poll_serve(&mut self, context: &mut Context<'_>) -> Poll<()> {
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
                Poll::Ready(())
            }
            _ if self.worker.is_none() => Poll::Ready(()),
            _ => Poll::Pending,
        }
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
            // An answer that nobody asked for: the next ones would go to the wrong callers.
            let Some(first) = self.in_flight.front_mut() else { return Err(Broken) };
            if let Some(answer) = first.expected.take(answer)
                && let Some(InFlight { reply, .. }) = self.in_flight.pop_front()
            {
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
                for Entry { item: Item { request, _under_way }, reply } in group {
                    let expected = request.write_to(&mut self.writing);
                    self.in_flight.push_back(InFlight { expected, reply, _under_way });
                }
            }
        }
        Poll::Ready(())
    }
}
