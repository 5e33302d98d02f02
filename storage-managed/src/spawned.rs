//! Work that runs by itself, on a thread whose network and timers belong to the background: its caller may keep its future,
//! go away, or be on a runtime that ends, while others wait for what the work has locked.

use storage_core::{
    ErrorKind,
    engine::{spawn_thread, task},
};
use tokio::sync::oneshot::{self, Sender};

use crate::error::{Error, Result};

const NAME: &str = "storage-managed";

/// Runs work that goes on where its caller goes away.
pub(crate) async fn by_itself<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    spawn_thread(NAME, async move {
        // Nobody may listen any more.
        let _ = answer.send(work.await);
    });
    answered.await.unwrap_or_else(|_| Err(interrupted()))
}

/// Runs work that is given up where its caller goes away.
pub(crate) async fn while_awaited<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    spawn_thread(NAME, unless_abandoned(answer, work));
    answered.await.unwrap_or_else(|_| Err(interrupted()))
}

/// [`while_awaited`] without a thread, for work that does nothing but wait.
pub(crate) async fn while_awaited_idle<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    task::spawn_in_background(unless_abandoned(answer, work));
    answered.await.unwrap_or_else(|_| Err(interrupted()))
}

async fn unless_abandoned<T>(mut answer: Sender<Result<T>>, work: impl Future<Output = Result<T>>) {
    let done = tokio::select! {
        () = answer.closed() => return,
        done = work => done,
    };
    let _ = answer.send(done);
}

fn interrupted() -> Error {
    Error::Home(storage_core::Error::new(ErrorKind::Unavailable, "the work was interrupted"))
}
