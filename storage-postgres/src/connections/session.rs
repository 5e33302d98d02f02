//! One connection with the statements that it has prepared.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures::{
    TryStreamExt,
    future::{join, join4, try_join, try_join_all},
};
use storage_core::engine::Deadline;
use tokio_postgres::{Client, Row, RowStream, Statement};

use super::{
    retired::{Age, Near},
    wire::Wire,
};
use crate::{
    config::PostgresConfig,
    statements::{entries, query::Query, value::Param},
};

/// One connection, used by one piece of work at a time.
pub(crate) struct Session {
    pub(crate) statements: Statements,
    pub(crate) wire: Wire,
    /// A statement is under way, or the connection is about to end.
    pub(crate) busy: bool,
    /// A transaction is open whose end has not been sent.
    pub(crate) open: bool,
    pub(super) age: Age,
    /// Until when a standby is near enough to be read from.
    pub(super) near: Option<Near>,
}

/// What is sent on a connection; the [wire](Wire) has to be driven meanwhile.
pub(crate) struct Statements {
    pub(crate) client: Client,
    config: Arc<PostgresConfig>,
    pub(super) table: String,
    prepared: HashMap<Query, Statement>,
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

impl Session {
    pub(super) fn new(client: Client, wire: Wire, config: &Arc<PostgresConfig>, age: Age) -> Self {
        let (table, config) = (config.table(), Arc::clone(config));
        let statements = Statements { client, config, table, prepared: HashMap::new() };
        Self { statements, wire, busy: false, open: false, age, near: None }
    }

    /// Whether the server answers in time; where it does not, nothing waits for the connection to be closed.
    pub(super) async fn answers(&mut self, limit: Duration) -> bool {
        let asked = self.wire.drive(self.statements.client.batch_execute(""));
        let answered = Deadline::after(limit).within(asked).await;
        if answered.is_none() {
            self.wire.abandon();
        }
        matches!(answered, Some(Ok(())))
    }

    /// Whether it must not be used again, as far as is known.
    pub(super) fn is_broken(&self) -> bool {
        self.busy || self.open || self.wire.has_ended()
    }
}

impl Statements {
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

    /// Reads, and writes what it removes again, in one round trip. What was read is in `read` where only the write hangs.
    pub(crate) async fn check(
        &self,
        read: &mut Option<Result<Rows, tokio_postgres::Error>>,
    ) -> Result<(), tokio_postgres::Error> {
        let touch = entries::touch(&self.table);
        let reads = async { *read = Some(self.query(Query::Look, &[], usize::MAX).await) };
        join(reads, self.client.batch_execute(&touch)).await.1
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

    /// Whether a statement need not be [prepared](Self::prepare) first: it is, or this goes through a pooler.
    pub(crate) fn is_prepared(&self, query: Query) -> bool {
        self.config.pooler || self.prepared.contains_key(&query)
    }

    pub(crate) async fn prepare(&mut self, query: Query) -> Result<(), tokio_postgres::Error> {
        let statement = self.client.prepare_typed(&query.text(&self.table), query.types()).await?;
        self.prepared.insert(query, statement);
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
