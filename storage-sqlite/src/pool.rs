//! Connections, each on a thread of its own and lent to one visit at a time.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use storage_core::{Error, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rusqlite::{Connection as Handle, rusqlite::Connection};

use crate::{
    SqliteConfig,
    error::{Answer, Fault},
    schema::{self, Role},
};

/// Some connections of one role. Who finds none idle waits in line, so no queue grows inside the driver.
pub(crate) struct Pool {
    role: Role,
    config: Arc<SqliteConfig>,
    /// As many as there are permits; `None` is one that has to be opened again.
    idle: Mutex<Vec<Option<Handle>>>,
    permits: Arc<Semaphore>,
}

/// The place of a connection that is in use. Dropping it without giving a connection back lets the next user open one.
struct Loan {
    connection: Option<Handle>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// Opens `size` connections.
    pub(crate) async fn open(role: Role, size: usize, config: &Arc<SqliteConfig>) -> Answer<Arc<Self>> {
        let mut idle = Vec::with_capacity(size);
        for _ in 0..size {
            idle.push(Some(open(role, config).await?));
        }
        Ok(Arc::new(Self {
            role,
            config: Arc::clone(config),
            idle: Mutex::new(idle),
            permits: Arc::new(Semaphore::new(size)),
        }))
    }

    /// Runs `work` on a connection. It runs to its end even where the caller goes away; `guard` lives as long.
    pub(crate) async fn visit<T, F>(self: &Arc<Self>, guard: impl Send + 'static, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Answer<T> + Send + 'static,
    {
        let visited = self.borrow(guard, |db| {
            let answer = work(db);
            let loses_connection = answer.as_ref().is_err_and(Fault::loses_connection);
            (answer, loses_connection)
        });
        visited.await?
    }

    /// [`visit`](Self::visit) for work that says by itself whether the connection has to be opened again.
    pub(crate) async fn borrow<T, F>(self: &Arc<Self>, guard: impl Send + 'static, work: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> (T, bool) + Send + 'static,
    {
        let (loan, connection) = self.lend().await?;
        let back = connection.clone();
        let visited = connection.call_raw(move |db| {
            // A panic would end the thread and fail every later call.
            let done = catch_unwind(AssertUnwindSafe(|| work(db)));
            let sound = db.is_autocommit() && matches!(done, Ok((_, false)));
            loan.give_back(sound.then_some(back));
            drop(guard);
            done.map(|(answer, _)| answer)
        });
        match visited.await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(lost()),
        }
    }

    /// Closes every connection and waits for it. Nobody may be using one.
    pub(crate) async fn close(&self) {
        let connections = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in connections.into_iter().flatten() {
            // In a task, since the driver panics when nobody waits for the answer any more.
            if let Ok(Err(_)) = tokio::spawn(connection.close()).await {
                tracing::warn!("a connection could not be closed");
            }
        }
    }

    /// Leaves idle connections whose threads have ended, as after a crash of the driver.
    #[cfg(test)]
    pub(crate) async fn end_threads(&self) {
        let idle = self.idle.lock().unwrap().clone();
        for connection in idle.into_iter().flatten() {
            connection.close().await.unwrap();
        }
    }

    async fn lend(self: &Arc<Self>) -> Answer<(Loan, Handle)> {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return Err(lost()) };
        let connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().flatten();
        let loan = Loan { connection: None, pool: Arc::clone(self), _permit: permit };
        match connection {
            Some(connection) => Ok((loan, connection)),
            None => {
                tracing::info!(role = ?self.role, "opening a connection again");
                let connection = open(self.role, &self.config).await?;
                Ok((loan, connection))
            }
        }
    }
}

impl Loan {
    fn give_back(mut self, connection: Option<Handle>) {
        self.connection = connection;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let connection = self.connection.take();
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("role", &self.role).finish_non_exhaustive()
    }
}

async fn open(role: Role, config: &Arc<SqliteConfig>) -> Answer<Handle> {
    let config = Arc::clone(config);
    let opened = tokio::task::spawn_blocking(move || schema::open(&config, role)).await;
    opened.unwrap_or_else(|_| Err(lost())).map(Handle::from)
}

/// What a visit answers whose connection did not.
pub(crate) fn lost() -> Fault {
    Fault::Lost(Error::new(ErrorKind::Unavailable, "the connection to the file ended unexpectedly"))
}
