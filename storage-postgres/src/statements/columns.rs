//! Rows to write.

use storage_core::Json;

use super::value::{Jsonb, Param};

/// How many entries, and about how many bytes of them, one statement writes.
const WRITE_CHUNK: usize = 1_000;
const WRITE_CHUNK_BYTES: usize = 8 * 1024 * 1024;

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
    pub(crate) fn push(&mut self, key: &'a str, value: &'a Json, ttl: Option<i64>) {
        self.bytes += key.len() + value.len();
        self.keys.push(key);
        self.values.push(Jsonb(value));
        self.ttls.push(ttl);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn params(&self) -> [Param<'_>; 3] {
        [&self.keys, &self.values, &self.ttls]
    }

    /// Whether one statement should not write more.
    pub(crate) fn is_full(&self) -> bool {
        self.keys.len() >= WRITE_CHUNK || self.bytes >= WRITE_CHUNK_BYTES
    }
}
