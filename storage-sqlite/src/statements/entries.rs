//! The statements. Every method sees an expired entry as absent, and runs inside whatever transaction there is, so that
//! one operation is a group of one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params, types::ValueRef};
use storage_core::{Error, Expiry, HEALTH_KEY, Json, MAX_TTL, epoch_millis, epoch_seconds};

use crate::{call::Call, error::Answer};

pub(crate) const GET: &str = "SELECT expires_at, value FROM kv_store WHERE key = ?1";
/// Without a value that would take long to read.
// `octet_length` is in the row's header; `length` would read all of the text to count its characters.
pub(crate) const GET_SMALL: &str =
    "SELECT expires_at, iif(octet_length(value) <= 65536, value, NULL) FROM kv_store WHERE key = ?1";
pub(crate) const EXPIRES_AT: &str = "SELECT expires_at FROM kv_store WHERE key = ?1";
const PUT: &str = "INSERT INTO kv_store (key, value, expires_at) VALUES (?1, ?2, ?3)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
/// Does not name `expires_at`, so its index stays as it is: that saves a page of the log for almost every row.
const OVERWRITE: &str = "UPDATE kv_store SET value = ?2 WHERE key = ?1 AND expires_at IS NULL";
const REPLACE: &str = "UPDATE kv_store SET value = ?2 WHERE key = ?1";
pub(crate) const REMOVE: &str =
    "DELETE FROM kv_store WHERE key = ?1 RETURNING expires_at IS NULL OR expires_at > ?2";
pub(crate) const SET_EXPIRY: &str =
    "UPDATE kv_store SET expires_at = ?2 WHERE key = ?1 AND (expires_at IS NULL OR expires_at > ?3)";
/// The condition stands there twice: a row that was found expired may have been written since.
pub(crate) const SWEEP: &str = "DELETE FROM kv_store WHERE rowid IN
    (SELECT rowid FROM kv_store WHERE expires_at <= ?1 LIMIT ?2) AND expires_at <= ?1";

/// What is asked about a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Value,
    Expiry,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// As it is stored: its caller finds out whether it is JSON, while others are read for.
    Value(Option<Vec<u8>>),
    Expiry(Option<Expiry>),
    /// A value that takes long to read: its caller comes again, alone.
    Large,
}

/// Reads of single keys, one after the other.
pub(crate) struct Lookup<'a> {
    view: &'a View<'a>,
    value: CachedStatement<'a>,
}

impl Lookup<'_> {
    pub(crate) fn find(&mut self, asked: Asked, key: &str) -> Answer<Found> {
        match asked {
            Asked::Expiry => self.view.expiry(key).map(Found::Expiry),
            Asked::Value => self.small_value(key),
        }
    }

    /// The value, unless it would take long to read.
    fn small_value(&mut self, key: &str) -> Answer<Found> {
        let mut rows = self.value.query([key])?;
        match rows.next()? {
            Some(row) if self.view.is_live(expiry_of(row.get_ref(0)?)) => match row.get_ref(1)? {
                ValueRef::Null => Ok(Found::Large),
                ValueRef::Text(text) => Ok(Found::Value(Some(text.to_owned()))),
                _ => Err(no_text(key).into()),
            },
            _ => Ok(Found::Value(None)),
        }
    }
}

/// The database at one moment in time.
pub(crate) struct View<'a> {
    pub(crate) db: &'a Connection,
    /// The call on whose behalf longer work is done: the work ends where its caller has given up.
    pub(crate) call: Option<&'a Call>,
    pub(crate) now: SystemTime,
}

