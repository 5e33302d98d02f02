//! The pool: how a call gets a connection, and what becomes of one whose caller went away.

use std::{fmt, sync::Arc, time::Duration};

use bb8::{ManageConnection, PooledConnection, QueueStrategy};
use storage_core::{Error, ErrorKind, Result};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout_at},
};
use tokio_postgres::Row;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use crate::{
    PostgresConfig, collections,
    error::{Failure, State},
    schema,
    session::{Connector, Param, Part, Rows, Session, Trace},
    sql::Query,
};

/// How often a statement that was rolled back in favour of others is sent again.
const MAX_ROLLBACKS: u32 = 5;
/// How long asking the server to cancel a statement may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// The open connections.
pub(crate) struct Pool {
    connections: bb8::Pool<Connector>,
    /// One for each connection, given in order: bb8 lets a newcomer overtake those who wait, up to their deadlines.
    turns: Semaphore,
    config: Arc<PostgresConfig>,
    failed: watch::Sender<Option<Error>>,
    tls: MakeRustlsConnect,
    /// The tasks that serve connections, and those that settle what callers left behind.
    tasks: TaskTracker,
    runtime: Handle,
    /// How entries are found.
    pub(crate) get: Query,
    /// Whether the tables of collections are there and may be used.
    pub(crate) collections: bool,
}

/// A connection for one call, up to its deadline.
///
/// Dropped while a statement is under way, the connection settles in the background before anybody gets it.
pub(crate) struct Checkout<'a> {
    connection: Option<PooledConnection<'static, Connector>>,
    deadline: Instant,
    pool: &'a Pool,
    /// Given back after the connection.
    _turn: SemaphorePermit<'a>,
}

impl Pool {
    /// Opens a connection, makes the schema, and fills the pool in the background.
    pub(crate) async fn open(config: Arc<PostgresConfig>) -> Result<Self> {
        let tasks = TaskTracker::new();
        let connector = Connector::new(Arc::clone(&config), tasks.clone()).await?;
        let (failed, tls) = (connector.failures(), connector.tls());
        // bb8 alone would build a pool without a server.
        let first = connector.connect().await?;
        let indexed = schema::prepare(&first.client, &config).await?;
        let collections = collections::prepare(&first.client, &config).await?;
        let connections = bb8::Pool::builder()
            .max_size(config.pool_max)
            .min_idle(config.pool_min)
            .connection_timeout(config.operation_timeout)
            .test_on_check_out(false)
            // Whoever waits hears of the failure and answers; the next call tries again at once.
            .retry_connection(false)
            .queue_strategy(QueueStrategy::Lifo)
            .error_sink(Box::new(Trace))
            .build_unchecked(connector);
        // Where the pool has filled itself meanwhile this connection is closed again.
        drop(connections.add(first));
        let most = usize::try_from(config.pool_max).unwrap_or(usize::MAX);
        let turns = Semaphore::new(most.min(Semaphore::MAX_PERMITS));
        let get = if indexed { Query::Get } else { Query::GetByPrimaryKey };
        let runtime = Handle::current();
        Ok(Self { connections, turns, config, failed, tls, tasks, runtime, get, collections })
    }

    /// Waits for what callers left behind, and for the connections to close; nobody else may hold the pool.
    pub(crate) async fn close(self: Arc<Self>) {
        let limit = self.config.operation_timeout + CANCEL_LIMIT;
        let tasks = self.tasks.clone();
        drop(self);
        tasks.close();
        if tokio::time::timeout(limit, tasks.wait()).await.is_err() {
            tracing::warn!("a Postgres connection did not close within {limit:?}");
        }
    }

