//! The wire of a connection, driven by the work that uses it.
//!
//! A task of its own for each connection, as is usual with the driver, would be two more hops between tasks for each
//! statement: for a lone caller half of its time besides the server's. While nobody uses a connection there is nothing to
//! drive; what the server has said meanwhile is read when it is used again.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::task::AtomicWaker;
use storage_core::engine::{Deadline, Home};
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) struct Wire {
    /// `None` once it has ended.
    connection: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    home: Home,
    token: Option<TaskTrackerToken>,
    woken: Arc<Woken>,
    waker: Waker,
}

/// How often the wire and the statements wake each other before other tasks get their time: a task that has used up what
/// tokio lets it read at once would else go round for ever.
const ROUNDS: u32 = 64;

/// How long saying goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// What the wire and the statements on it wake. While they are polled they wake each other, and no task.
#[derive(Default)]
struct Woken {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

impl Wire {
    /// `token` is kept until the connection is closed.
    pub(super) fn new(
        connection: impl Future<Output = ()> + Send + 'static,
        home: Home,
        token: TaskTrackerToken,
    ) -> Self {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        Self { connection: Some(Box::pin(connection)), home, token: Some(token), woken, waker }
    }

    /// What statements on the connection answer.
    pub(crate) async fn drive<F: Future>(&mut self, statements: F) -> F::Output {
        let mut statements = pin!(statements);
        poll_fn(|context| {
            self.poll(context, |context| match statements.as_mut().poll(context) {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            })
        })
        .await
    }

    /// Reads what the server has said, without waiting; whether the connection is still open.
    pub(super) fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(&self.waker);
        if self.connection.as_mut().is_some_and(|wire| wire.as_mut().poll(&mut context).is_ready()) {
            self.connection = None;
        }
        self.connection.is_some()
    }

    /// Ends the connection without a word: nobody listens.
    pub(super) fn abandon(&mut self) {
        self.connection = None;
    }

    /// Whether it was found closed.
    pub(super) fn has_ended(&self) -> bool {
        self.connection.is_none()
    }

    fn poll<T>(
        &mut self,
        context: &Context<'_>,
        mut answer: impl FnMut(&mut Context<'_>) -> Option<T>,
    ) -> Poll<T> {
        // While this polls both, the flag says who was woken: waking the task as well would poll it once too often.
        drop(self.woken.task.take());
        for _ in 0..ROUNDS {
            // The statements first: the wire writes what they send in the same poll.
            if let Some(answer) = answer(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(answer);
            }
            // What the statements have woken is polled now in any case.
            self.woken.woken.store(false, Ordering::SeqCst);
            self.is_open();
            if self.woken.woken.load(Ordering::SeqCst) {
                continue;
            }
            // Then looked at once more: what came before the registration has woken nobody.
            self.woken.task.register(context.waker());
            if !self.woken.woken.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
            drop(self.woken.task.take());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Wire {
    /// Says goodbye to the server, which hears of it where no statements can come any more. A server that does not take it
    /// is not waited for.
    fn drop(&mut self) {
        let (connection, token) = (self.connection.take(), self.token.take());
        if let Some(connection) = connection {
            self.home.spawn(async move {
                Deadline::after(GOODBYE_LIMIT).within(connection).await;
                drop(token);
            });
        }
    }
}
