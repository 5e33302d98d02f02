//! One connection with the statements that it has prepared, and how connections are opened.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bb8::{ErrorSink, ManageConnection};
use futures::{
    TryStreamExt,
    future::{join, join4, try_join, try_join_all},
};
use storage_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio_postgres::{Client, Row, RowStream, Statement, config::Config as Driver, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use crate::{
    PostgresConfig,
    error::{Failure, connect_error},
    sql::Query,
    tls,
};

/// A parameter of a statement.
pub(crate) type Param<'a> = &'a (dyn ToSql + Sync);

/// Opens connections for the pool.
pub(crate) struct Connector {
    config: Arc<PostgresConfig>,
    driver: Driver,
    tls: MakeRustlsConnect,
    /// The tasks that serve the connections.
    tasks: TaskTracker,
    /// The latest attempt that failed: callers who wait for a connection hear of it.
    failed: watch::Sender<Option<Error>>,
}

/// One connection, used by one caller at a time.
pub(crate) struct Session {
    pub(crate) client: Client,
    config: Arc<PostgresConfig>,
    table: String,
    prepared: HashMap<Query, Statement>,
    /// A statement is under way. Whoever finds this set was preceded by a caller who went away.
    pub(crate) busy: bool,
    /// A transaction is open whose end has not been sent.
    pub(crate) open: bool,
}

/// Which part of a transaction is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What begins it, and statements.
    Begin,
    Middle,
    /// Statements, and what commits it.
    End,
}

/// Rows, and whether they are all.
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    pub(crate) complete: bool,
}

impl Connector {
    /// Reads the root certificates, and opens nothing yet.
    pub(crate) async fn new(config: Arc<PostgresConfig>, tasks: TaskTracker) -> Result<Self> {
        let tls = tokio::task::spawn_blocking({
            let config = Arc::clone(&config);
            move || tls::client_config(config.ssl_mode, config.ssl_roots.as_ref())
        });
        let tls = tls.await.map_err(|_| Error::new(ErrorKind::Unavailable, "the runtime is stopping"))??;
        let (failed, _) = watch::channel(None);
        Ok(Self { driver: config.driver(), config, tls: MakeRustlsConnect::new(tls), tasks, failed })
    }

    pub(crate) fn failures(&self) -> watch::Sender<Option<Error>> {
        self.failed.clone()
    }

    pub(crate) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    async fn open(&self) -> Result<Session> {
        let limit = self.config.connect_timeout;
        let opened = tokio::time::timeout(limit, self.driver.connect(self.tls.clone())).await;
        let (client, connection) = opened
            .map_err(|_| Error::new(ErrorKind::Unavailable, format!("no connection within {limit:?}")))?
            .map_err(|error| connect_error(&error))?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                let error = Failure::from(error).error;
                tracing::debug!(%error, "a Postgres connection ended");
            }
        });
        let table = self.config.table();
        let config = Arc::clone(&self.config);
        Ok(Session { client, config, table, prepared: HashMap::new(), busy: false, open: false })
    }
}

impl ManageConnection for Connector {
    type Connection = Session;
    type Error = Error;

    async fn connect(&self) -> Result<Session> {
        let opened = self.open().await;
        if let Err(error) = &opened {
            self.failed.send_replace(Some(error.clone()));
        }
        opened
    }

    /// Not asked by the pool: a checkout costs no round trip.
    async fn is_valid(&self, session: &mut Session) -> Result<()> {
        session.client.check_connection().await.map_err(|error| Failure::from(error).error)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_broken()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Errors of connections that nobody waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace;

impl ErrorSink<Error> for Trace {
    fn sink(&self, error: Error) {
        tracing::warn!(%error, "a Postgres connection could not be opened");
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<Error>> {
        Box::new(*self)
    }
}

impl Session {
    /// Whether it must not be used again.
    pub(crate) fn is_broken(&self) -> bool {
        self.busy || self.open || self.client.is_closed()
    }

    /// Sends a statement, and reads rows until about `budget` bytes of them are here.
    pub(crate) async fn query(
        &self,
        query: Query,
        params: &[Param<'_>],
        budget: usize,
    ) -> Result<Rows, tokio_postgres::Error> {
        let mut stream = std::pin::pin!(self.send(query, params).await?);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = stream.try_next().await? {
            bytes += row.raw_size_bytes();
            rows.push(row);
            if bytes >= budget {
                return Ok(Rows { rows, complete: false });
            }
        }
        Ok(Rows { rows, complete: true })
    }

    /// Writes, and deletes what was written as expired, in one transaction and one round trip.
    pub(crate) async fn set_and_purge(
        &self,
        set: &[Param<'_>],
        purge: &[Param<'_>],
    ) -> Result<(), tokio_postgres::Error> {
        // All four are sent when they are first polled, so nobody can go away in the middle of the transaction.
        let (begun, set, purged, committed) = join4(
            self.client.batch_execute("BEGIN"),
            self.query(Query::Set, set, usize::MAX),
            self.query(Query::Purge, purge, usize::MAX),
            self.client.batch_execute("COMMIT"),
        )
        .await;
        begun?;
        set?;
        purged?;
        committed
    }

    /// Sends statements of a transaction in one round trip; all rows of each.
    pub(crate) async fn pipeline(
        &self,
        part: Part,
        statements: &[(Query, &[Param<'_>])],
    ) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
        let begun =
            async { if part == Part::Begin { self.client.batch_execute("BEGIN").await } else { Ok(()) } };
        let queries = statements.iter().map(|(query, params)| async move {
            self.query(*query, params, usize::MAX).await.map(|read| read.rows)
        });
        let mut answers = pin!(try_join(begun, try_join_all(queries)));
        // All is sent when it is first polled, so nobody can go away before the end; and what could not even be sent
        // must not be missing from what is committed.
        let sent = poll_fn(|context| Poll::Ready(answers.as_mut().poll(context))).await;
        let end = if matches!(sent, Poll::Ready(Err(_))) { "ROLLBACK" } else { "COMMIT" };
        let ended = async { if part == Part::End { self.client.batch_execute(end).await } else { Ok(()) } };
        let answers = async {
            match sent {
                Poll::Ready(answers) => answers,
                Poll::Pending => answers.await,
            }
        };
        let (answers, ended) = join(answers, ended).await;
        let ((), rows) = answers?;
        ended.map(|()| rows)
    }

    /// Prepares a statement, unless it is, or this goes through a pooler.
    pub(crate) async fn prepare(&mut self, query: Query) -> Result<(), tokio_postgres::Error> {
        if !self.config.pooler && !self.prepared.contains_key(&query) {
            let statement = self.client.prepare_typed(&query.text(&self.table), query.types()).await?;
            self.prepared.insert(query, statement);
        }
        Ok(())
    }

    async fn send(&self, query: Query, params: &[Param<'_>]) -> Result<RowStream, tokio_postgres::Error> {
        match self.prepared.get(&query) {
            Some(statement) => self.client.query_raw(statement, params.iter().copied()).await,
            None => {
                let typed = params.iter().copied().zip(query.types().iter().cloned());
                self.client.query_typed_raw(&query.text(&self.table), typed).await
            }
        }
    }
}