    /// When a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.operation_timeout
    }

    /// All rows of one statement.
    pub(crate) async fn query(
        &self,
        deadline: Instant,
        query: Query,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let rows = self.rows(deadline, query, params).await;
        rows.map_err(|failure| failure.into_error(query.is_write()))
    }

    /// All rows of one statement, or what its failure leaves open.
    pub(crate) async fn rows(
        &self,
        deadline: Instant,
        query: Query,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.read(deadline, query, params, usize::MAX).await.map(|read| read.rows)
    }

    /// The rows of one statement up to about `budget` bytes.
    pub(crate) async fn read(
        &self,
        deadline: Instant,
        query: Query,
        params: &[Param<'_>],
        budget: usize,
    ) -> Result<Rows, Failure> {
        let mut tries = Tries::new(query.is_write());
        loop {
            let mut checkout = self.checkout(deadline).await?;
            match checkout.query(query, params, budget).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => {
                    drop(checkout);
                    tries.pause_after(failure).await?;
                }
            }
        }
    }

    /// See [`Session::set_and_purge`].
    pub(crate) async fn set_and_purge(&self, set: &[Param<'_>], purge: &[Param<'_>]) -> Result<()> {
        let deadline = self.deadline();
        let mut tries = Tries::new(true);
        loop {
            let mut checkout = self.checkout(deadline).await?;
            match checkout.set_and_purge(set, purge).await {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    drop(checkout);
                    tries.pause_after(failure).await.map_err(|failure| failure.into_error(true))?;
                }
            }
        }
    }

    /// How many connections there are, and how many of them are idle.
    pub(crate) fn size(&self) -> (u32, u32) {
        let state = self.connections.state();
        (state.connections, state.idle_connections)
    }

    pub(crate) async fn checkout(&self, deadline: Instant) -> Result<Checkout<'_>> {
        loop {
            let (turn, connection) = match timeout_at(deadline, self.connection()).await {
                Ok(lent) => lent?,
                Err(_) => return Err(self.exhausted()),
            };
            // The server may have closed it while it lay idle: the drop takes it out of the pool.
            if !connection.is_broken() {
                return Ok(Checkout { connection: Some(connection), deadline, pool: self, _turn: turn });
            }
        }
    }

    async fn connection(&self) -> Result<(SemaphorePermit<'_>, PooledConnection<'static, Connector>)> {
        // Before the pool is asked: the attempt that it begins may fail at once.
        let failed = self.failed.subscribe();
        let lent = async {
            let turn = self.turns.acquire().await.map_err(|_| self.exhausted())?;
            let connection = self.connections.get_owned().await.map_err(|_| self.exhausted())?;
            Ok((turn, connection))
        };
        tokio::select! {
            biased;
            lent = lent => lent,
            error = self.hopeless(failed) => Err(error),
        }
    }

    /// Ends when a connection could not be opened and there is none to wait for.
    async fn hopeless(&self, mut failed: watch::Receiver<Option<Error>>) -> Error {
        loop {
            // The sender lives in `self`, so this waits.
            let changed = failed.changed().await;
            let error = failed.borrow_and_update().clone();
            if let (Ok(()), Some(error), 0) = (changed, error, self.connections.state().connections) {
                return error;
            }
        }
    }

    fn exhausted(&self) -> Error {
        let limit = self.config.operation_timeout;
        Error::new(ErrorKind::Timeout, format!("no connection of the pool became free within {limit:?}"))
            .with_hint("raise POSTGRES_POOL_MAX, or send less at once")
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).finish_non_exhaustive()
    }
}

/// When a failed statement is sent again.
pub(crate) struct Tries {
    pub(crate) write: bool,
    rolled_back: u32,
    lost: bool,
}

impl Tries {
    pub(crate) fn new(write: bool) -> Self {
        Self { write, rolled_back: 0, lost: false }
    }

    /// Returns where the statement may be sent again: after a pause if the server rolled it back, and once if a read
    /// lost its connection.
    pub(crate) async fn pause_after(&mut self, failure: Failure) -> Result<(), Failure> {
        match failure.state {
            State::RolledBack if self.rolled_back < MAX_ROLLBACKS => {
                self.rolled_back += 1;
                tokio::time::sleep(Duration::from_micros(fastrand::u64(1_000..20_000))).await;
                Ok(())
            }
            State::Closed | State::Lost if !self.write && !self.lost => {
                self.lost = true;
                Ok(())
            }
            _ => Err(failure),
        }
    }
}

