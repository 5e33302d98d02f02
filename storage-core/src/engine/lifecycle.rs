//! Connecting and disconnecting: what every backend does the same way.

use std::{
    fmt,
    future::Future,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwapOption;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::oneshot;

use super::{Deadline, task};
use crate::{Error, ErrorKind, Result};

/// What a backend holds while it is connected, and who uses it.
///
/// An operation [`enter`](Self::enter)s and leaves the [`Lease`] to the work, which may outlive its caller.
/// [`connect`](Self::connect) and [`disconnect`](Self::disconnect) are work that runs by itself: a caller that gives up
/// waiting for either leaves it running, and the next one waits for it.
pub struct Lifecycle<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    live: ArcSwapOption<Live<T>>,
    phase: Mutex<Phase>,
}

enum Phase {
    Closed,
    Opening(Ended),
    Open {
        /// Ends with the last lease.
        leases: oneshot::Receiver<()>,
    },
    Closing(Ended),
}

/// What opening or closing ended with, for any number of callers.
type Ended = Shared<BoxFuture<'static, Result<()>>>;

/// Every lease is a share of it, so that entering costs one atomic operation: thousands of callers do it at once.
struct Live<T> {
    value: Arc<T>,
    /// Dropped with the last share, which ends the receiver.
    _last: oneshot::Sender<()>,
}

/// A share of what a connected backend holds. `disconnect` waits for it.
pub struct Lease<T>(Arc<Live<T>>);

/// A [`Lease`] that says nothing of what it is a share of: what work keeps until it has ended.
pub struct Guard(#[allow(dead_code, reason = "it is kept to be dropped")] Arc<dyn Send + Sync>);

impl<T: Send + Sync + 'static> Lifecycle<T> {
    /// Unconnected.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner { live: ArcSwapOption::empty(), phase: Mutex::new(Phase::Closed) };
        Self { inner: Arc::new(inner) }
    }

    /// Opens, unless it is open or somebody else is opening it already.
    ///
    /// # Errors
    /// What `open` answers; the state then stays unconnected. `Timeout` where it has not ended by the deadline: it goes on.
    pub async fn connect<F>(&self, deadline: Deadline, open: impl FnOnce() -> F) -> Result<()>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        // `disconnect` and deadlines need it, and have no error to say that it cannot be started.
        super::background()?;
        let mut open = Some(open);
        loop {
            let (ended, closing) = match self.inner.begin_opening() {
                Step::Done => return Ok(()),
                Step::Wait { ended, closing } => (ended, closing),
                Step::Begin(answer) => {
                    let Some(open) = open.take() else { return Err(interrupted()) };
                    // On the caller's runtime, where connections then belong; not so `disconnect`, for that runtime may be gone.
                    task::spawn(Arc::clone(&self.inner).open(open(), answer.sender));
                    (answer.ended, false)
                }
            };
            match deadline.within(ended).await {
                None => return Err(late(&deadline, "connecting")),
                Some(answer) if !closing => return answer,
                // What it said is for those who closed it.
                Some(_) => {}
            }
        }
    }

    /// Waits until nobody is closing it any more.
    ///
    /// # Errors
    /// `Timeout` where that has not ended by the deadline: it goes on.
    pub async fn closed(&self, deadline: Deadline) -> Result<()> {
        let ended = match &*self.inner.phase() {
            Phase::Closing(ended) => ended.clone(),
            _ => return Ok(()),
        };
        // What it said is for those who closed it.
        deadline.within(ended).await.map(drop).ok_or_else(|| late(&deadline, "disconnecting"))
    }

    /// Lets nobody in, waits for the leases, then hands the value to `close`. Does nothing when unconnected; waits for
    /// whoever is closing it already.
    ///
    /// # Errors
    /// What `close` answers; the state is unconnected in any case. `Timeout` where it has not ended by the deadline: it goes
    /// on.
    pub async fn disconnect<C, F>(&self, deadline: Deadline, close: C) -> Result<()>
    where
        C: FnOnce(Arc<T>) -> F + Send + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut close = Some(close);
        loop {
            let (ended, closing) = match self.inner.begin_closing() {
                Step::Done => return Ok(()),
                Step::Wait { ended, closing } => (ended, closing),
                Step::Begin((answer, live, leases)) => {
                    let Some(close) = close.take() else { return Err(interrupted()) };
                    let value = Arc::clone(&live.value);
                    // It is a lease itself: while it is kept, `leases` does not end.
                    drop(live);
                    let inner = Arc::clone(&self.inner);
                    task::spawn_in_background(inner.close(leases, value, close, answer.sender));
                    (answer.ended, true)
                }
            };
            match deadline.within(ended).await {
                None => return Err(late(&deadline, "disconnecting")),
                Some(answer) if closing => return answer,
                // It is open now, or failed to open.
                Some(_) => {}
            }
        }
    }
}

