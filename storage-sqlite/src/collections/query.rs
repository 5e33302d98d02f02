//! Reads of items: one state of the partition, and no more rows than are returned and the one that tells that there are
//! more.

use rusqlite::{OptionalExtension, Row, params};
use storage_core::{Item, MAX_PAGE_BYTES, Order, Page, Query};

use super::{
    item::{readable, time, unsigned, upper},
    partition::{Stored, millis},
};
use crate::{
    error::Answer,
    statements::entries::{View, json},
};

/// A longer body is read by itself, and only where its item is returned.
const SMALL_BODY: i64 = 64 * 1024;

/// The columns of an item, with its body where that has at most so many bytes.
macro_rules! columns {
    ($most:literal) => {
        concat!(
            "SELECT i.id, i.sort, i.attributes, i.version, i.written_at_ms, octet_length(i.body), ",
            "iif(octet_length(i.body) <= ",
            $most,
            ", i.body, NULL) "
        )
    };
}
// CROSS JOIN: SQLite keeps the order of the tables, so that the items are found by the partition.
macro_rules! range {
    ($order:literal) => {
        concat!(
            columns!("?5"),
            "FROM storage_partition p CROSS JOIN storage_item i ON i.partition = p.id
            WHERE p.name = ?1 AND (p.expires_at_ms IS NULL OR p.expires_at_ms > ?2)
                AND i.sort >= ?3 AND i.sort < ?4 ORDER BY i.sort ",
            $order
        )
    };
}
pub(super) const ASCENDING: &str = range!("ASC");
pub(super) const DESCENDING: &str = range!("DESC");
pub(super) const ITEM: &str =
    concat!(columns!("?3"), "FROM storage_item i WHERE i.partition = ?1 AND i.sort = ?2");
pub(super) const BODY: &str = "SELECT body FROM storage_item WHERE id = ?1";

/// An item, and where its body is if it is not with it.
pub(super) struct Found {
    id: i64,
    item: Item,
    body_left_out: bool,
}

/// A page of items.
pub(super) fn page(view: &View<'_>, query: &Query) -> Answer<Page> {
    let sql = match query.order {
        Order::Ascending => ASCENDING,
        Order::Descending => DESCENDING,
    };
    let mut select = view.db.prepare_cached(sql)?;
    let most = if query.bodies { SMALL_BODY } else { -1 };
    let name = query.partition.as_str();
    // The open cursor keeps the bodies that are read meanwhile in the same state of the file.
    let mut rows = select.query(params![name, millis(view), query.from, upper(query.to.as_deref()), most])?;
    let (mut page, mut bytes) = (Page::default(), 0_u64);
    while let Some(row) = rows.next()? {
        if page.items.len() == query.limit {
            page.more = true;
            break;
        }
        let found = read(row, name)?;
        let body_bytes = if query.bodies { found.item.body_bytes } else { 0 };
        bytes = bytes.saturating_add(body_bytes).saturating_add(found.item.attributes.len() as u64);
        if bytes > MAX_PAGE_BYTES as u64 && !page.items.is_empty() {
            page.more = true;
            break;
        }
        page.items.push(if query.bodies { found.with_body(view)? } else { found.item });
        view.check()?;
    }
    Ok(page)
}

/// The items at several sort keys.
pub(super) fn items(view: &View<'_>, name: &str, sorts: &[String]) -> Answer<Vec<Option<Item>>> {
    view.at_once(|| {
        let Some(stored) = Stored::find_live(view, name)? else { return Ok(vec![None; sorts.len()]) };
        let mut select = view.db.prepare_cached(ITEM)?;
        let each = sorts.iter().map(|sort| {
            view.check()?;
            let found = select.query_row(params![stored.id, sort, SMALL_BODY], |row| Ok(read(row, name)));
            found.optional()?.transpose()?.map(|found| found.with_body(view)).transpose()
        });
        each.collect()
    })
}

pub(super) fn read(row: &Row<'_>, partition: &str) -> Answer<Found> {
    let sort: String = readable(partition, row.get(1))?;
    let attributes = json(&sort, row.get_ref(2)?)
        .map_err(|error| error.with_hint(format!("it is an item of the partition `{partition}`")))?;
    let numbers = || Ok((unsigned(row, 3)?, time(unsigned(row, 4)?), unsigned(row, 5)?));
    let (version, written_at, body_bytes) = readable(&sort, numbers())?;
    let body: Option<Vec<u8>> = readable(&sort, row.get(6))?;
    let body_left_out = body.is_none();
    let body = body.unwrap_or_default().into();
    let item = Item { sort, attributes, body, body_bytes, version, written_at };
    Ok(Found { id: readable(partition, row.get(0))?, item, body_left_out })
}

impl Found {
    /// The item without a body that was left out.
    pub(super) fn without_body(self) -> Item {
        self.item
    }

    fn with_body(mut self, view: &View<'_>) -> Answer<Item> {
        if self.body_left_out {
            let mut select = view.db.prepare_cached(BODY)?;
            let body: Vec<u8> = readable(&self.item.sort, select.query_row([self.id], |row| row.get(0)))?;
            self.item.body = body.into();
        }
        Ok(self.item)
    }
}
