//! The tables of collections, made on connect by whoever comes first.

use storage_core::{Error, ErrorKind, Result};
use tokio_postgres::{Client, types::Type};

use super::{
    partitions::Tables,
    schema::{LIMIT, begin, limited},
};
use crate::config::PostgresConfig;

/// The version of the tables, kept in the comment of `storage_partition`: it changes in one transaction with them, and
/// reading it needs no right on the tables.
const VERSION: i32 = 1;

/// Of the tables of collections, what may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collections {
    /// Nothing: they are not there, or the role may not use them.
    Absent,
    /// All but search: an earlier release made them, and they could not be changed yet.
    WithoutSearch,
    Whole,
}

/// `$1` and `$2` are the tables. The version is 0 where there are none. That it reads a table makes it hear of what others
/// have made.
const FOUND: &str = "SELECT CASE WHEN p.oid IS NULL OR i.oid IS NULL THEN 0 ELSE coalesce( \
         substring(obj_description(p.oid, 'pg_class') FROM 'schema ([0-9]{1,6})$')::int, 1) END, \
     coalesce(has_table_privilege(p.oid, 'DELETE') AND has_table_privilege(i.oid, 'DELETE'), false), \
     EXISTS (SELECT FROM pg_attribute WHERE attrelid = i.oid AND attname = 'words' AND NOT attisdropped) \
     FROM (SELECT to_regclass($1)::oid AS partitions, to_regclass($2)::oid AS items) t \
     LEFT JOIN pg_class p ON p.oid = t.partitions LEFT JOIN pg_class i ON i.oid = t.items";

struct Found {
    version: i32,
    usable: bool,
    search: bool,
}

impl Found {
    fn collections(&self) -> Collections {
        match (self.usable && self.version == VERSION, self.search) {
            (false, _) => Collections::Absent,
            (true, false) => Collections::WithoutSearch,
            (true, true) => Collections::Whole,
        }
    }
}

/// Makes what is missing, and says what can be used. Where all is there it costs one look, and needs no
/// right to create.
///
/// # Errors
/// `Config` where the tables were made by a later version than this one knows.
pub(crate) async fn prepare(client: &Client, config: &PostgresConfig) -> Result<Collections> {
    let tables = Tables::of(&config.table());
    let found = limited(config.operation_timeout, look(client, &tables)).await?;
    if found.version > VERSION {
        return Err(Error::config(format!(
            "the tables of collections have version {}, and {VERSION} is known here",
            found.version
        ))
        .with_hint("use a later version of the program"));
    }
    if found.version == VERSION && (found.search || !found.usable) {
        return Ok(found.collections());
    }
    if !config.create {
        tracing::debug!("the tables of collections are not there, or not whole");
        return Ok(found.collections());
    }
    let Err(error) = limited(LIMIT, make(client, &tables)).await else { return Ok(Collections::Whole) };
    // Ends the transaction that failed.
    limited(config.operation_timeout, client.batch_execute("ROLLBACK")).await?;
    match error.kind() {
        // Not the role's right, a standby, or a lock that somebody else has: what is there is served nevertheless.
        ErrorKind::Unauthorized | ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::Timeout
            if !client.is_closed() =>
        {
            tracing::warn!(%error, "the tables of collections cannot be made, or not be made whole");
            Ok(found.collections())
        }
        _ => Err(error),
    }
}

/// Several processes may come here at once: one makes it, the others wait, look again and find it made.
async fn make(client: &Client, tables: &Tables) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&begin()).await?;
    let found = look(client, tables).await?;
    let mut script = if found.version < 1 { first(tables) } else { String::new() };
    if !found.search {
        script += &search(tables, found.version > 0);
    }
    client.batch_execute(&(script + "COMMIT")).await
}

async fn look(client: &Client, tables: &Tables) -> Result<Found, tokio_postgres::Error> {
    let params = [(&tables.partitions as _, Type::TEXT), (&tables.items as _, Type::TEXT)];
    let row = client.query_typed_one(FOUND, &params).await?;
    Ok(Found { version: row.try_get(0)?, usable: row.try_get(1)?, search: row.try_get(2)? })
}

/// Version 1. A partition without a name is dead, and its items wait to be swept. Room is left in the pages of
/// partitions, whose rows change with each commit. Attributes are text: JSONB would spell them in another way.
fn first(Tables { partitions, items }: &Tables) -> String {
    format!(
        "SET LOCAL client_min_messages = warning; \
         CREATE TABLE {partitions} ( \
             id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT COLLATE \"C\" UNIQUE, \
             version BIGINT NOT NULL, sequence BIGINT NOT NULL, items BIGINT NOT NULL, bytes BIGINT NOT NULL, \
             updated_at TIMESTAMPTZ NOT NULL, expires_at TIMESTAMPTZ) WITH (fillfactor = 50); \
         CREATE INDEX idx_storage_partition_expiry ON {partitions} (expires_at) \
             WHERE expires_at IS NOT NULL AND name IS NOT NULL; \
         CREATE INDEX idx_storage_partition_dead ON {partitions} (id) WHERE name IS NULL; \
         CREATE TABLE {items} ( \
             partition BIGINT NOT NULL, sort TEXT COLLATE \"C\" NOT NULL, attributes TEXT NOT NULL, body BYTEA, \
             tag TEXT COLLATE \"C\", version BIGINT NOT NULL, written_at TIMESTAMPTZ NOT NULL, \
             PRIMARY KEY (partition, sort)); \
         CREATE UNIQUE INDEX idx_storage_item_tag ON {items} (partition, tag) WHERE tag IS NOT NULL; \
         COMMENT ON TABLE {partitions} IS 'agent storage, schema {VERSION}'; "
    )
}

/// What full-text search needs. The version stays: releases that do not know the column leave it alone.
///
/// Everybody else waits while this waits for its lock, so it does not wait long on tables that are in use; the next connect
/// tries again.
fn search(Tables { items, .. }: &Tables, in_use: bool) -> String {
    let limit = if in_use { "SET LOCAL lock_timeout = '2s'; " } else { "" };
    format!(
        "{limit}ALTER TABLE {items} ADD COLUMN words TSVECTOR; \
         CREATE INDEX idx_storage_item_words ON {items} USING gin (words) WHERE words IS NOT NULL; "
    )
}
