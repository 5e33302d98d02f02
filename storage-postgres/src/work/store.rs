//! The operations that callers do not share: arrays in, rows out. One key is the array of one.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use storage_core::{Entry, Error, Expiry, Json, Result, Stats, engine::all_written};
use tokio_postgres::Row;

use crate::{
    connections::executor::Executor,
    error::NAME,
    statements::{
        columns::Columns,
        query::Query,
        value::{column, millis, value},
    },
};

/// How many keys one statement reads or deletes.
const READ_CHUNK: usize = 10_000;

pub(crate) async fn get_many(mut executor: Executor, keys: Vec<String>) -> Result<Vec<Result<Option<Json>>>> {
    let mut found = HashMap::with_capacity(keys.len());
    for chunk in keys.chunks(READ_CHUNK) {
        for row in executor.query(executor.schema().get, &[&chunk]).await? {
            let key: String = column(&row, 0)?;
            let value = value(&row, 1, &key);
            found.insert(key, value);
        }
    }
    Ok(keys.iter().map(|key| found.get(key).cloned().transpose()).collect())
}

pub(crate) async fn set_many(mut executor: Executor, entries: Vec<Entry>) -> Result<()> {
    // Sorted, as all writers lock; and once each, for one upsert cannot change a row twice.
    let last: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (&*entry.key, entry)).collect();
    let (mut chunks, mut columns) = (Vec::new(), Columns::default());
    for (key, entry) in last {
        columns.push(key, &entry.value, millis(entry.ttl)?);
        if columns.is_full() {
            chunks.push(std::mem::take(&mut columns));
        }
    }
    chunks.push(columns);
    let mut written = Vec::with_capacity(chunks.len());
    for columns in chunks.iter().filter(|columns| !columns.is_empty()) {
        written.push(executor.query(Query::Set, &columns.params()).await);
        if written.last().is_some_and(Result::is_err) {
            break;
        }
    }
    all_written(written).map(drop)
}

/// How many of the keys were there and had not expired.
pub(crate) async fn delete_many(mut executor: Executor, keys: Vec<String>) -> Result<u64> {
    let mut written = Vec::with_capacity(keys.len() / READ_CHUNK + 1);
    for chunk in keys.chunks(READ_CHUNK) {
        written.push(executor.query(Query::Delete, &[&chunk]).await);
        if written.last().is_some_and(Result::is_err) {
            break;
        }
    }
    let rows = all_written(written)?.into_iter().flatten();
    rows.map(|row| column::<bool>(&row, 1).map(u64::from)).sum()
}

pub(crate) async fn increment(mut executor: Executor, key: String, by: i64, ttl: Option<i64>) -> Result<i64> {
    let rows = executor.query(Query::Increment, &[&key, &by, &ttl]).await?;
    rows.first().map(|row| column(row, 0)).transpose()?.ok_or_else(|| {
        Error::invalid_input("the value is not a 64-bit integer, or the sum does not fit one").with_key(&key)
    })
}

pub(crate) async fn ttl(mut executor: Executor, key: String) -> Result<Option<Expiry>> {
    let rows = executor.query(Query::Ttl, &[&key]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let left = column::<Option<f64>>(row, 0)?.and_then(|left| Duration::try_from_secs_f64(left).ok());
    Ok(Some(left.map_or(Expiry::Never, Expiry::After)))
}

pub(crate) async fn expire(mut executor: Executor, key: String, ttl: i64) -> Result<bool> {
    Ok(!executor.query(Query::Expire, &[&key, &ttl]).await?.is_empty())
}

pub(crate) async fn persist(mut executor: Executor, key: String) -> Result<bool> {
    Ok(!executor.query(Query::Persist, &[&key]).await?.is_empty())
}

/// What a check of the server has found.
pub(crate) struct Checked {
    pub(crate) reads: Result<()>,
    pub(crate) writes: Result<()>,
    /// How far a standby is behind.
    pub(crate) behind: Option<Duration>,
}

/// How far a standby is behind, which is also whether reads work.
pub(crate) async fn look(mut executor: Executor) -> Result<Option<Duration>> {
    behind(&executor.query(Query::Look, &[]).await?)
}

fn behind(rows: &[Row]) -> Result<Option<Duration>> {
    let behind = rows.first().map(|row| column::<Option<f64>>(row, 0)).transpose()?.flatten();
    Ok(behind.and_then(|behind| Duration::try_from_secs_f64(behind).ok()))
}

pub(crate) async fn check(mut executor: Executor) -> Result<Checked> {
    let (read, write) = executor.check().await?;
    let read = read.map_err(|failure| failure.error).and_then(|read| behind(&read.rows));
    let (reads, behind) = read.map_or_else(|error| (Err(error), None), |behind| (Ok(()), behind));
    Ok(Checked { reads, writes: write.map_err(|failure| failure.error), behind })
}

/// `size`: how many connections there are, and how many of them are idle.
pub(crate) async fn stats(mut executor: Executor, table: String, size: (u32, u32)) -> Result<Stats> {
    let rows = executor.query(Query::Stats, &[&table]).await?;
    let mut stats = Stats { backend: NAME.to_owned(), ..Stats::default() };
    if let Some(row) = rows.first() {
        stats.entries = u64::try_from(column::<i64>(row, 0)?).ok();
        stats.bytes = u64::try_from(column::<i64>(row, 1)?).ok();
        stats.details = BTreeMap::from([
            ("server_version".to_owned(), column(row, 2)?),
            ("pool_connections".to_owned(), size.0.to_string()),
            ("pool_idle".to_owned(), size.1.to_string()),
        ]);
    }
    Ok(stats)
}