impl<T> Lifecycle<T> {
    /// A share of the open value.
    ///
    /// # Errors
    /// `NotConnected` before `connect` and after `disconnect`.
    pub fn enter(&self) -> Result<Lease<T>> {
        self.inner.live.load_full().map(Lease).ok_or_else(|| {
            Error::new(ErrorKind::NotConnected, "the backend is not connected")
                .with_hint("call connect first")
        })
    }
}

impl<T> Lifecycle<T> {
    /// The open value, without a lease: for callers whose work is waited for in another way.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn value(&self) -> Result<Arc<T>> {
        self.enter().map(|lease| Arc::clone(&lease.0.value))
    }
}

/// What whoever connects or disconnects finds.
enum Step<B> {
    Done,
    Wait { ended: Ended, closing: bool },
    Begin(B),
}

/// Where the end of the work is told, and where it is heard.
struct Answer {
    sender: oneshot::Sender<Result<()>>,
    ended: Ended,
}

impl Answer {
    fn new() -> Self {
        let (sender, receiver) = oneshot::channel();
        // Only a receiver is shared, not the work: `Shared` runs what it holds in the future of whoever polls it.
        let ended = receiver.map(|ended| ended.unwrap_or_else(|_| Err(interrupted())));
        Self { sender, ended: ended.boxed().shared() }
    }
}

impl<T: Send + Sync + 'static> Inner<T> {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_opening(&self) -> Step<Answer> {
        let mut phase = self.phase();
        match &*phase {
            Phase::Open { .. } => Step::Done,
            Phase::Opening(ended) => Step::Wait { ended: ended.clone(), closing: false },
            Phase::Closing(ended) => Step::Wait { ended: ended.clone(), closing: true },
            Phase::Closed => {
                let answer = Answer::new();
                *phase = Phase::Opening(answer.ended.clone());
                Step::Begin(answer)
            }
        }
    }

    async fn open(
        self: Arc<Self>,
        open: impl Future<Output = Result<T>> + Send,
        answer: oneshot::Sender<Result<()>>,
    ) {
        let undo = CloseUnlessDone(&self);
        let opened = open.await;
        let told = match opened {
            Ok(value) => {
                // It is open: nothing is to be undone.
                std::mem::forget(undo);
                let (last, leases) = oneshot::channel();
                let live = Live { value: Arc::new(value), _last: last };
                let mut phase = self.phase();
                // Under the lock: whoever finds the phase open finds the value.
                self.live.store(Some(Arc::new(live)));
                *phase = Phase::Open { leases };
                Ok(())
            }
            Err(error) => {
                // Before the answer: whoever has it may connect again at once.
                drop(undo);
                Err(error)
            }
        };
        let _ = answer.send(told);
    }

    #[allow(clippy::type_complexity, reason = "handed on at once")]
    fn begin_closing(&self) -> Step<(Answer, Arc<Live<T>>, oneshot::Receiver<()>)> {
        let mut phase = self.phase();
        match &*phase {
            Phase::Closed => return Step::Done,
            Phase::Opening(ended) => return Step::Wait { ended: ended.clone(), closing: false },
            Phase::Closing(ended) => return Step::Wait { ended: ended.clone(), closing: true },
            Phase::Open { .. } => {}
        }
        let answer = Answer::new();
        let open = std::mem::replace(&mut *phase, Phase::Closing(answer.ended.clone()));
        match (open, self.live.swap(None)) {
            (Phase::Open { leases }, Some(live)) => Step::Begin((answer, live, leases)),
            _ => Step::Done,
        }
    }

    async fn close<C, F>(
        self: Arc<Self>,
        leases: oneshot::Receiver<()>,
        value: Arc<T>,
        close: C,
        answer: oneshot::Sender<Result<()>>,
    ) where
        C: FnOnce(Arc<T>) -> F + Send,
        F: Future<Output = Result<()>> + Send,
    {
        let closed = CloseUnlessDone(&self);
        // Nothing is ever sent: the sender goes with the last lease.
        let _ = leases.await;
        let told = close(value).await;
        // Before the answer: whoever has it may connect at once.
        drop(closed);
        let _ = answer.send(told);
    }
}

/// Makes the state unconnected when the work ends, however it ends.
struct CloseUnlessDone<'a, T: Send + Sync + 'static>(&'a Inner<T>);

impl<T: Send + Sync + 'static> Drop for CloseUnlessDone<'_, T> {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Closed;
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Unavailable, "connecting or disconnecting was interrupted")
}

fn late(deadline: &Deadline, what: &str) -> Error {
    let message = format!("{what} has not ended within {:?} and goes on", deadline.limit());
    Error::new(ErrorKind::Timeout, message)
}

impl<T: Send + Sync + 'static> Default for Lifecycle<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Lifecycle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("connected", &self.enter().is_ok()).finish()
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Send + Sync + 'static> From<Lease<T>> for Guard {
    fn from(lease: Lease<T>) -> Self {
        Self(lease.0)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl<T> Clone for Lease<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}
