//! The rows of partitions: found, kept, listed, ended; and what ended ones leave behind.

use std::time::UNIX_EPOCH;

use rusqlite::{Error as DriverError, OptionalExtension, Row, params};
use storage_core::{Cursor, Error, Partition, PartitionInfo, Result, ScanPage};

use super::item::{Items, readable, time, unsigned};
use crate::{
    error::Answer,
    statements::{entries::View, pages::Place},
};

pub(super) const FIND: &str = "SELECT id, version, sequence, items, bytes, updated_at_ms, expires_at_ms
    FROM storage_partition WHERE name = ?1";
pub(super) const LIST: &str = "SELECT id, version, sequence, items, bytes, updated_at_ms, expires_at_ms, name
    FROM storage_partition WHERE name >= ?1 AND name < ?2 ORDER BY name";
const INSERT: &str = "INSERT INTO storage_partition (name, version, sequence, items, bytes, updated_at_ms)
    VALUES (?1, 0, 0, 0, 0, 0)";
pub(super) const UPDATE: &str = "UPDATE storage_partition
    SET version = ?2, sequence = ?3, items = ?4, bytes = ?5, updated_at_ms = ?6 WHERE id = ?1";
/// Apart from the other columns, so that most commits leave its index alone.
pub(super) const SET_EXPIRY: &str = "UPDATE storage_partition SET expires_at_ms = ?2 WHERE id = ?1";
/// What has ended has no name and has expired ever since.
pub(super) const END: &str = "UPDATE storage_partition SET name = NULL, expires_at_ms = 0 WHERE id = ?1";
pub(super) const ENDED: &str = "SELECT id FROM storage_partition WHERE expires_at_ms <= ?1 LIMIT 1";
pub(super) const REMOVE: &str = "DELETE FROM storage_partition WHERE id = ?1";
pub(super) const LEFT_BEHIND: &str =
    "SELECT id, octet_length(body) FROM storage_item WHERE partition = ?1 LIMIT ?2";

/// How many partitions a page of a listing looks at, at most.
const LISTED: usize = 256;
/// How many bytes a sweep removes at once, so that other writers get in between.
const SWEPT_BYTES: u64 = 16 * 1024 * 1024;

/// A partition's row.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) version: u64,
    pub(super) sequence: u64,
    pub(super) items: u64,
    pub(super) bytes: u64,
    updated_at_ms: u64,
    pub(super) expires_at_ms: Option<i64>,
}

