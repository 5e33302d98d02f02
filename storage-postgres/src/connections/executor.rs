//! Executes the statements of one piece of work, each on a connection of the pool, up to its deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use storage_core::{Result, engine::Deadline};
use tokio_postgres::Row;

use super::{
    pool::{Checkout, Pool, Schema},
    session::Rows,
};
use crate::{
    error::{Failure, State},
    statements::{query::Query, value::Param},
};

/// How often a statement that was rolled back in favour of others is sent again.
const MAX_ROLLBACKS: u32 = 5;

pub(crate) struct Executor {
    pool: Arc<Pool>,
    pub(crate) deadline: Deadline,
    /// For the first statement, where one was got already.
    first: Option<Checkout>,
    /// Whether a connection was ever got, where anybody asks.
    begun: Option<Arc<AtomicBool>>,
}

impl Executor {
    pub(crate) fn new(pool: &Arc<Pool>) -> Self {
        let deadline = pool.deadline();
        Self { pool: Arc::clone(pool), deadline, first: None, begun: None }
    }

    /// One that has its first connection.
    pub(crate) fn on(pool: &Arc<Pool>, first: Checkout) -> Self {
        Self { first: Some(first), ..Self::new(pool) }
    }

    pub(crate) fn schema(&self) -> Schema {
        self.pool.schema
    }

    /// Whether a connection was ever got: until then nothing was sent.
    pub(crate) fn begun(&mut self) -> Arc<AtomicBool> {
        Arc::clone(self.begun.get_or_insert_default())
    }

    pub(crate) async fn checkout(&mut self) -> Result<Checkout> {
        let mut checkout = match self.first.take() {
            Some(first) => first,
            None => self.pool.checkout(self.deadline).await?,
        };
        checkout.deadline = self.deadline;
        if let Some(begun) = &self.begun {
            begun.store(true, Ordering::Relaxed);
        }
        Ok(checkout)
    }

    /// All rows of one statement.
    pub(crate) async fn query(&mut self, query: Query, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let rows = self.rows(query, params).await;
        rows.map_err(|failure| failure.into_error(query.is_write()))
    }

    /// All rows of one statement, or what its failure leaves open.
    pub(crate) async fn rows(&mut self, query: Query, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        self.read(query, params, usize::MAX).await.map(|read| read.rows)
    }

    /// The rows of one statement up to about `budget` bytes.
    pub(crate) async fn read(
        &mut self,
        query: Query,
        params: &[Param<'_>],
        budget: usize,
    ) -> Result<Rows, Failure> {
        let mut tries = Tries::new(query.is_write());
        loop {
            let mut checkout = self.checkout().await?;
            let answer = checkout.query(query, params, budget).await;
            // Before the pause, in which others can use it.
            drop(checkout);
            match answer {
                Ok(rows) => return Ok(rows),
                Err(failure) => tries.pause_after(failure, self.deadline).await?,
            }
        }
    }

    /// What a read and a write say, in one round trip; again where the connection was at fault.
    pub(crate) async fn check(&mut self) -> Result<(Result<Rows, Failure>, Result<(), Failure>)> {
        let mut tries = Tries::new(false);
        loop {
            let mut checkout = self.checkout().await?;
            let checked = checkout.check().await;
            drop(checkout);
            let (read, write) = checked.map_err(|failure| failure.error)?;
            match write {
                Err(failure) => {
                    if let Err(failure) = tries.pause_after(failure, self.deadline).await {
                        return Ok((read, Err(failure)));
                    }
                }
                Ok(()) => return Ok((read, Ok(()))),
            }
        }
    }

    /// Runs a transaction, again where the server rolls it back in favour of others. What it leaves open is rolled back.
    pub(crate) async fn transaction<T: Transaction>(&mut self, transaction: &T) -> Result<T::Answer> {
        let mut tries = Tries::new(false);
        loop {
            let mut checkout = self.checkout().await?;
            let answer = transaction.run(&mut checkout).await;
            // Before the caller is told: whatever it does next finds no lock of this transaction.
            checkout.roll_back().await;
            let Failed { failure, sent } = match answer {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            // Until the end was sent a lost connection has applied nothing, so the transaction may run again.
            tries.write = sent;
            let paused = tries.pause_after(failure, self.deadline).await;
            paused.map_err(|failure| failure.into_error(sent))?;
        }
    }

    /// See [`Statements::set_and_purge`](super::session::Statements::set_and_purge).
    pub(crate) async fn set_and_purge(&mut self, set: &[Param<'_>], purge: &[Param<'_>]) -> Result<()> {
        let mut tries = Tries::new(true);
        loop {
            let mut checkout = self.checkout().await?;
            let answer = checkout.set_and_purge(set, purge).await;
            drop(checkout);
            let Err(failure) = answer else { return Ok(()) };
            let paused = tries.pause_after(failure, self.deadline).await;
            paused.map_err(|failure| failure.into_error(true))?;
        }
    }
}

/// Several statements, all or nothing. (No closure: whether an asynchronous one may go to another thread cannot be said.)
pub(crate) trait Transaction: Sync {
    type Answer: Send;

    /// Begins, and commits unless it fails; may run several times.
    fn run(&self, checkout: &mut Checkout) -> impl Future<Output = Result<Self::Answer, Failed>> + Send;
}

/// Why a transaction failed, and whether its end had been sent: until then nothing can have been applied.
pub(crate) struct Failed {
    failure: Failure,
    sent: bool,
}

impl Failed {
    /// What was sent with the statement that commits.
    pub(crate) fn at_the_end(failure: Failure) -> Self {
        Self { failure, sent: true }
    }
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { failure: error.into(), sent: false }
    }
}

/// When a failed statement is sent again.
struct Tries {
    write: bool,
    rolled_back: u32,
    /// Whether another connection was tried.
    again: bool,
}

impl Tries {
    fn new(write: bool) -> Self {
        Self { write, rolled_back: 0, again: false }
    }

    /// Returns where the statement may be sent again: after a pause if the server rolled it back, and once on another
    /// connection if a read lost its own, or if the server refused it for what the server or the connection is.
    async fn pause_after(&mut self, failure: Failure, deadline: Deadline) -> Result<(), Failure> {
        match failure.state {
            State::RolledBack if self.rolled_back < MAX_ROLLBACKS => {
                self.rolled_back += 1;
                // At random: the two of a deadlock would meet again.
                deadline.pause(Duration::from_micros(fastrand::u64(1_000..20_000))).await;
                Ok(())
            }
            State::Closed | State::ReadOnly if !self.again => {
                self.again = true;
                Ok(())
            }
            State::Lost if !self.write && !self.again => {
                self.again = true;
                Ok(())
            }
            _ => Err(failure),
        }
    }
}
