//! The statements on the items of one partition. Each costs what it changes, not what the partition has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{
    Error as DriverError, OptionalExtension, Row, params,
    types::{ToSqlOutput, ValueRef},
};
use storage_core::{Error, Json, SearchText};

use super::text;
use crate::{
    error::Answer,
    statements::entries::{View, json},
};

pub(super) const FIND: &str = "SELECT id, version, octet_length(attributes) + octet_length(body)
    FROM storage_item WHERE partition = ?1 AND sort = ?2";
pub(super) const TAGGED: &str = "SELECT sort FROM storage_item WHERE partition = ?1 AND tag = ?2";
pub(super) const ATTRIBUTES: &str = "SELECT attributes FROM storage_item WHERE id = ?1";
pub(super) const INSERT: &str =
    "INSERT INTO storage_item (partition, sort, version, written_at_ms, tag, attributes, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const REPLACE: &str = "UPDATE storage_item
    SET version = ?2, written_at_ms = ?3, tag = ?4, attributes = ?5, body = ?6 WHERE id = ?1";
pub(super) const REPLACE_ATTRIBUTES: &str =
    "UPDATE storage_item SET version = ?2, written_at_ms = ?3, tag = NULL, attributes = ?4 WHERE id = ?1";
pub(super) const REMOVE: &str = "DELETE FROM storage_item WHERE id = ?1";
pub(super) const MEASURE: &str = "SELECT count(*),
        coalesce(sum(octet_length(sort) + octet_length(attributes) + octet_length(body)), 0)
    FROM storage_item WHERE partition = ?1 AND sort >= ?2 AND sort < ?3";
pub(super) const REMOVE_RANGE: &str =
    "DELETE FROM storage_item WHERE partition = ?1 AND sort >= ?2 AND sort < ?3";
pub(super) const FROM_START: &str = "SELECT sort, version, written_at_ms,
        octet_length(sort) + octet_length(attributes) + octet_length(body)
    FROM storage_item WHERE partition = ?1 ORDER BY sort";

/// The items of a partition, to be changed.
pub(super) struct Items<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) partition: i64,
}

/// An item that is there.
pub(super) struct Slot {
    pub(super) id: i64,
    pub(super) version: u64,
    /// Of attributes and body.
    pub(super) bytes: u64,
}

/// What is written about an item.
pub(super) struct Content<'a> {
    pub(super) version: u64,
    pub(super) written_at_ms: u64,
    pub(super) tag: Option<&'a str>,
    pub(super) attributes: &'a Json,
    pub(super) body: &'a [u8],
    pub(super) search: Option<&'a SearchText>,
}

impl Items<'_> {
    pub(super) fn find(&self, sort: &str) -> Answer<Option<Slot>> {
        let mut find = self.view.db.prepare_cached(FIND)?;
        let slot = |row: &Row<'_>| {
            Ok(Slot { id: row.get(0)?, version: unsigned(row, 1)?, bytes: unsigned(row, 2)? })
        };
        readable(sort, find.query_row(params![self.partition, sort], slot).optional())
    }

    /// The sort key of the item with a tag.
    pub(super) fn tagged(&self, tag: &str) -> Answer<Option<String>> {
        let mut find = self.view.db.prepare_cached(TAGGED)?;
        readable(tag, find.query_row(params![self.partition, tag], |row| row.get(0)).optional())
    }

    pub(super) fn attributes(&self, sort: &str, slot: &Slot) -> Answer<Json> {
        let mut select = self.view.db.prepare_cached(ATTRIBUTES)?;
        Ok(select.query_row([slot.id], |row| Ok(json(sort, row.get_ref(0)?)))??)
    }

    pub(super) fn insert(&self, sort: &str, content: &Content<'_>) -> Answer<()> {
        let Content { version, written_at_ms, tag, attributes, body, search } = content;
        self.view.db.prepare_cached(INSERT)?.execute(params![
            self.partition,
            sort,
            version.cast_signed(),
            written_at_ms.cast_signed(),
            tag,
            attributes.as_str(),
            body
        ])?;
        search.map_or(Ok(()), |search| text::insert(self.view, self.view.db.last_insert_rowid(), search))
    }

    pub(super) fn replace(&self, slot: &Slot, content: &Content<'_>) -> Answer<()> {
        let Content { version, written_at_ms, tag, attributes, body, search } = content;
        self.view.db.prepare_cached(REPLACE)?.execute(params![
            slot.id,
            version.cast_signed(),
            written_at_ms.cast_signed(),
            tag,
            attributes.as_str(),
            body
        ])?;
        text::replace(self.view, slot.id, *search)
    }

    /// Leaves the body as it is.
    pub(super) fn replace_attributes(
        &self,
        slot: &Slot,
        version: u64,
        written_at_ms: u64,
        attributes: &Json,
    ) -> Answer<()> {
        let mut replace = self.view.db.prepare_cached(REPLACE_ATTRIBUTES)?;
        replace.execute(params![
            slot.id,
            version.cast_signed(),
            written_at_ms.cast_signed(),
            attributes.as_str()
        ])?;
        text::replace(self.view, slot.id, None)
    }

    pub(super) fn remove(&self, id: i64) -> Answer<()> {
        self.view.db.prepare_cached(REMOVE)?.execute([id])?;
        Ok(())
    }

    /// Removes the items from a sort key to before another; says how many there were, and their bytes.
    pub(super) fn remove_range(&self, from: &str, to: Option<&str>) -> Answer<(u64, u64)> {
        let range = params![self.partition, from, upper(to)];
        // Before they go: a DELETE tells how many rows there were, but not their bytes.
        let mut measure = self.view.db.prepare_cached(MEASURE)?;
        let removed = measure.query_row(range, |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?;
        if removed.0 > 0 {
            self.view.db.prepare_cached(REMOVE_RANGE)?.execute(range)?;
        }
        Ok(removed)
    }

    /// The sort key of the first item, seen from the beginning, that `goes` lets stay; `goes` is asked with the time and
    /// the bytes of each.
    pub(super) fn first_to_stay(
        &self,
        mut goes: impl FnMut(u64, SystemTime, u64) -> bool,
    ) -> Answer<Option<String>> {
        let mut select = self.view.db.prepare_cached(FROM_START)?;
        let mut rows = select.query([self.partition])?;
        while let Some(row) = rows.next()? {
            if !goes(unsigned(row, 1)?, time(unsigned(row, 2)?), unsigned(row, 3)?) {
                return Ok(Some(row.get(0)?));
            }
            self.view.check()?;
        }
        Ok(None)
    }
}

/// What all sort keys of a range are less than. Every text is less than the empty blob.
pub(super) fn upper(to: Option<&str>) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(to.map_or(ValueRef::Blob(&[]), |to| ValueRef::Text(to.as_bytes())))
}

/// A number that is written as unsigned.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, DriverError> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

pub(super) fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// A row whose columns are not of the types that were written is corrupt.
pub(super) fn readable<T>(name: &str, read: Result<T, DriverError>) -> Answer<T> {
    read.map_err(|error| match error {
        DriverError::InvalidColumnType(..)
        | DriverError::FromSqlConversionFailure(..)
        | DriverError::IntegralValueOutOfRange(..) => {
            Error::corrupt("the stored row is not as it was written").with_key(name).into()
        }
        error => error.into(),
    })
}
