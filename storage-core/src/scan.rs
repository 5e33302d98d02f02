//! Listing: what to list, and what comes back.

use std::time::SystemTime;

use serde_json::Value;

use crate::{Error, Glob, Json, Result, json::same_value};

/// What a [`scan_page`](crate::StorageBackend::scan_page) and a [`scan`](crate::StorageExt::scan) list.
///
/// ```
/// use storage_core::Scan;
///
/// // The active deals with their values, filtered in the store where it can.
/// let scan = Scan::entries("deal:*")?.filter("status", "active");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Scan {
    glob: Glob,
    values: bool,
    expiry: bool,
    filters: Vec<Filter>,
}

impl Scan {
    /// The keys that match a pattern, without values.
    ///
    /// # Errors
    /// `InvalidInput` where the pattern is none, see [`Glob::new`].
    pub fn keys(pattern: &str) -> Result<Self> {
        Ok(Self { glob: Glob::new(pattern)?, values: false, expiry: false, filters: Vec::new() })
    }

    /// The entries whose keys match a pattern, with their values.
    ///
    /// # Errors
    /// As [`keys`](Self::keys).
    pub fn entries(pattern: &str) -> Result<Self> {
        Ok(Self { values: true, ..Self::keys(pattern)? })
    }

    /// Asks for the expiry of each entry too; on Redis this costs a command for each.
    #[must_use]
    pub fn with_expiry(mut self) -> Self {
        self.expiry = true;
        self
    }

    /// Keeps only the entries whose field at `path` (names joined by `.`) equals `equals`. Several must all hold.
    /// A scan of keys alone filters as well.
    #[must_use]
    pub fn filter(mut self, path: &str, equals: impl Into<Value>) -> Self {
        self.filters.push(Filter::new(path, equals));
        self
    }

    /// The pattern.
    #[must_use]
    pub fn glob(&self) -> &Glob {
        &self.glob
    }

    /// Whether records carry values.
    #[must_use]
    pub fn wants_values(&self) -> bool {
        self.values
    }

    /// Whether records carry expiries.
    #[must_use]
    pub fn wants_expiry(&self) -> bool {
        self.expiry
    }

    /// The field filters.
    #[must_use]
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// Whether the value is needed at all: to be returned or to be filtered by.
    #[must_use]
    pub fn reads_values(&self) -> bool {
        self.values || !self.filters.is_empty()
    }

    /// Whether a value passes every filter. A store may narrow a scan by itself; this decides.
    #[must_use]
    pub fn accepts(&self, value: &Json) -> bool {
        if self.filters.is_empty() {
            return true;
        }
        value.decode::<Value>().is_ok_and(|value| self.filters.iter().all(|filter| filter.accepts(&value)))
    }

    /// The record of an entry that matched by key, or `None` where a filter turns it away: the last step of every
    /// backend's scan.
    #[must_use]
    pub fn record(&self, key: String, value: Option<Json>, expires_at: Option<SystemTime>) -> Option<Record> {
        if value.as_ref().is_some_and(|value| !self.accepts(value)) {
            return None;
        }
        Some(Record { key, value: value.filter(|_| self.values), expires_at })
    }
}

/// One field that must equal one value. An entry without the field, or whose value is no object, does not match.
#[derive(Clone)]
pub struct Filter {
    path: Vec<String>,
    equals: Value,
}

impl Filter {
    /// The field at `path`, names joined by `.`, must equal `equals`; numbers compare by value, not by spelling.
    pub fn new(path: &str, equals: impl Into<Value>) -> Self {
        Self { path: path.split('.').map(str::to_owned).collect(), equals: equals.into() }
    }

    /// The names on the way to the field.
    #[must_use]
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// What the field must equal.
    #[must_use]
    pub fn equals(&self) -> &Value {
        &self.equals
    }

    /// The path, where each name is plain (`A-Z a-z 0-9 _`, not empty) and can stand in a store's own path language.
    #[must_use]
    pub fn plain_path(&self) -> Option<&[String]> {
        let plain =
            |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        self.path.iter().all(plain).then_some(&*self.path)
    }

    /// Whether a value passes.
    #[must_use]
    pub fn accepts(&self, value: &Value) -> bool {
        let field = self.path.iter().try_fold(value, |value, name| value.as_object()?.get(name));
        field.is_some_and(|field| same_value(field, &self.equals))
    }
}

/// Without the compared value: values never appear in logs.
impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One entry of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The key.
    pub key: String,
    /// The value, where the scan asked for values.
    pub value: Option<Json>,
    /// When the entry expires, where it does and the scan asked for expiries.
    pub expires_at: Option<SystemTime>,
}

/// The entries of a listing, and the errors of those that could not be read.
///
/// One corrupt entry never hides the others: what could be read is in [`entries`](Self::entries), and each that could
/// not is an error naming its key in [`corrupt`](Self::corrupt). It reads like a slice of the entries.
#[derive(Debug)]
pub struct Listing<T> {
    /// What could be read, in byte order of the keys.
    pub entries: Vec<T>,
    /// One [`Corrupt`](crate::ErrorKind::Corrupt) error for each entry that could not.
    pub corrupt: Vec<Error>,
}

impl<T> Listing<T> {
    /// The entries, or the first corrupt one as an error: for callers to whom a partial listing is worthless.
    ///
    /// # Errors
    /// `Corrupt` naming the first entry that could not be read.
    pub fn all(self) -> Result<Vec<T>> {
        match self.corrupt.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(self.entries),
        }
    }
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), corrupt: Vec::new() }
    }
}

impl<T> std::ops::Deref for Listing<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.entries
    }
}

impl<T> IntoIterator for Listing<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_compare_by_value_and_walk_objects_alone() {
        let value = json!({"status": "active", "n": 1e2, "product": {"product_id": "p-1"}, "tags": ["a"]});
        for (path, equals, expected) in [
            ("status", json!("active"), true),
            ("status", json!("Active"), false),
            ("n", json!(100), true),
            ("n", json!("100"), false),
            ("product.product_id", json!("p-1"), true),
            ("tags.0", json!("a"), false),
            ("missing", json!(null), false),
        ] {
            assert_eq!(Filter::new(path, equals).accepts(&value), expected, "{path}");
        }
    }

    #[test]
    fn a_scan_of_keys_filters_but_carries_no_value() {
        let scan = Scan::keys("*").unwrap().filter("status", "active");
        let value = Json::parse(r#"{"status":"active"}"#).unwrap();
        assert!(scan.reads_values());
        assert_eq!(scan.record("k".into(), Some(value), None).unwrap().value, None);
        assert_eq!(scan.record("k".into(), Some(Json::parse("1").unwrap()), None), None);
    }
}
