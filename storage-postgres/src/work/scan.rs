//! Listing in pages: each continues after the last key of the one before, so no connection is held in between.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use storage_core::{Cursor, Filter, Glob, Json, Record, Result, Scan, ScanPage, from_epoch_seconds};
use tokio_postgres::Row;

use crate::{
    connections::{executor::Executor, session::Rows},
    statements::{
        query::Query,
        value::{Jsonb, Param, column, value},
    },
};

/// How many rows a page has at most, and the first one, whose rows' size is not known yet.
const MAX_ROWS: usize = 4_096;
const FIRST_ROWS: usize = 256;
/// How many bytes of rows are held at once, or one row.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Where a listing goes on, and with how many rows.
#[derive(Serialize, Deserialize)]
struct Place {
    from: String,
    rows: usize,
}

/// The next entries of a listing, `limit` at most.
pub(crate) async fn page(
    executor: &mut Executor,
    scan: &Scan,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<ScanPage<Record>> {
    let (start, before) = bounds(scan.glob());
    let start = Place { from: start, rows: FIRST_ROWS };
    let Place { from, rows: most } = after.map_or(Ok(start), Cursor::place)?;
    // Of what the filters turn away a page may look at more.
    let most = if scan.filters().is_empty() { most.min(limit) } else { most };
    // Clamped: a cursor comes from outside.
    let read = read(executor, scan, &from, &before, most.clamp(1, MAX_ROWS)).await?;
    let (mut items, mut bytes, mut seen) = (Vec::with_capacity(read.rows.len().min(limit)), 0, 0);
    for row in &read.rows {
        if items.len() >= limit {
            break;
        }
        (bytes, seen) = (bytes + row.raw_size_bytes(), seen + 1);
        items.extend(item(scan, row)?);
    }
    let Some(last) = read.rows.get(..seen).and_then(<[Row]>::last) else {
        return Ok(ScanPage::new(items, None));
    };
    if read.complete && seen == read.rows.len() && seen < most {
        return Ok(ScanPage::new(items, None));
    }
    // Half a page, so that rows of somewhat different size still fit.
    let rows = (PAGE_BYTES / 2 * seen / bytes.max(1)).clamp(1, MAX_ROWS);
    let next = Place { from: next_to(column(last, 0)?), rows };
    Ok(ScanPage::new(items, Some(Cursor::at(&next)?)))
}

async fn read(executor: &mut Executor, scan: &Scan, from: &str, before: &str, rows: usize) -> Result<Rows> {
    let limit = i64::try_from(rows).unwrap_or(i64::MAX);
    let contained = contained(scan.filters());
    let contained = contained.as_ref().map(Jsonb);
    let read = if scan.reads_values() {
        let params: [Param<'_>; 4] = [&from, &before, &limit, &contained];
        executor.read(Query::Entries, &params, PAGE_BYTES).await
    } else {
        executor.read(Query::Keys, &[&from, &before, &limit], PAGE_BYTES).await
    };
    read.map_err(|failure| failure.into_error(false))
}

/// The item of a row, where the pattern and the filters let it pass.
fn item(scan: &Scan, row: &Row) -> Result<Option<Result<Record>>> {
    let key: &str = column(row, 0)?;
    if !scan.glob().matches(key) {
        return Ok(None);
    }
    let expires_at = if scan.wants_expiry() { expiry(row)? } else { None };
    let read = scan.reads_values().then(|| value(row, 2, key)).transpose();
    Ok(match read {
        Ok(value) => scan.record(key.to_owned(), value, expires_at).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

/// All keys of a listing.
pub(crate) async fn keys(mut executor: Executor, scan: Scan) -> Result<Vec<String>> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = page(&mut executor, &scan, after.as_ref(), MAX_ROWS).await?;
        for item in page.items {
            keys.push(item?.key);
        }
        after = page.next;
        if after.is_none() {
            return Ok(keys);
        }
    }
}

fn expiry(row: &Row) -> Result<Option<SystemTime>> {
    Ok(column::<Option<f64>>(row, 1)?.and_then(from_epoch_seconds))
}

/// The first key that may match, and the first one after all that may.
fn bounds(glob: &Glob) -> (String, String) {
    let before = match glob.exact() {
        Some(key) => next_to(key),
        // No key of 1,024 bytes comes after this.
        None => glob.upper_bound().unwrap_or_else(|| "\u{10ffff}".repeat(257)),
    };
    (glob.literal_prefix().to_owned(), before)
}

/// The least text after `key`: no text holds a NUL.
fn next_to(key: &str) -> String {
    format!("{key}\u{1}")
}

/// An object that every value which passes the filters contains. Numbers are left out: JSONB tells some apart that are
/// equal here.
fn contained(filters: &[Filter]) -> Option<Json> {
    let mut object = Map::new();
    for filter in filters {
        if let (Some(path), Value::String(_) | Value::Bool(_) | Value::Null) =
            (filter.plain_path(), filter.equals())
        {
            insert(&mut object, path, filter.equals());
        }
    }
    if object.is_empty() { None } else { Json::from_serialize(&object).ok() }
}

/// Puts a field where it goes, unless another filter has already said something else about the place.
fn insert(object: &mut Map<String, Value>, path: &[String], equals: &Value) {
    let Some((name, rest)) = path.split_first() else { return };
    let empty = || if rest.is_empty() { equals.clone() } else { Value::Object(Map::new()) };
    let place = object.entry(name).or_insert_with(empty);
    if let (Value::Object(inner), false) = (place, rest.is_empty()) {
        insert(inner, rest, equals);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_merge_into_one_object_without_numbers() {
        let filters = [
            Filter::new("status", "active"),
            Filter::new("product.id", "p-1"),
            Filter::new("product.live", true),
            Filter::new("n", 5),
            Filter::new("status", "other"),
            Filter::new("status.deep", "no"),
            Filter::new("a b", "not plain"),
        ];
        let expected = json!({"status": "active", "product": {"id": "p-1", "live": true}});
        assert_eq!(contained(&filters).unwrap(), Json::from_serialize(&expected).unwrap());
        assert_eq!(contained(&[Filter::new("n", 5)]), None);
        assert_eq!(contained(&[Filter::new("s", "a\0")]), None);
    }

    #[test]
    fn bounds_hold_every_match() {
        let bounds = |pattern: &str| bounds(&Glob::new(pattern).unwrap());
        assert_eq!(bounds("deal:*"), ("deal:".into(), "deal;".into()));
        assert_eq!(bounds("deal:1"), ("deal:1".into(), "deal:1\u{1}".into()));
        let (from, before) = bounds("*");
        assert_eq!(from, "");
        assert!("\u{10ffff}".repeat(256) < before);
    }
}