impl Checkout<'_> {
    async fn query(&mut self, query: Query, params: &[Param<'_>], budget: usize) -> Result<Rows, Failure> {
        self.prepare(query).await?;
        let deadline = self.deadline;
        let session = self.session()?;
        session.busy = true;
        let answer = timeout_at(deadline, session.query(query, params, budget)).await;
        let read = self.settle(answer)?;
        if !read.complete {
            // The rest is not wanted: it is cancelled and the connection given up.
            self.session()?.busy = true;
            self.deadline = Instant::now();
        }
        Ok(read)
    }

    async fn set_and_purge(&mut self, set: &[Param<'_>], purge: &[Param<'_>]) -> Result<(), Failure> {
        self.prepare(Query::Set).await?;
        self.prepare(Query::Purge).await?;
        let deadline = self.deadline;
        let session = self.session()?;
        session.busy = true;
        let answer = timeout_at(deadline, session.set_and_purge(set, purge)).await;
        self.settle(answer)
    }

    /// See [`Session::pipeline`]. A transaction that is dropped before its end is rolled back.
    pub(crate) async fn pipeline(
        &mut self,
        part: Part,
        statements: &[(Query, &[Param<'_>])],
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let deadline = self.deadline;
        let session = self.session()?;
        session.busy = true;
        session.open = part != Part::End;
        let answer = timeout_at(deadline, session.pipeline(part, statements)).await;
        self.settle(answer)
    }

    /// Until this is done nothing has been sent that could change anything.
    pub(crate) async fn prepare(&mut self, query: Query) -> Result<(), Failure> {
        let deadline = self.deadline;
        let session = self.session()?;
        session.busy = true;
        let answer = timeout_at(deadline, session.prepare(query)).await;
        self.settle(answer).map_err(|failure| match failure.state {
            State::Lost | State::Late if query.is_write() => failure.error.into(),
            _ => failure,
        })
    }

    /// Notes that the statement has ended, where it has.
    fn settle<T>(
        &mut self,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failure> {
        let Ok(answer) = answer else { return Err(Failure::late(self.pool.config.operation_timeout)) };
        let answer = answer.map_err(Failure::from);
        // One that the server is about to close is not handed on.
        self.session()?.busy = matches!(&answer, Err(Failure { state: State::Closed | State::Lost, .. }));
        answer
    }

    fn session(&mut self) -> Result<&mut Session> {
        let gone = || Error::new(ErrorKind::Unavailable, "the connection is gone");
        self.connection.as_deref_mut().ok_or_else(gone)
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if connection.is_broken() {
            // bb8 replaces a lost connection in a new task, also where the caller is dropped outside the runtime.
            let _runtime = self.pool.runtime.enter();
            if !connection.client.is_closed() {
                self.pool.tasks.spawn(recover(connection, self.deadline, self.pool.tls.clone()));
            }
        }
    }
}

/// Waits until the statement that a caller left behind has ended, so that the connection can be used again. Past the
/// deadline the statement is cancelled and the connection given up: a cancellation may come late and hit another.
async fn recover(
    mut connection: PooledConnection<'static, Connector>,
    deadline: Instant,
    tls: MakeRustlsConnect,
) {
    let settled = async {
        if connection.open {
            connection.client.batch_execute("ROLLBACK").await
        } else {
            connection.client.check_connection().await
        }
    };
    match timeout_at(deadline, settled).await {
        Ok(Ok(())) => (connection.busy, connection.open) = (false, false),
        Ok(Err(_)) => {}
        Err(_) => {
            let cancel = connection.client.cancel_token();
            if tokio::time::timeout(CANCEL_LIMIT, cancel.cancel_query(tls)).await.is_err() {
                tracing::debug!("a statement could not be cancelled");
            }
        }
    }
}
