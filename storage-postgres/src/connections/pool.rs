//! The pool: how work gets a connection, and what becomes of one that cannot be used again.

use std::{fmt, sync::Arc, time::Duration};

use bb8::{PooledConnection, QueueStrategy};
use storage_core::{Error, ErrorKind, Result, engine::Deadline};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_postgres::Row;

use super::{
    connector::{Connector, Trace},
    freshness::Freshness,
    retired::probe_limit,
    session::{Part, Rows, Session},
};
use crate::{
    config::PostgresConfig,
    error::{Failure, State, exhausted},
    statements::{partition_schema::Collections, query::Query, value::Param},
};

/// How long asking the server to cancel a statement may take.
pub(crate) const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// The connections for callers on one runtime, or on all others.
pub(crate) struct Pool {
    connections: bb8::Pool<Connector>,
    connector: Connector,
    /// One for each connection, given in order: bb8 lets a newcomer overtake those who wait, up to their deadlines.
    permits: Arc<Semaphore>,
    config: Arc<PostgresConfig>,
    pub(crate) schema: Schema,
    /// Where only what is near enough to the primary is read from.
    freshness: Option<Arc<Freshness>>,
}

/// What the first connection has found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema {
    /// How entries are found.
    pub(crate) get: Query,
    pub(crate) collections: Collections,
}

/// A connection for one piece of work, up to its deadline.
///
/// Dropped while a statement is under way, the statement is cancelled and the connection given up.
pub(crate) struct Checkout {
    connection: Option<PooledConnection<'static, Connector>>,
    /// Given back after the connection.
    permit: Option<OwnedSemaphorePermit>,
    pub(super) deadline: Deadline,
    pool: Arc<Pool>,
}

impl Checkout {
    pub(crate) fn schema(&self) -> Schema {
        self.pool.schema
    }
}

impl Pool {
    /// With a first connection it keeps some open; else they are opened as they are needed. bb8's own tasks run on
    /// `runtime`.
    pub(crate) fn new(
        config: &Arc<PostgresConfig>,
        connector: Connector,
        schema: Schema,
        first: Option<Session>,
        runtime: &Handle,
    ) -> Self {
        let _context = runtime.enter();
        let connections = bb8::Pool::builder()
            .max_size(config.pool_max)
            .min_idle(first.as_ref().map(|_| config.pool_min))
            .connection_timeout(config.operation_timeout)
            .test_on_check_out(false)
            // Whoever waits hears of the failure and answers; the next call tries again at once.
            .retry_connection(false)
            // What a smaller load does not need then stays idle for long enough to be closed.
            .queue_strategy(QueueStrategy::Lifo)
            .error_sink(Box::new(Trace))
            .build_unchecked(connector.clone());
        if let Some(first) = first {
            // Where the pool has filled itself meanwhile this connection is closed again.
            drop(connections.add(first));
        }
        let most = usize::try_from(config.pool_max).unwrap_or(usize::MAX);
        let permits = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { connections, connector, permits, config: Arc::clone(config), schema, freshness: None }
    }

    /// The same with connections to standbys that are near enough.
    pub(crate) fn near(self, freshness: Arc<Freshness>) -> Self {
        Self { freshness: Some(freshness), ..self }
    }

