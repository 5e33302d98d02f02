//! Listing: SCAN over every primary, a page at a time.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::future::join;
use storage_core::{
    Clock, Glob, Json, Record, Result, Scan, SystemClock, check_key, engine::Deadline, escape_glob,
};

use super::operations::Connected;
use crate::{
    connections::{lane::Request, node::Load},
    error::{Access, Failure, unexpected},
    statements::{answer::Answer, command::cmd, reply},
    url::Address,
};

/// How many entries of the database the server looks at for one page.
const PAGE: usize = 1_000;
/// How much of values one read is meant to bring, and how many keys it names at most.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
const CHUNK_KEYS: usize = 512;
const FIRST_CHUNK_KEYS: usize = 16;

/// Where a listing stands. Between two steps it holds no connection.
pub(crate) struct Walk {
    scan: Scan,
    /// What SCAN matches: a wider net than the pattern, which decides.
    pattern: String,
    places: VecDeque<Place>,
    seen: Seen,
    /// Found, and not read yet.
    keys: Vec<String>,
    /// How many keys the next read of values names.
    chunk: usize,
    /// The pattern is one key, and whether it is there is still to be asked.
    unproven: bool,
}

/// Where SCAN stands on one node.
pub(crate) struct Place {
    address: Address,
    /// 0 at the start, and again at the end.
    pub(crate) cursor: u64,
}

impl Walk {
    pub(crate) fn new(connected: &Connected, scan: Scan) -> Self {
        let pattern =
            format!("{}{}*", escape_glob(&connected.namespace), escape_glob(scan.glob().literal_prefix()));
        let mut walk = Self {
            pattern,
            places: VecDeque::new(),
            seen: Seen::default(),
            keys: Vec::new(),
            chunk: FIRST_CHUNK_KEYS,
            unproven: false,
            scan,
        };
        match walk.scan.glob().exact().map(str::to_owned) {
            Some(key) => {
                walk.unproven = true;
                walk.keys.extend(check_key(&key).is_ok().then_some(key));
            }
            None => {
                let nodes = connected.router.nodes();
                walk.places = nodes.iter().map(|node| Place::start_of(node.address())).collect();
            }
        }
        walk
    }

    /// The next records; `None` at the end. May be empty before it.
    pub(crate) async fn step(
        &mut self,
        connected: &Connected,
        deadline: Deadline,
    ) -> Result<Option<Vec<Result<Record>>>> {
        if self.keys.is_empty() {
            let Some(place) = self.places.front_mut() else { return Ok(None) };
            let found = place.page(connected, &self.pattern, "string", deadline).await?;
            if place.cursor == 0 {
                self.places.pop_front();
            }
            let glob = self.scan.glob();
            let matching = found.into_iter().filter_map(|key| own_key(&key, &connected.namespace, glob));
            self.keys = matching.filter(|key| self.seen.is_new(key)).collect();
        }
        let take = if self.scan.reads_values() { self.chunk } else { PAGE };
        let keys = self.keys.split_off(self.keys.len().saturating_sub(take));
        self.records(connected, keys, deadline).await.map(Some)
    }

    async fn records(
        &mut self,
        connected: &Connected,
        keys: Vec<String>,
        deadline: Deadline,
    ) -> Result<Vec<Result<Record>>> {
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (values, expiries) =
            join(self.values(connected, &names, deadline), self.expiries(connected, &names, deadline)).await;
        let (values, expiries) = (values?, expiries?);
        self.adapt(&values);
        let found = keys.into_iter().zip(values).zip(expiries);
        let records = found.filter_map(|((key, value), expiry)| match (value, expiry) {
            (Err(error), _) => Some(Err(error)),
            // Gone since its key was found.
            (Ok(Found::Nothing), _) | (_, Found::Nothing) => None,
            (Ok(value), expiry) => self.scan.record(key, value.known(), expiry.known()).map(Ok),
        });
        Ok(records.collect())
    }

