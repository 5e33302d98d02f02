//! The operations that callers do not share: arrays in, rows out. One key is the array of one.

use std::{collections::HashMap, time::Duration};

use storage_core::{Batch, BatchOperation, Entry, Error, Expiry, Json, Result, optional_ttl_millis};
use tokio::time::Instant;
use tokio_postgres::Row;

use crate::{
    kinds::Write,
    pool::Pool,
    session::Param,
    sql::Query,
    value::{Jsonb, Stored},
};

/// How many keys one statement reads or deletes.
const READ_CHUNK: usize = 10_000;
/// How many entries, and about how many bytes of them, one statement writes.
const WRITE_CHUNK: usize = 1_000;
const WRITE_CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// A time to live that ended long ago: how a deletion is written in one statement with the writes.
const LONG_EXPIRED: i64 = -1_000_000_000_000_000;

/// Rows to write, as the columns that the server takes; sorted by key and each key once, so that two writers never wait
/// for each other.
#[derive(Default)]
pub(crate) struct Columns<'a> {
    keys: Vec<&'a str>,
    values: Vec<Jsonb<'a>>,
    ttls: Vec<Option<i64>>,
    bytes: usize,
}

impl<'a> Columns<'a> {
    fn push(&mut self, key: &'a str, value: &'a Json, ttl: Option<i64>) {
        self.bytes += key.len() + value.len();
        self.keys.push(key);
        self.values.push(Jsonb(value));
        self.ttls.push(ttl);
    }

    pub(crate) fn of(writes: &[&'a Write]) -> Self {
        let mut columns = Self::default();
        for write in writes {
            columns.push(&write.key, &write.value, write.ttl);
        }
        columns
    }

    pub(crate) fn params(&self) -> [Param<'_>; 3] {
        [&self.keys, &self.values, &self.ttls]
    }

    fn is_full(&self) -> bool {
        self.keys.len() >= WRITE_CHUNK || self.bytes >= WRITE_CHUNK_BYTES
    }
}

/// A row's column; an answer of another shape means that the table is not ours.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|_| Error::corrupt("the server's answer has another shape than expected"))
}

/// A row's value, checked; `Corrupt` naming the key.
pub(crate) fn value(row: &Row, at: usize, key: &str) -> Result<Json> {
    let Stored(text) = column(row, at).map_err(|error| error.with_key(key))?;
    Json::from_stored(key, text.to_owned())
}

impl Pool {
    pub(crate) async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<Json>>>> {
        let deadline = self.deadline();
        let mut found = HashMap::with_capacity(keys.len());
        for chunk in keys.chunks(READ_CHUNK) {
            for row in self.query(deadline, self.get, &[&chunk]).await? {
                let key: String = column(&row, 0)?;
                let value = value(&row, 1, &key);
                found.insert(key, value);
            }
        }
        Ok(keys.iter().map(|key| found.get(*key).cloned().transpose()).collect())
    }

    pub(crate) async fn set_many(&self, entries: &[Entry]) -> Result<()> {
        let deadline = self.deadline();
        let last: std::collections::BTreeMap<&str, &Entry> =
            entries.iter().map(|entry| (&*entry.key, entry)).collect();
        let mut columns = Columns::default();
        for (key, entry) in last {
            columns.push(key, &entry.value, millis(entry.ttl)?);
            if columns.is_full() {
                self.upsert(deadline, &std::mem::take(&mut columns)).await?;
            }
        }
        if columns.keys.is_empty() { Ok(()) } else { self.upsert(deadline, &columns).await }
    }

    async fn upsert(&self, deadline: Instant, columns: &Columns<'_>) -> Result<()> {
        self.query(deadline, Query::Set, &columns.params()).await.map(drop)
    }

    /// How many of the keys were there and had not expired.
    pub(crate) async fn delete(&self, keys: &[&str]) -> Result<u64> {
        let deadline = self.deadline();
        let mut deleted = 0;
        for chunk in keys.chunks(READ_CHUNK) {
            for row in self.query(deadline, Query::Delete, &[&chunk]).await? {
                deleted += u64::from(column::<bool>(&row, 1)?);
            }
        }
        Ok(deleted)
    }

    /// One upsert in which what is deleted is written as expired, so that all locks are taken in the order of the keys;
    /// then those rows are removed, in the same transaction.
    pub(crate) async fn apply(&self, batch: &Batch) -> Result<()> {
        let null = Json::parse("null")?;
        let mut columns = Columns::default();
        let mut deleted = Vec::new();
        for (key, operation) in batch.last_per_key() {
            match operation {
                BatchOperation::Set(entry) => columns.push(key, &entry.value, millis(entry.ttl)?),
                _ => {
                    columns.push(key, &null, Some(LONG_EXPIRED));
                    deleted.push(key);
                }
            }
        }
        if deleted.is_empty() {
            return if columns.keys.is_empty() {
                Ok(())
            } else {
                self.upsert(self.deadline(), &columns).await
            };
        }
        self.set_and_purge(&columns.params(), &[&deleted]).await
    }

    pub(crate) async fn increment(&self, key: &str, by: i64, ttl: Option<i64>) -> Result<i64> {
        let rows = self.query(self.deadline(), Query::Increment, &[&key, &by, &ttl]).await?;
        rows.first().map(|row| column(row, 0)).transpose()?.ok_or_else(|| {
            Error::invalid_input("the value is not a 64-bit integer, or the sum does not fit one")
                .with_key(key)
        })
    }

    pub(crate) async fn ttl(&self, key: &str) -> Result<Option<Expiry>> {
        let rows = self.query(self.deadline(), Query::Ttl, &[&key]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let left = column::<Option<f64>>(row, 0)?.and_then(|left| Duration::try_from_secs_f64(left).ok());
        Ok(Some(left.map_or(Expiry::Never, Expiry::After)))
    }

    pub(crate) async fn expire(&self, key: &str, ttl: i64) -> Result<bool> {
        Ok(!self.query(self.deadline(), Query::Expire, &[&key, &ttl]).await?.is_empty())
    }

    pub(crate) async fn persist(&self, key: &str) -> Result<bool> {
        Ok(!self.query(self.deadline(), Query::Persist, &[&key]).await?.is_empty())
    }

    /// Removes up to `batch` expired rows, and as much of partitions that are gone; returns how many.
    pub(crate) async fn sweep(&self, deadline: Instant, batch: u32) -> Result<u64> {
        let rows = self.query(deadline, Query::Sweep, &[&i64::from(batch)]).await?;
        let removed = rows.first().map(|row| column::<i64>(row, 0)).transpose()?;
        let removed = removed.and_then(|removed| u64::try_from(removed).ok()).unwrap_or_default();
        Ok(removed + self.sweep_partitions(deadline, batch).await?)
    }
}

/// A time to live as the server takes it; checked before, and far below the limit of the type.
pub(crate) fn millis(ttl: Option<Duration>) -> Result<Option<i64>> {
    Ok(optional_ttl_millis(ttl)?.map(signed))
}

pub(crate) fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
