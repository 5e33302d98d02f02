//! The operations that callers share, each with its statement over arrays.

use std::sync::atomic::{AtomicUsize, Ordering};

use storage_core::{Error, ErrorKind, Json};
use tokio_postgres::Row;

use super::groups::{Kind, Outcome};
use crate::{
    connections::executor::Executor,
    error::Failure,
    statements::{
        columns::Columns,
        query::Query,
        value::{Jsonb, column, value},
    },
};

/// How often a value whose spelling differs from the expected one is compared again.
const SWAP_TRIES: u32 = 8;

/// `get`, by key.
#[derive(Default)]
pub(crate) struct Gets {
    /// How large the values of late were: what is to come can only be guessed, and a group is bounded in bytes.
    expected_bytes: AtomicUsize,
}

/// `exists`, by key.
pub(crate) struct Exists;

/// `delete`, by key.
pub(crate) struct Deletes;

/// `set`.
pub(crate) struct Sets;

/// `compare_and_set` of what is expected to be absent.
pub(crate) struct Creates;

/// `compare_and_set` of a value.
pub(crate) struct Swaps;

/// An entry to write.
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) value: Json,
    pub(crate) ttl: Option<i64>,
}

/// A value to replace, or to delete.
pub(crate) struct Swap {
    pub(crate) key: String,
    pub(crate) expected: Json,
    pub(crate) new: Option<Json>,
    pub(crate) ttl: Option<i64>,
}

impl Kind for Gets {
    type Item = String;
    type Answer = Option<Json>;
    const WRITES: bool = false;

    fn key(key: &String) -> &str {
        key
    }

    fn weight(&self, key: &String) -> usize {
        key.len() + self.expected_bytes.load(Ordering::Relaxed)
    }

    async fn send(
        &self,
        executor: &mut Executor,
        keys: &[&String],
    ) -> Result<Vec<Outcome<Option<Json>>>, Failure> {
        let rows = executor.rows(executor.schema().get, &[&keys]).await?;
        let bytes: usize = rows.iter().map(Row::raw_size_bytes).sum();
        // Falls slowly: one group of small values says little about the next.
        let fading = self.expected_bytes.load(Ordering::Relaxed) / 8 * 7;
        self.expected_bytes.store((bytes / keys.len().max(1)).max(fading), Ordering::Relaxed);
        let mut found: Vec<_> = keys.iter().map(|_| Ok(None)).collect();
        for row in &rows {
            let key: &str = column(row, 0)?;
            if let Some(found) = place(keys, key).and_then(|place| found.get_mut(place)) {
                *found = value(row, 1, key).map(Some).map_err(Failure::from);
            }
        }
        Ok(found)
    }

    fn implied(_: &String, found: &Option<Json>, _: &String) -> Option<Outcome<Option<Json>>> {
        Some(Ok(found.clone()))
    }
}

impl Kind for Exists {
    type Item = String;
    type Answer = bool;
    const WRITES: bool = false;

    fn key(key: &String) -> &str {
        key
    }

    fn weight(&self, key: &String) -> usize {
        key.len()
    }

    async fn send(&self, executor: &mut Executor, keys: &[&String]) -> Result<Vec<Outcome<bool>>, Failure> {
        let rows = executor.rows(Query::Exists, &[&keys]).await?;
        marked(keys, &rows, |_| Ok(true))
    }

    fn implied(_: &String, found: &bool, _: &String) -> Option<Outcome<bool>> {
        Some(Ok(*found))
    }
}

impl Kind for Deletes {
    type Item = String;
    type Answer = bool;
    const WRITES: bool = true;

    fn key(key: &String) -> &str {
        key
    }

    fn weight(&self, key: &String) -> usize {
        key.len()
    }

    async fn send(&self, executor: &mut Executor, keys: &[&String]) -> Result<Vec<Outcome<bool>>, Failure> {
        let rows = executor.rows(Query::Delete, &[&keys]).await?;
        marked(keys, &rows, |row| Ok(column(row, 1)?))
    }

    /// It is gone now.
    fn implied(_: &String, _: &bool, _: &String) -> Option<Outcome<bool>> {
        Some(Ok(false))
    }
}

impl Kind for Sets {
    type Item = Write;
    type Answer = ();
    const WRITES: bool = true;
    const LAST_COUNTS: bool = true;

    fn key(write: &Write) -> &str {
        &write.key
    }

    fn weight(&self, write: &Write) -> usize {
        write.key.len() + write.value.len()
    }

    async fn send(&self, executor: &mut Executor, writes: &[&Write]) -> Result<Vec<Outcome<()>>, Failure> {
        if let [write] = writes {
            let value = Jsonb(&write.value);
            executor.rows(Query::SetOne, &[&write.key, &value, &write.ttl]).await?;
        } else {
            let columns = columns(writes);
            executor.rows(Query::Set, &columns.params()).await?;
        }
        Ok(writes.iter().map(|_| Ok(())).collect())
    }

    /// Written first, and overwritten at once.
    fn implied(_: &Write, (): &(), _: &Write) -> Option<Outcome<()>> {
        Some(Ok(()))
    }
}

