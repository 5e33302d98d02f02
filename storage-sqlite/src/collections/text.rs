//! What items are found by: FTS5 beside them, under their row ids.

use rusqlite::{CachedStatement, params};
use storage_core::SearchText;

use crate::{error::Answer, statements::entries::View};

const INSERT: &str = "INSERT INTO storage_text (rowid, words, labels) VALUES (?1, ?2, ?3)";
/// How many pages of the index one step merges: a mebibyte with the usual pages.
const MERGED_PAGES: i64 = 256;
const MERGE: &str = "INSERT INTO storage_text (storage_text, rank) VALUES ('merge', ?1)";
const HAS_DELETED: &str = "SELECT EXISTS (SELECT 1 FROM storage_meta WHERE name = 'search_deleted')";
const SET_DELETED: &str = "INSERT OR IGNORE INTO storage_meta (name, version) VALUES ('search_deleted', 1)";
const CLEAR_DELETED: &str = "DELETE FROM storage_meta WHERE name = 'search_deleted'";
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
    if let Some(mut remove) = prepare(view, REMOVE)?
        && remove.execute([id])? > 0
    {
        view.db.prepare_cached(SET_DELETED)?.execute([])?;
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

/// Removes from the index what it still has of texts that are gone, a part of it; says whether there is more to do.
pub(crate) fn merge(view: &View<'_>) -> Answer<bool> {
    let Some(mut merge) = prepare(view, MERGE)? else { return Ok(false) };
    if !view.db.prepare_cached(HAS_DELETED)?.query_row([], |row| row.get::<_, bool>(0))? {
        return Ok(false);
    }
    let before = view.db.total_changes();
    // Less than zero: all segments into one, which leaves out what is gone.
    merge.execute([-MERGED_PAGES])?;
    // As FTS5 documents it: who has changed less had nothing to merge.
    let is_done = view.db.total_changes() - before < 2;
    if is_done {
        view.db.prepare_cached(CLEAR_DELETED)?.execute([])?;
    }
    Ok(!is_done)
}