    async fn values(
        &self,
        connected: &Connected,
        names: &[&str],
        deadline: Deadline,
    ) -> Result<Vec<Result<Found<Json>>>> {
        if self.scan.reads_values() {
            let values = connected.read_listed(names, deadline).await?;
            return Ok(values
                .into_iter()
                .map(|value| Ok(value?.map_or(Found::Nothing, Found::Known)))
                .collect());
        }
        if !self.unproven {
            return Ok(names.iter().map(|_| Ok(Found::Unasked)).collect());
        }
        let types = connected.about_each("TYPE", names, Access::Read, deadline).await;
        let texts = types.into_iter().map(|answer| match reply::text(answer?)?.as_str() {
            "string" => Ok(Ok(Found::Unasked)),
            _ => Ok(Ok(Found::Nothing)),
        });
        texts.collect()
    }

    async fn expiries(
        &self,
        connected: &Connected,
        names: &[&str],
        deadline: Deadline,
    ) -> Result<Vec<Found<SystemTime>>> {
        if !self.scan.wants_expiry() {
            return Ok(names.iter().map(|_| Found::Unasked).collect());
        }
        let answers = connected.about_each("PTTL", names, Access::Read, deadline).await;
        let now = SystemClock.now();
        let expiries = answers.into_iter().map(|answer| match reply::integer(answer?)? {
            -1 => Ok(Found::Unasked),
            left => Ok(u64::try_from(left)
                .map_or(Found::Nothing, |millis| Found::Known(now + Duration::from_millis(millis)))),
        });
        expiries.collect()
    }

    /// Makes the next read as large as the last one says that it may be, growing by steps.
    fn adapt(&mut self, values: &[Result<Found<Json>>]) {
        let size = |value: &Result<Found<Json>>| match value {
            Ok(Found::Known(value)) => value.len(),
            _ => 0,
        };
        let bytes: usize = values.iter().map(size).sum();
        let average = (bytes / values.len().max(1)).max(1);
        self.chunk = (CHUNK_BYTES / average).clamp(1, CHUNK_KEYS).min(self.chunk.saturating_mul(4));
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

impl Place {
    pub(crate) fn start_of(address: &Address) -> Self {
        Self { address: address.clone(), cursor: 0 }
    }

    /// The keys of a Redis type in the next page.
    pub(crate) async fn page(
        &mut self,
        connected: &Connected,
        pattern: &str,
        kind: &str,
        deadline: Deadline,
    ) -> Result<Vec<Bytes>> {
        let node = connected.router.node_at(&self.address);
        let command = cmd("SCAN").number(self.cursor).arg("MATCH").arg(pattern).arg("COUNT").number(PAGE);
        let request = Request::One(command.arg("TYPE").arg(kind));
        let mut answer = node.call(request.clone(), Load::Bulk, deadline).await;
        if let Err(Failure::Lost) = answer {
            answer = node.call(request, Load::Bulk, deadline).await;
        }
        let answer = reply::array(answer.map_err(|failure| failure.into_error(Access::Read))?)?;
        let Ok([cursor, keys]) = <[Answer; 2]>::try_from(answer) else { return Err(unexpected()) };
        self.cursor = reply::text(cursor)?.parse().map_err(|_| unexpected())?;
        reply::array(keys)?.into_iter().map(reply::bytes).collect()
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

/// The keys that have come already: SCAN may name a key twice.
///
/// Of each key it keeps 128 bits of hash, about 36 bytes with the table's free places, whatever the key's length. In
/// parts, so that never more than one part is copied when it grows.
pub(crate) struct Seen {
    parts: Vec<HashSet<u128>>,
    hashers: [RandomState; 2],
}

impl Default for Seen {
    fn default() -> Self {
        Self { parts: vec![HashSet::new(); 64], hashers: [RandomState::new(), RandomState::new()] }
    }
}

impl Seen {
    pub(crate) fn is_new(&mut self, key: &str) -> bool {
        let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(key));
        let parts = self.parts.len().max(1) as u64;
        let part = usize::try_from(low % parts).ok().and_then(|index| self.parts.get_mut(index));
        part.is_some_and(|part| part.insert(u128::from(high) << 64 | u128::from(low)))
    }
}