impl Kind for Creates {
    type Item = Write;
    type Answer = bool;
    const WRITES: bool = true;

    fn key(write: &Write) -> &str {
        &write.key
    }

    fn weight(&self, write: &Write) -> usize {
        write.key.len() + write.value.len()
    }

    async fn send(&self, executor: &mut Executor, writes: &[&Write]) -> Result<Vec<Outcome<bool>>, Failure> {
        let columns = columns(writes);
        let rows = executor.rows(Query::Create, &columns.params()).await?;
        let keys: Vec<&String> = writes.iter().map(|write| &write.key).collect();
        marked(&keys, &rows, |_| Ok(true))
    }

    /// Whether or not the other made it, it is there now.
    fn implied(_: &Write, _: &bool, _: &Write) -> Option<Outcome<bool>> {
        Some(Ok(false))
    }
}

impl Kind for Swaps {
    type Item = Swap;
    type Answer = bool;
    const WRITES: bool = true;

    fn key(swap: &Swap) -> &str {
        &swap.key
    }

    fn weight(&self, swap: &Swap) -> usize {
        swap.key.len() + swap.expected.len() + swap.new.as_ref().map_or(0, Json::len)
    }

    async fn send(&self, executor: &mut Executor, swaps: &[&Swap]) -> Result<Vec<Outcome<bool>>, Failure> {
        let expected: Vec<&Json> = swaps.iter().map(|swap| &swap.expected).collect();
        let found = swap(executor, swaps, &expected).await?;
        let mut outcomes = Vec::with_capacity(swaps.len());
        for (own, found) in swaps.iter().zip(found) {
            outcomes.push(match found {
                // JSONB tells numbers apart that are one 64-bit float.
                Found::Other(found) if found == own.expected => respelled(executor, own, found).await,
                found => Ok(found == Found::Expected),
            });
        }
        Ok(outcomes)
    }

    fn implied(sent: &Swap, swapped: &bool, other: &Swap) -> Option<Outcome<bool>> {
        let refuted = match swapped {
            true => sent.new.as_ref() != Some(&other.expected),
            false => sent.expected == other.expected,
        };
        refuted.then_some(Ok(false))
    }
}

fn columns<'w>(writes: &[&'w Write]) -> Columns<'w> {
    let mut columns = Columns::default();
    for write in writes {
        columns.push(&write.key, &write.value, write.ttl);
    }
    columns
}

/// What stood where a value was expected.
#[derive(PartialEq)]
enum Found {
    Expected,
    Other(Json),
    /// No entry, or one that cannot be read.
    Nothing,
}

async fn swap(executor: &mut Executor, swaps: &[&Swap], expected: &[&Json]) -> Result<Vec<Found>, Failure> {
    let keys: Vec<&String> = swaps.iter().map(|swap| &swap.key).collect();
    let old: Vec<Jsonb<'_>> = expected.iter().map(|value| Jsonb(value)).collect();
    let new: Vec<Option<Jsonb<'_>>> = swaps.iter().map(|swap| swap.new.as_ref().map(Jsonb)).collect();
    let ttls: Vec<Option<i64>> = swaps.iter().map(|swap| swap.ttl).collect();
    let rows = executor.rows(Query::Swap, &[&keys, &old, &new, &ttls]).await?;
    let mut found: Vec<Found> = swaps.iter().map(|_| Found::Nothing).collect();
    for row in &rows {
        let key: &str = column(row, 0)?;
        if let Some(found) = place(&keys, key).and_then(|place| found.get_mut(place)) {
            *found = match column(row, 1)? {
                true => Found::Expected,
                false => value(row, 2, key).map_or(Found::Nothing, Found::Other),
            };
        }
    }
    Ok(found)
}

/// Expects what is there, in its own spelling, for as long as that means what the caller expects.
async fn respelled(executor: &mut Executor, own: &Swap, mut spelled: Json) -> Outcome<bool> {
    for _ in 0..SWAP_TRIES {
        match swap(executor, &[own], &[&spelled]).await?.pop() {
            Some(Found::Expected) => return Ok(true),
            Some(Found::Other(found)) if found == own.expected => spelled = found,
            _ => return Ok(false),
        }
    }
    Err(Error::new(ErrorKind::Conflict, "others write the entry all the time").into())
}

/// Where a key stands among those that were sent.
fn place(keys: &[&String], key: &str) -> Option<usize> {
    keys.binary_search_by(|sent| sent.as_str().cmp(key)).ok()
}

/// For each key what its row says, and false without a row.
fn marked(
    keys: &[&String],
    rows: &[Row],
    says: impl Fn(&Row) -> Result<bool, Failure>,
) -> Result<Vec<Outcome<bool>>, Failure> {
    let mut marks = vec![false; keys.len()];
    for row in rows {
        if let Some(mark) = place(keys, column(row, 0)?).and_then(|place| marks.get_mut(place)) {
            *mark = says(row)?;
        }
    }
    Ok(marks.into_iter().map(Ok).collect())
}
