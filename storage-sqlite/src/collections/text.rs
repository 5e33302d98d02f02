//! What items are found by: FTS5 beside them, under their row ids.

use rusqlite::{CachedStatement, params};
use storage_core::SearchText;

use crate::{error::Answer, statements::entries::View};

const INSERT: &str = "INSERT INTO storage_text (rowid, words, labels) VALUES (?1, ?2, ?3)";
const REMOVE: &str = "DELETE FROM storage_text
    WHERE rowid = ?1 AND EXISTS (SELECT 1 FROM storage_text_docsize WHERE id = ?1)";

/// What a new item is found by.
pub(super) fn insert(view: &View<'_>, id: i64, text: &SearchText) -> Answer<()> {
    if let Some(mut insert) = prepare(view, INSERT)? {
        insert.execute(params![id, text.words(), text.labels().join(" ")])?;
    }
    Ok(())
}

/// What an item is found by that was there before.
pub(super) fn replace(view: &View<'_>, id: i64, text: Option<&SearchText>) -> Answer<()> {
    if let Some(mut remove) = prepare(view, REMOVE)? {
        remove.execute([id])?;
    }
    text.map_or(Ok(()), |text| insert(view, id, text))
}

/// `None` where the tables are of a release that had no search, and this program may not change them.
pub(super) fn prepare<'a>(view: &View<'a>, sql: &str) -> Answer<Option<CachedStatement<'a>>> {
    match view.db.prepare_cached(sql) {
        Err(error) if error.to_string().contains("no such table: storage_text") => Ok(None),
        prepared => Ok(Some(prepared?)),
    }
}
