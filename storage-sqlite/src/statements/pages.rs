//! Listing: pages by key, each one short visit to a reader.

use rusqlite::{
    Result as DriverResult, Row, ToSql,
    types::{ToSqlOutput, Value, ValueRef},
};
use serde::{Deserialize, Serialize};
use storage_core::{Cursor, Error, Filter, Glob, Json, Record, Result, Scan, ScanPage, check_key};

use crate::{
    error::Answer,
    statements::entries::{View, expiry_of, json, time},
};

/// Where a page ends, so that memory is bounded and nobody waits long for a reader.
const PAGE_BYTES: usize = 1024 * 1024;
/// The most rows that a page looks at.
pub(crate) const PAGE_ROWS: usize = 4_096;

pub(crate) const KEYS: &str =
    "SELECT key, expires_at FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key";
pub(crate) const ENTRIES: &str =
    "SELECT key, expires_at, value FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key";

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Text(String),
    /// A row of somebody else's may hold a key that is not UTF-8.
    Bytes(Vec<u8>),
}

impl Place {
    /// Where a cursor leads to, or else the beginning of a listing.
    pub(crate) fn of(after: Option<&Cursor>, start: &str) -> Result<Self> {
        after.map_or_else(|| Ok(Self::Text(start.to_owned())), Cursor::place)
    }

    /// After `key`: no text lies between it and itself with a NUL.
    pub(crate) fn after(key: &[u8]) -> Self {
        let next = [key, &[0]].concat();
        String::from_utf8(next).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }
}

/// Binds as a text, without a copy.
impl ToSql for Place {
    fn to_sql(&self) -> DriverResult<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        })))
    }
}

/// What all matching keys are less than. Every text is less than the empty blob.
pub(crate) fn upper_bound(glob: &Glob) -> Value {
    let bound = match glob.exact() {
        Some(key) => Some(format!("{key}\0")),
        None => glob.upper_bound(),
    };
    bound.map_or_else(|| Value::Blob(Vec::new()), Value::Text)
}

/// Reads one page. Fields are looked at here, on the reader's thread, rather than with `json_extract`: of two members of
/// one name SQLite takes the first, and it takes texts that are corrupt here, so it would hide entries.
pub(crate) fn read_page(
    view: &View<'_>,
    scan: &Scan,
    from: &Place,
    limit: usize,
) -> Answer<ScanPage<Record>> {
    let mut select = view.db.prepare_cached(if scan.reads_values() { ENTRIES } else { KEYS })?;
    let upper = upper_bound(scan.glob());
    let mut rows = select.query((from, &upper))?;
    let texts = texts_asked_for(scan);
    let mut items = Vec::new();
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_bytes().unwrap_or_default();
        items.extend(read_row(view, scan, &texts, key, row)?);
        seen += 1;
        bytes += key.len();
        if scan.reads_values() {
            bytes += row.get_ref(2)?.as_bytes().map_or(0, <[u8]>::len);
        }
        if items.len() >= limit || seen >= PAGE_ROWS || bytes >= PAGE_BYTES {
            return Ok(ScanPage::new(items, Some(Cursor::at(&Place::after(key))?)));
        }
        view.check()?;
    }
    Ok(ScanPage::new(items, None))
}

/// The record of a row, if it is there, matches and passes.
fn read_row(
    view: &View<'_>,
    scan: &Scan,
    texts: &[Json],
    key: &[u8],
    row: &Row<'_>,
) -> Answer<Option<Result<Record>>> {
    let expires_at = expiry_of(row.get_ref(1)?);
    let name = String::from_utf8_lossy(key);
    if !view.is_live(expires_at) || !scan.glob().matches(&name) {
        return Ok(None);
    }
    if std::str::from_utf8(key).is_err() || check_key(&name).is_err() {
        return Ok(Some(Err(Error::corrupt("the stored key is none that can be read").with_key(&name))));
    }
    let value = match scan.reads_values() {
        true => match json(&name, row.get_ref(2)?) {
            Ok(value) => Some(value),
            Err(error) => return Ok(Some(Err(error))),
        },
        false => None,
    };
    let misses = |value: &Json| texts.iter().any(|text| !value.as_str().contains(text.as_str()));
    if value.as_ref().is_some_and(|value| misses(value) && !has_escape(value)) {
        return Ok(None);
    }
    let expires_at = expires_at.and_then(time).filter(|_| scan.wants_expiry());
    Ok(scan.record(name.into_owned(), value, expires_at).map(Ok))
}

/// The texts that the filters ask for, as JSON spells them without escapes. A value with neither them all nor an escape
/// cannot pass, which saves decoding most of those that do not.
fn texts_asked_for(scan: &Scan) -> Vec<Json> {
    let texts = scan.filters().iter().map(Filter::equals).filter(|equals| equals.is_string());
    texts.filter_map(|text| Json::try_from(text).ok()).filter(|text| !has_escape(text)).collect()
}

fn has_escape(value: &Json) -> bool {
    value.as_str().contains('\\')
}
