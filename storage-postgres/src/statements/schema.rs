//! The table and its indexes, made on connect by whoever comes first.
//!
//! The columns are those that the Python agents read and write; they are never changed.

use std::{fmt::Display, time::Duration};

use storage_core::{Error, ErrorKind, Result, engine::Deadline};
use tokio_postgres::{Client, types::Type};

use crate::{
    config::{PostgresConfig, quote_identifier},
    error::Failure,
};

/// How long making indexes on a table that somebody else filled may take.
pub(super) const LIMIT: Duration = Duration::from_secs(600);
/// How often it is tried, where somebody else gets in between.
const TRIES: u32 = 3;
/// The lock under which schemas are made: "storage" in ASCII.
const LOCK: i64 = 0x0073_746f_7261_6765;

const FOUND: &str = "SELECT $2::text IS NULL OR EXISTS (SELECT FROM pg_namespace WHERE nspname = $2), \
    t.oid IS NOT NULL, \
    2 = (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = t.oid AND i.indisvalid AND c.relname IN ('idx_kv_expires', 'idx_kv_key_c')) \
    FROM (SELECT to_regclass($1)::oid AS oid) t";

/// What is there already.
struct Found {
    schema: bool,
    table: bool,
    indexes: bool,
}

impl Found {
    fn is_all(&self) -> bool {
        self.table && self.indexes
    }
}

/// Makes what is missing; false where our indexes cannot be made. Where all is there it costs one look, and needs no right
/// to create.
pub(crate) async fn prepare(client: &Client, config: &PostgresConfig) -> Result<bool> {
    let mut tries = 0;
    loop {
        let found = limited(config.operation_timeout, look(client, config)).await;
        let found = found.map_err(|error| may_not(error, "USAGE", config))?;
        if found.is_all() {
            return Ok(true);
        }
        if !config.create {
            return if found.table {
                Ok(without_indexes(&"they are not there"))
            } else {
                Err(missing(config))
            };
        }
        let Err(error) = limited(LIMIT, make(client, config)).await else { return Ok(true) };
        // Ends the transaction that failed.
        limited(config.operation_timeout, client.batch_execute("ROLLBACK")).await?;
        if found.table && error.kind() == ErrorKind::Unauthorized {
            return Ok(without_indexes(&error));
        }
        // A program that does not know our lock may have made the same thing at the same time.
        tries += 1;
        if tries == TRIES {
            // On a standby, whose primary made the table, reads work.
            let readable = found.table && error.kind() == ErrorKind::Unavailable && !client.is_closed();
            let error = if found.schema { may_not(error, "CREATE", config) } else { may_not_at_all(error) };
            return if readable { Ok(without_indexes(&error)) } else { Err(error) };
        }
    }
}

fn without_indexes(why: &dyn Display) -> bool {
    tracing::warn!(%why, "the indexes of kv_store cannot be made: listings and sweeps will be slow");
    false
}

fn missing(config: &PostgresConfig) -> Error {
    Error::config(format!("there is no table {}", config.table()))
        .with_hint("`storage init` makes it, or a program's connect")
}

/// Says which right is missing, where one is.
fn may_not(error: Error, right: &str, config: &PostgresConfig) -> Error {
    if error.kind() != ErrorKind::Unauthorized {
        return error;
    }
    let schema = config.schema.as_deref().unwrap_or("public");
    let instead =
        if config.schema.is_none() { ", or name a schema of its own in POSTGRES_SCHEMA" } else { "" };
    error.with_hint(format!("GRANT {right} ON SCHEMA {} TO the role{instead}", quote_identifier(schema)))
}

fn may_not_at_all(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unauthorized => error.with_hint(
            "the schema is not there: make it and GRANT USAGE, CREATE ON it TO the role, or GRANT CREATE ON DATABASE",
        ),
        _ => error,
    }
}

/// Several processes may come here at once: one makes it, the others wait, look again and find it made. They look with
/// a query because that hears of what others have made, as `IF NOT EXISTS` after a wait does not.
async fn make(client: &Client, config: &PostgresConfig) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&begin()).await?;
    let found = look(client, config).await?;
    client.batch_execute(&script(&found, config)).await
}

/// Begins a transaction under the lock.
pub(super) fn begin() -> String {
    format!(
        "BEGIN; SET LOCAL statement_timeout = '{}s'; SELECT pg_advisory_xact_lock({LOCK})",
        LIMIT.as_secs()
    )
}

async fn look(client: &Client, config: &PostgresConfig) -> Result<Found, tokio_postgres::Error> {
    let (table, schema) = (config.table(), config.schema.as_deref());
    let row = client.query_typed_one(FOUND, &[(&table, Type::TEXT), (&schema, Type::TEXT)]).await?;
    Ok(Found { schema: row.try_get(0)?, table: row.try_get(1)?, indexes: row.try_get(2)? })
}

/// What makes the missing and commits. Postgres asks for the right to create even `IF NOT EXISTS`, so what was found is
/// left out.
fn script(found: &Found, config: &PostgresConfig) -> String {
    let table = config.table();
    let mut script = String::from("SET LOCAL client_min_messages = warning; ");
    if let Some(schema) = config.schema.as_deref().filter(|_| !found.schema) {
        script += &format!("CREATE SCHEMA {}; ", quote_identifier(schema));
    }
    if !found.table {
        script += &format!(
            "CREATE TABLE {table} (key TEXT PRIMARY KEY, value JSONB NOT NULL, expires_at DOUBLE PRECISION); "
        );
    }
    if !found.indexes {
        script += &format!(
            "CREATE INDEX IF NOT EXISTS idx_kv_expires ON {table} (expires_at) WHERE expires_at IS NOT NULL; \
             CREATE INDEX IF NOT EXISTS idx_kv_key_c ON {table} (key COLLATE \"C\"); "
        );
    }
    script + "COMMIT"
}

/// What `work` answers, or `Timeout` where that takes longer.
pub(super) async fn limited<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T> {
    let deadline = Deadline::after(limit);
    match deadline.within(work).await {
        Some(answer) => answer.map_err(|error| Failure::from(error).into_error(false)),
        None => Err(deadline.error(ErrorKind::Timeout)),
    }
}
