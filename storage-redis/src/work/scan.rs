//! Listing: SCAN over every primary, a page at a time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join;
use serde::{Deserialize, Serialize};
use storage_core::{
    Clock, Cursor, Glob, Json, Record, Result, Scan, ScanPage, SystemClock, check_key, engine::Deadline,
    escape_glob,
};

use super::{operations::Connected, walk::Place};
use crate::{
    error::Access,
    statements::{answer::Answer, reply},
};

/// How much of values one read is meant to bring, and how many keys it names at most.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
const CHUNK_KEYS: usize = 512;
const FIRST_CHUNK_KEYS: usize = 16;

/// Where a listing of entries stands: what its cursor says.
#[derive(Serialize, Deserialize)]
struct Position {
    place: Place,
    /// Found, and not returned yet.
    keys: Vec<String>,
    /// How many keys the next read of values names.
    chunk: usize,
}

/// Reads entries for a page of a listing.
struct Reader<'a> {
    connected: &'a Connected,
    scan: &'a Scan,
    deadline: Deadline,
}

/// The next entries of a listing. SCAN may name a key again.
pub(crate) async fn page(
    connected: &Connected,
    scan: &Scan,
    after: Option<&Cursor>,
    limit: usize,
    deadline: Deadline,
) -> Result<ScanPage<Record>> {
    let mut position = match after {
        Some(cursor) => cursor.place()?,
        None => Position::start(scan),
    };
    // Who brings a cursor of another listing is told nothing of that.
    position.keys.retain(|key| scan.glob().matches(key) && check_key(key).is_ok());
    if position.keys.is_empty() {
        let namespace = &connected.namespace;
        // A wider net than the pattern, which decides.
        let pattern = format!("{}{}*", escape_glob(namespace), escape_glob(scan.glob().literal_prefix()));
        let found = position.place.step(connected, &pattern, "string", limit, deadline).await?;
        position.keys = found.into_iter().filter_map(|key| own_key(&key, namespace, scan.glob())).collect();
    }
    let take = if scan.reads_values() { position.chunk.clamp(1, limit) } else { limit };
    // From the end, which moves nothing: the order in which SCAN names keys has no meaning.
    let keys = position.keys.split_off(position.keys.len().saturating_sub(take));
    let (items, bytes) = Reader { connected, scan, deadline }.records(keys).await?;
    position.adapt(bytes, items.len());
    let end = position.keys.is_empty() && position.place.is_end();
    let next = if end { None } else { Some(Cursor::at(&position)?) };
    Ok(ScanPage::new(items, next).repeatable())
}

impl Position {
    fn start(scan: &Scan) -> Self {
        let (place, keys) = match scan.glob().exact() {
            // Asked for by name: SCAN would walk the whole database for one key.
            Some(key) => (Place::End, check_key(key).is_ok().then(|| key.to_owned()).into_iter().collect()),
            None => (Place::Start, Vec::new()),
        };
        Self { place, keys, chunk: FIRST_CHUNK_KEYS }
    }

    /// Makes the next read as large as the last one says that it may be, growing by steps.
    fn adapt(&mut self, bytes: usize, values: usize) {
        let average = (bytes / values.max(1)).max(1);
        self.chunk = (CHUNK_BYTES / average).clamp(1, CHUNK_KEYS).min(self.chunk.saturating_mul(4));
    }
}

impl Reader<'_> {
    /// The records of keys, and how many bytes their values have.
    async fn records(&self, keys: Vec<String>) -> Result<(Vec<Result<Record>>, usize)> {
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (values, expiries) = join(self.values(&names), self.expiries(&names)).await;
        let (values, expiries) = (values?, expiries?);
        let bytes = values.iter().map(size).sum();
        let found = keys.into_iter().zip(values).zip(expiries);
        let records = found.filter_map(|((key, value), expiry)| match (value, expiry) {
            (Err(error), _) => Some(Err(error)),
            // Gone since its key was found.
            (Ok(Found::Nothing), _) | (_, Found::Nothing) => None,
            (Ok(value), expiry) => self.scan.record(key, value.known(), expiry.known()).map(Ok),
        });
        Ok((records.collect(), bytes))
    }

    async fn values(&self, names: &[&str]) -> Result<Vec<Result<Found<Json>>>> {
        if self.scan.reads_values() {
            let values = self.connected.read_listed(names, self.deadline).await?;
            return Ok(values
                .into_iter()
                .map(|value| Ok(value?.map_or(Found::Nothing, Found::Known)))
                .collect());
        }
        // SCAN has found the others.
        if self.scan.glob().exact().is_none() {
            return Ok(names.iter().map(|_| Ok(Found::Unasked)).collect());
        }
        let types = self.connected.about_each("TYPE", names, Access::Read, self.deadline).await;
        let texts = types.into_iter().map(|answer| match reply::text(answer?)?.as_str() {
            "string" => Ok(Ok(Found::Unasked)),
            _ => Ok(Ok(Found::Nothing)),
        });
        texts.collect()
    }

    async fn expiries(&self, names: &[&str]) -> Result<Vec<Found<SystemTime>>> {
        if !self.scan.wants_expiry() {
            return Ok(names.iter().map(|_| Found::Unasked).collect());
        }
        let answers = self.connected.about_each("PEXPIRETIME", names, Access::Read, self.deadline).await;
        // Redis 6 does not know it, and not every user may ask it.
        if answers.iter().any(|answer| matches!(answer, Ok(Answer::Error(_)))) {
            return self.expiries_by_what_is_left(names).await;
        }
        let expiries = answers.into_iter().map(|answer| expiry(reply::integer(answer?)?, UNIX_EPOCH));
        expiries.collect()
    }

    /// By the clock of this machine, and later by what the answer took.
    async fn expiries_by_what_is_left(&self, names: &[&str]) -> Result<Vec<Found<SystemTime>>> {
        let answers = self.connected.about_each("PTTL", names, Access::Read, self.deadline).await;
        let now = SystemClock.now();
        let expiries = answers.into_iter().map(|answer| expiry(reply::integer(answer?)?, now));
        expiries.collect()
    }
}

/// What Redis says of an expiry: -1 where there is none, -2 where there is no entry.
fn expiry(millis: i64, since: SystemTime) -> Result<Found<SystemTime>> {
    Ok(match (millis, u64::try_from(millis)) {
        (-1, _) => Found::Unasked,
        (_, Ok(millis)) => Found::Known(since + Duration::from_millis(millis)),
        _ => Found::Nothing,
    })
}

fn size(value: &Result<Found<Json>>) -> usize {
    match value {
        Ok(Found::Known(value)) => value.len(),
        _ => 0,
    }
}

/// What is known about a part of an entry.
enum Found<T> {
    Known(T),
    /// Not asked for, or there is none to know.
    Unasked,
    /// The entry is not there.
    Nothing,
}

impl<T> Found<T> {
    fn known(self) -> Option<T> {
        if let Self::Known(part) = self { Some(part) } else { None }
    }
}

/// The key without the namespace, where it is one of ours and matches.
fn own_key(full: &[u8], namespace: &str, glob: &Glob) -> Option<String> {
    let Ok(full) = std::str::from_utf8(full) else {
        tracing::warn!(namespace, "skipped a key that is not UTF-8: nothing of ours wrote it");
        return None;
    };
    let key = full.strip_prefix(namespace)?;
    (check_key(key).is_ok() && glob.matches(key)).then(|| key.to_owned())
}
