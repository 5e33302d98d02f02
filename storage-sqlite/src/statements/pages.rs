//! Listing: pages by key, each one short visit to a reader.

use rusqlite::{
    Result as DriverResult, Row, ToSql,
    types::{ToSqlOutput, Value, ValueRef},
};
use storage_core::{Error, Filter, Glob, Json, Record, Result, Scan, check_key};

use crate::{
    error::Answer,
    statements::entries::{View, expiry_of, json, time},
};

/// Where a page ends, so that memory is bounded and nobody waits long for a reader.
const PAGE_BYTES: usize = 1024 * 1024;
/// The most rows that a page looks at. The first pages are shorter: many a caller wants no more.
pub(crate) const PAGE_ROWS: usize = 4_096;
pub(crate) const FIRST_PAGE_ROWS: usize = 256;

pub(crate) const KEYS: &str =
    "SELECT key, expires_at FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key";
pub(crate) const ENTRIES: &str =
    "SELECT key, expires_at, value FROM kv_store WHERE key >= ?1 AND key < ?2 ORDER BY key";

/// Some entries of a scan, and where to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Result<Record>>,
    pub(crate) next: Option<Cursor>,
}

/// Where a page begins, and how many rows it may look at.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Bytes, since a row of somebody else's may hold a key that is not UTF-8.
    from: Vec<u8>,
    rows: usize,
}

impl Cursor {
    pub(crate) fn start(glob: &Glob, rows: usize) -> Self {
        Self { from: glob.literal_prefix().into(), rows }
    }

    /// After `key`: no text lies between it and itself with a NUL.
    fn after(&self, key: &[u8]) -> Self {
        let mut from = Vec::with_capacity(key.len() + 1);
        from.extend_from_slice(key);
        from.push(0);
        Self { from, rows: self.rows.saturating_mul(4).min(PAGE_ROWS) }
    }
}

/// Binds bytes as a text, without a copy.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> DriverResult<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
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
pub(crate) fn read_page(view: &View<'_>, scan: &Scan, cursor: &Cursor) -> Answer<Page> {
    let mut select = view.db.prepare_cached(if scan.reads_values() { ENTRIES } else { KEYS })?;
    let upper = upper_bound(scan.glob());
    let mut rows = select.query((Text(&cursor.from), &upper))?;
    let texts = texts_asked_for(scan);
    let mut records = Vec::new();
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_bytes().unwrap_or_default();
        records.extend(read_row(view, scan, &texts, key, row)?);
        seen += 1;
        bytes += key.len();
        if scan.reads_values() {
            bytes += row.get_ref(2)?.as_bytes().map_or(0, <[u8]>::len);
        }
        if seen >= cursor.rows || bytes >= PAGE_BYTES {
            return Ok(Page { records, next: Some(cursor.after(key)) });
        }
        view.check()?;
    }
    Ok(Page { records, next: None })
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