    /// When work that begins now must have ended.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.config.operation_timeout)
    }

    /// How many connections there are, and how many of them are idle.
    pub(crate) fn size(&self) -> (u32, u32) {
        let state = self.connections.state();
        (state.connections, state.idle_connections)
    }

    pub(crate) async fn checkout(self: &Arc<Self>, deadline: Deadline) -> Result<Checkout> {
        loop {
            let lent = deadline.within(self.connection()).await;
            let (permit, mut connection) = lent.unwrap_or_else(|| Err(exhausted(deadline.limit())))?;
            if self.is_usable(&mut connection, deadline).await {
                if let Some(freshness) = &self.freshness {
                    freshness.judge(&mut connection, deadline).await?;
                }
                let (connection, permit, pool) = (Some(connection), Some(permit), Arc::clone(self));
                return Ok(Checkout { connection, permit, deadline, pool });
            }
            // The drop takes it out of the pool.
        }
    }

    /// Whether a connection that lay idle can be used: the server may have closed it, the network may have forgotten it, and
    /// the name may lead elsewhere.
    async fn is_usable(&self, session: &mut Session, deadline: Deadline) -> bool {
        let retired = self.connector.retired();
        if !session.wire.is_open() || retired.contains(session.age) {
            return false;
        }
        if !session.age.is_idle() {
            return true;
        }
        // Dropped meanwhile, it is not handed on.
        session.busy = true;
        if session.answers(probe_limit(deadline.limit())).await {
            session.busy = false;
            session.age.use_now();
            return true;
        }
        tracing::debug!("a Postgres connection that lay idle does not answer any more");
        retired.is_silent(session.age);
        false
    }

    async fn connection(&self) -> Result<(OwnedSemaphorePermit, PooledConnection<'static, Connector>)> {
        // Before the pool is asked: the attempt that it begins may fail at once.
        let failures = self.connector.failures();
        let exhausted = || exhausted(self.config.operation_timeout);
        let lent = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| exhausted())?;
            let connection = self.connections.get_owned().await.map_err(|_| exhausted())?;
            Ok((permit, connection))
        };
        tokio::select! {
            biased;
            lent = lent => lent,
            error = self.hopeless(failures) => Err(error),
        }
    }

    /// Ends when a connection could not be opened and there is none to wait for.
    async fn hopeless(&self, mut failures: watch::Receiver<Option<Error>>) -> Error {
        loop {
            // The sender lives in `self`, so this waits.
            let changed = failures.changed().await;
            let error = failures.borrow_and_update().clone();
            if let (Ok(()), Some(error), 0) = (changed, error, self.connections.state().connections) {
                return error;
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Checkout {
    /// The rows of one statement up to about `budget` bytes.
    pub(super) async fn query(
        &mut self,
        query: Query,
        params: &[Param<'_>],
        budget: usize,
    ) -> Result<Rows, Failure> {
        self.prepare(query).await?;
        let deadline = self.deadline;
        let session = self.session()?;
        // Noted before anything is sent: dropped in the middle of it, the connection is not handed on.
        session.busy = true;
        let answer =
            deadline.within(session.wire.drive(session.statements.query(query, params, budget))).await;
        let read = self.settle(answer)?;
        // What remains is not wanted: it is cancelled and the connection given up.
        self.session()?.busy = !read.complete;
        Ok(read)
    }

    /// What a read and a write say, see [`Statements::check`](super::session::Statements::check).
    pub(super) async fn check(&mut self) -> Result<(Result<Rows, Failure>, Result<(), Failure>), Failure> {
        let deadline = self.deadline;
        let session = self.session()?;
        session.busy = true;
        let mut read = None;
        let write = deadline.within(session.wire.drive(session.statements.check(&mut read))).await;
        let late = || Failure::late(deadline.limit());
        let read = read.map_or_else(|| Err(late()), |read| read.map_err(Failure::from));
        Ok((read, self.settle(write)))
    }

    /// See [`Statements::set_and_purge`](super::session::Statements::set_and_purge).
    pub(super) async fn set_and_purge(
        &mut self,
        set: &[Param<'_>],
        purge: &[Param<'_>],
    ) -> Result<(), Failure> {
        self.prepare(Query::Set).await?;
        self.prepare(Query::Purge).await?;
        let deadline = self.deadline;
        let session = self.session()?;
        session.busy = true;
        let answer = deadline.within(session.wire.drive(session.statements.set_and_purge(set, purge))).await;
        self.settle(answer)
    }

    /// See [`Statements::pipeline`](super::session::Statements::pipeline). A transaction that fails before its end has to be [rolled back](Self::roll_back).
    pub(crate) async fn pipeline(
        &mut self,
        part: Part,
        statements: &[(Query, &[Param<'_>])],
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let deadline = self.deadline;
        let session = self.session()?;
        session.busy = true;
        session.open = part != Part::End;
        let answer = deadline.within(session.wire.drive(session.statements.pipeline(part, statements))).await;
        self.settle(answer)
    }

    /// Ends the transaction, where one is open. Where that fails, the connection is given up, which ends it too.
    pub(crate) async fn roll_back(mut self) {
        let deadline = self.deadline;
        if let Ok(session) = self.session()
            && session.open
            && !session.busy
        {
            session.busy = true;
            let ended = deadline
                .within(session.wire.drive(session.statements.client.batch_execute("ROLLBACK")))
                .await;
            session.open = !matches!(ended, Some(Ok(())));
            session.busy = ended.is_none();
        }
    }

    /// Until this is done nothing has been sent that could change anything.
    pub(crate) async fn prepare(&mut self, query: Query) -> Result<(), Failure> {
        let deadline = self.deadline;
        let session = self.session()?;
        if session.statements.is_prepared(query) {
            return Ok(());
        }
        session.busy = true;
        let answer = deadline.within(session.wire.drive(session.statements.prepare(query))).await;
        // `into` makes it `Refused`: only PREPARE was under way, which leaves no outcome of the write unknown.
        self.settle(answer).map_err(|failure| match failure.state {
            State::Lost | State::Late if query.is_write() => failure.error.into(),
            _ => failure,
        })
    }

    /// Notes that the statement has ended, where it has.
    fn settle<T>(&mut self, answer: Option<Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
        // `busy` stays: the statement still runs, and dropping the checkout cancels it.
        let Some(answer) = answer else { return Err(Failure::late(self.deadline.limit())) };
        let mut answer = answer.map_err(Failure::from);
        let session = self.connection.as_deref_mut().ok_or_else(gone)?;
        session.age.use_now();
        if let Err(failure @ Failure { state: State::Closed, .. }) = &mut answer
            && self.pool.config.pooler
        {
            // It may be the pooler's word about a server that it has lost.
            failure.state = State::Lost;
        }
        // One that the server is about to close is not handed on.
        session.busy = matches!(&answer, Err(Failure { state: State::Closed | State::Lost, .. }));
        if let Err(failure @ Failure { state: State::ReadOnly, .. }) = &mut answer
            && !self.pool.connector.retired().takes_no_writes(session.age)
        {
            // Another connection would meet the same.
            failure.state = State::Refused;
        }
        answer
    }

    fn session(&mut self) -> Result<&mut Session> {
        self.connection.as_deref_mut().ok_or_else(gone)
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection is gone")
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if connection.busy && !connection.wire.has_ended() {
            let permit = self.permit.take();
            self.pool.connector.home().spawn(cancel(connection, permit, self.pool.connector.clone()));
        }
    }
}

/// Cancels the statement that is under way, and gives up the connection: a cancellation may come late and hit another
/// statement.
async fn cancel(
    connection: PooledConnection<'static, Connector>,
    _permit: Option<OwnedSemaphorePermit>,
    connector: Connector,
) {
    let _token = connector.token();
    let query = connection.statements.client.cancel_token();
    let cancelled = query.cancel_query(connector.tls());
    if !matches!(Deadline::after(CANCEL_LIMIT).within(cancelled).await, Some(Ok(()))) {
        tracing::debug!("a statement could not be cancelled");
    }
    // Before the permit, which lets another one be opened.
    drop(connection);
}