impl View<'_> {
    /// Fails where the caller has given up.
    pub(crate) fn check(&self) -> Answer<()> {
        Ok(self.call.map_or(Ok(()), Call::check)?)
    }

    /// Runs reads on one state of the file, which is also quicker than one state for each.
    pub(crate) fn at_once<T>(&self, reads: impl FnOnce() -> Answer<T>) -> Answer<T> {
        self.db.prepare_cached("BEGIN")?.execute([])?;
        let answer = reads();
        // After an error, too: nothing was written, and the snapshot has to end.
        self.db.prepare_cached("COMMIT")?.execute([])?;
        answer
    }

    /// Runs `count` reads of single keys on one state of the file.
    pub(crate) fn look_up<T>(
        &self,
        count: usize,
        reads: impl FnOnce(&mut Lookup<'_>) -> Answer<T>,
    ) -> Answer<T> {
        let mut lookup = Lookup { view: self, value: self.db.prepare_cached(GET_SMALL)? };
        // One statement is one state by itself.
        if count < 2 { reads(&mut lookup) } else { self.at_once(|| reads(&mut lookup)) }
    }

    /// The value; an error of its own where the entry is corrupt.
    pub(crate) fn value(&self, key: &str) -> Answer<Result<Option<Json>, Error>> {
        let mut get = self.db.prepare_cached(GET)?;
        let mut rows = get.query([key])?;
        match rows.next()? {
            Some(row) if self.is_live(expiry_of(row.get_ref(0)?)) => Ok(json(key, row.get_ref(1)?).map(Some)),
            _ => Ok(Ok(None)),
        }
    }

    pub(crate) fn expiry(&self, key: &str) -> Answer<Option<Expiry>> {
        // Expiries are rounded up to the millisecond, which may pass what may be set again.
        let left = |at: SystemTime| at.duration_since(self.now).unwrap_or_default().min(MAX_TTL);
        let found = self.expires_at(key)?;
        Ok(found.map(|at| at.and_then(time).map_or(Expiry::Never, |at| Expiry::After(left(at)))))
    }

    pub(crate) fn put(&self, key: &str, value: &Json, ttl_millis: Option<u64>) -> Answer<()> {
        if ttl_millis.is_none() && self.db.prepare_cached(OVERWRITE)?.execute([key, value.as_str()])? > 0 {
            return Ok(());
        }
        let mut put = self.db.prepare_cached(PUT)?;
        put.execute(params![key, value.as_str(), self.deadline(ttl_millis)])?;
        Ok(())
    }

    /// Writes the value of an entry that is there and leaves its expiry as it is.
    pub(crate) fn replace(&self, key: &str, value: &Json) -> Answer<()> {
        self.db.prepare_cached(REPLACE)?.execute([key, value.as_str()])?;
        Ok(())
    }

    /// True where there was an entry. The row of an expired one goes too: a clock put back would show it again.
    pub(crate) fn remove(&self, key: &str) -> Answer<bool> {
        let mut remove = self.db.prepare_cached(REMOVE)?;
        let was_live = remove.query_row(params![key, self.seconds()], |row| row.get(0)).optional()?;
        Ok(was_live.unwrap_or(false))
    }

    pub(crate) fn set_expiry(&self, key: &str, ttl_millis: Option<u64>) -> Answer<bool> {
        let mut set = self.db.prepare_cached(SET_EXPIRY)?;
        Ok(set.execute(params![key, self.deadline(ttl_millis), self.seconds()])? > 0)
    }

    /// Writes and removes an entry that nobody has: all that a write needs, and nothing is left of it.
    pub(crate) fn write_and_remove(&self) -> Answer<i64> {
        self.put(HEALTH_KEY, &Json::from(0), None)?;
        self.remove(HEALTH_KEY).map(i64::from)
    }

    /// Removes at most `limit` rows of expired entries.
    pub(crate) fn sweep(&self, limit: u32) -> Answer<i64> {
        let removed = self.db.prepare_cached(SWEEP)?.execute(params![self.seconds(), limit])?;
        Ok(i64::try_from(removed).unwrap_or(i64::MAX))
    }

    /// Whether an entry with this expiry is there.
    pub(crate) fn is_live(&self, expires_at: Option<f64>) -> bool {
        expires_at.is_none_or(|at| at > self.seconds())
    }

    /// The expiry of an entry that is there.
    fn expires_at(&self, key: &str) -> Answer<Option<Option<f64>>> {
        let mut select = self.db.prepare_cached(EXPIRES_AT)?;
        let found = select.query_row([key], |row| Ok(expiry_of(row.get_ref(0)?))).optional()?;
        Ok(found.filter(|at| self.is_live(*at)))
    }

    /// Now, in whole milliseconds as expiries are: rounded down, so that nothing is gone too early.
    fn seconds(&self) -> f64 {
        let since = self.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        epoch_seconds(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn deadline(&self, ttl_millis: Option<u64>) -> Option<f64> {
        ttl_millis.map(|ttl| epoch_seconds(epoch_millis(self.now).saturating_add(ttl)))
    }
}

/// What stands in `expires_at`. What is no number never expires, neither here nor in a comparison in SQL.
pub(crate) fn expiry_of(column: ValueRef<'_>) -> Option<f64> {
    match column {
        ValueRef::Real(seconds) => Some(seconds),
        #[allow(clippy::cast_precision_loss, reason = "SQLite compares the same way")]
        ValueRef::Integer(seconds) => Some(seconds as f64),
        _ => None,
    }
}

/// The time of an expiry, to the millisecond that was written.
pub(crate) fn time(seconds: f64) -> Option<SystemTime> {
    let exact = Duration::try_from_secs_f64(seconds).ok()?;
    let millis = (exact + Duration::from_micros(500)).as_millis();
    UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
}

/// The value of a row.
pub(crate) fn json(key: &str, column: ValueRef<'_>) -> Result<Json, Error> {
    match column {
        ValueRef::Text(text) => text_of(key, text.to_owned()),
        _ => Err(no_text(key)),
    }
}

/// The value that a text is.
pub(crate) fn text_of(key: &str, text: Vec<u8>) -> Result<Json, Error> {
    Json::from_stored(key, String::from_utf8(text).map_err(|_| no_text(key))?)
}

fn no_text(key: &str) -> Error {
    Error::corrupt("the stored value is not text").with_key(key)
}
