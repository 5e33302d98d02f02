//! Connections to a server, and how work on them is started.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use storage_core::{Result, engine::Home};
use tokio::sync::oneshot;

use super::queues::Queues;
use crate::connections::{
    executor::Executor,
    pool::{Pool, Schema},
};

/// Connections, and the queues in front of them, for callers on one runtime, or on all others.
pub(crate) struct Set {
    pub(super) home: Home,
    pub(super) pool: Arc<Pool>,
    /// Shared with callers who wait, which is no reason not to disconnect.
    pub(crate) queues: Arc<Queues>,
}

impl Set {
    pub(super) fn new(home: Home, pool: Pool, connections: u32) -> Self {
        let pool = Arc::new(pool);
        let queues = Arc::new(Queues::new(&pool, home, connections));
        Self { home, pool, queues }
    }

    /// What the server has.
    pub(crate) fn schema(&self) -> Schema {
        self.pool.schema
    }
}

/// Starts work; it keeps `guard` until it has ended.
pub(super) fn start<T, F>(
    home: Home,
    mut executor: Executor,
    guard: impl Send + 'static,
    work: impl FnOnce(Executor) -> F,
) -> oneshot::Receiver<Result<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let (mut reply, answer) = oneshot::channel();
    // Relaxed on both sides: the task that sets it is the one that reads it.
    let begun = executor.begun();
    let work = work(executor);
    home.spawn(async move {
        let _guard = guard;
        let mut work = pin!(work);
        let answer = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            // Nothing was sent, and nobody waits any more.
            Poll::Pending if !begun.load(Ordering::Relaxed) => reply.poll_closed(context).map(|()| None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(answer) = answer.await {
            let _ = reply.send(answer);
        }
    });
    answer
}