/// Now, in whole milliseconds as expiries are: rounded down, so that nothing is gone too early.
pub(super) fn millis(view: &View<'_>) -> i64 {
    let since = view.now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Stored {
    fn read(row: &Row<'_>) -> Result<Self, DriverError> {
        Ok(Self {
            id: row.get(0)?,
            version: unsigned(row, 1)?,
            sequence: unsigned(row, 2)?,
            items: unsigned(row, 3)?,
            bytes: unsigned(row, 4)?,
            updated_at_ms: unsigned(row, 5)?,
            expires_at_ms: row.get(6)?,
        })
    }

    /// The row of a name; it may have expired.
    pub(super) fn find(view: &View<'_>, name: &str) -> Answer<Option<Self>> {
        let mut find = view.db.prepare_cached(FIND)?;
        readable(name, find.query_row([name], Self::read).optional())
    }

    pub(super) fn find_live(view: &View<'_>, name: &str) -> Answer<Option<Self>> {
        Ok(Self::find(view, name)?.filter(|stored| stored.is_live(view)))
    }

    /// A row for a name that has none.
    pub(super) fn begin(view: &View<'_>, name: &str) -> Answer<Self> {
        view.db.prepare_cached(INSERT)?.execute([name])?;
        let id = view.db.last_insert_rowid();
        Ok(Self { id, version: 0, sequence: 0, items: 0, bytes: 0, updated_at_ms: 0, expires_at_ms: None })
    }

    pub(super) fn is_live(&self, view: &View<'_>) -> bool {
        self.expires_at_ms.is_none_or(|at| at > millis(view))
    }

    /// Writes what a commit has changed, the expiry aside.
    pub(super) fn save(&self, view: &View<'_>, updated_at_ms: u64) -> Answer<()> {
        view.db.prepare_cached(UPDATE)?.execute(params![
            self.id,
            self.version.cast_signed(),
            self.sequence.cast_signed(),
            self.items.cast_signed(),
            self.bytes.cast_signed(),
            updated_at_ms.cast_signed()
        ])?;
        Ok(())
    }

    pub(super) fn set_expiry(&self, view: &View<'_>, expires_at_ms: Option<u64>) -> Answer<()> {
        let expires_at_ms = expires_at_ms.map(u64::cast_signed);
        view.db.prepare_cached(SET_EXPIRY)?.execute(params![self.id, expires_at_ms])?;
        Ok(())
    }

    pub(super) fn info(&self, partition: Partition) -> PartitionInfo {
        let mut info = PartitionInfo::new(partition, self.version, time(self.updated_at_ms));
        info.sequence = self.sequence;
        info.items = self.items;
        info.bytes = self.bytes;
        info.expires_at = self.expires_at_ms.map(|at| time(at.unsigned_abs()));
        info
    }
}

/// Lets a partition end: its name is free for another at once.
pub(super) fn end(view: &View<'_>, id: i64) -> Answer<()> {
    view.db.prepare_cached(END)?.execute([id])?;
    Ok(())
}

/// True where there was one. An expired one loses its name too.
pub(super) fn delete(view: &View<'_>, name: &str) -> Answer<bool> {
    let Some(stored) = Stored::find(view, name)? else { return Ok(false) };
    end(view, stored.id)?;
    Ok(stored.is_live(view))
}

/// The partitions whose names are in a range.
pub(super) fn list(view: &View<'_>, from: &Place, to: &str, limit: usize) -> Answer<ScanPage<PartitionInfo>> {
    let mut select = view.db.prepare_cached(LIST)?;
    let mut rows = select.query(params![from, to])?;
    let (mut found, mut seen, limit) = (Vec::new(), 0, limit.min(LISTED));
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(7)?.as_bytes().unwrap_or_default();
        found.extend(read_info(view, row, bytes).transpose());
        seen += 1;
        if seen == limit {
            return Ok(ScanPage::new(found, Some(Cursor::at(&Place::after(bytes))?)));
        }
        view.check()?;
    }
    Ok(ScanPage::new(found, None))
}

/// What a row says of a partition that is there.
fn read_info(view: &View<'_>, row: &Row<'_>, name: &[u8]) -> Result<Option<PartitionInfo>> {
    let text = String::from_utf8_lossy(name);
    let stored = readable(&text, Stored::read(row))?;
    if !stored.is_live(view) {
        return Ok(None);
    }
    match std::str::from_utf8(name).map(Partition::from_text) {
        Ok(Ok(partition)) => Ok(Some(stored.info(partition))),
        _ => Err(Error::corrupt("the stored name is none that can be read").with_key(&text)),
    }
}

/// Removes items of partitions that have expired or were deleted, and the rows of those that have none left: at most
/// `limit` rows and about [`SWEPT_BYTES`]. Says how many rows.
pub(crate) fn sweep(view: &View<'_>, limit: i64) -> Answer<i64> {
    let (mut removed, mut bytes) = (0, 0);
    while removed < limit && bytes < SWEPT_BYTES {
        let mut find = view.db.prepare_cached(ENDED)?;
        let Some(id) = find.query_row([millis(view)], |row| row.get(0)).optional()? else { break };
        // Even where the clock is put back: what is half removed is not there any more.
        end(view, id)?;
        let items = Items { view, partition: id };
        let doomed = left_behind(&items, limit - removed, &mut bytes)?;
        for item in &doomed.ids {
            items.remove(*item)?;
            removed += 1;
        }
        if doomed.all {
            view.db.prepare_cached(REMOVE)?.execute([id])?;
            removed += 1;
        }
        view.check()?;
    }
    Ok(removed)
}

/// Items to be removed.
struct Doomed {
    ids: Vec<i64>,
    all: bool,
}

fn left_behind(items: &Items<'_>, limit: i64, bytes: &mut u64) -> Answer<Doomed> {
    let mut select = items.view.db.prepare_cached(LEFT_BEHIND)?;
    let mut rows = select.query([items.partition, limit])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(row.get(0)?);
        *bytes = bytes.saturating_add(unsigned(row, 1)?);
        if *bytes >= SWEPT_BYTES {
            return Ok(Doomed { ids, all: false });
        }
    }
    let all = i64::try_from(ids.len()).is_ok_and(|count| count < limit);
    Ok(Doomed { ids, all })
}
