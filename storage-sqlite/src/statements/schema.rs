//! The tables of collections, brought up to date when a file is opened to be written.
//!
//! They stand beside `kv_store` in one file with other programs, so nothing here needs a recent SQLite to open it.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use storage_core::Error;

use crate::error::Answer;

/// Tables that have a version of their own. Step `n` brings version `n` to `n + 1`; a step that was released is never changed.
struct Part {
    name: &'static str,
    steps: &'static [&'static str],
}

/// Search is apart, so that releases which do not know it still open the file: the trigger works for them too.
const PARTS: [Part; 2] =
    [Part { name: "collections", steps: &[COLLECTIONS] }, Part { name: "search", steps: &[SEARCH] }];

/// A partition without a name has ended; its row stays until its items are gone, so that its id is not given out again.
///
/// Items are in a rowid table: in a `WITHOUT ROWID` table 10,000 bodies of 1.1 KB took 45.6 MB, here 13.7 MB, as much as
/// with the bodies in a table of their own. What is appended is together at the end of the table. The body is the last
/// column: what does not ask for it does not read the pages that hold nothing else.
const COLLECTIONS: &str = "
    CREATE TABLE storage_partition (
        id INTEGER PRIMARY KEY,
        name TEXT UNIQUE,
        version INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        items INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER
    );
    CREATE INDEX storage_partition_expiry ON storage_partition (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
    CREATE TABLE storage_item (
        id INTEGER PRIMARY KEY,
        partition INTEGER NOT NULL,
        sort TEXT NOT NULL,
        version INTEGER NOT NULL,
        written_at_ms INTEGER NOT NULL,
        tag TEXT,
        attributes TEXT NOT NULL,
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX storage_item_sort ON storage_item (partition, sort);
    CREATE UNIQUE INDEX storage_item_tag ON storage_item (partition, tag) WHERE tag IS NOT NULL;";

/// Texts are cut into words before they come here (`SearchText`); the tokenizer only separates them. The index keeps no copy
/// of the text. The trigger reads the table in which FTS5 has a row for each text: most items have none, and cost a look. FTS5 keeps the
/// words of a deleted text until it merges; that there are some, the row `search_deleted` says.
const SEARCH: &str = "
    CREATE VIRTUAL TABLE storage_text USING fts5 (
        words, labels, content = '', contentless_delete = 1, tokenize = 'ascii');
    INSERT INTO storage_text (storage_text, rank) VALUES ('rank', 'bm25(1.0, 0.0)');
    CREATE TRIGGER storage_item_text AFTER DELETE ON storage_item
        WHEN EXISTS (SELECT 1 FROM storage_text_docsize WHERE id = old.id)
        BEGIN
            DELETE FROM storage_text WHERE rowid = old.id;
            INSERT OR IGNORE INTO storage_meta (name, version) VALUES ('search_deleted', 1);
        END;";

const META: &str =
    "CREATE TABLE IF NOT EXISTS storage_meta (name TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL)";
const HAS_META: &str =
    "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'storage_meta'";
const VERSION: &str = "SELECT coalesce((SELECT version FROM storage_meta WHERE name = ?1), 0)";
const SET_VERSION: &str = "INSERT OR REPLACE INTO storage_meta (name, version) VALUES (?1, ?2)";

/// Makes or changes the tables where they are not of this version. Whoever comes second finds it done.
pub(crate) fn bring_up_to_date(db: &Connection) -> Answer<()> {
    // Most connects find all of it, and need no lock then.
    if is_up_to_date(db)? {
        return Ok(());
    }
    let change = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    change.execute_batch(META)?;
    for Part { name, steps } in PARTS {
        let found = version(&change, name)?;
        if found > steps.len() {
            return Err(Error::config(format!("a later release made the file's {name} (version {found})"))
                .with_hint("use that release, or name another file")
                .into());
        }
        for step in steps.iter().skip(found) {
            change.execute_batch(step)?;
        }
        change.execute(SET_VERSION, params![name, steps.len().cast_signed()])?;
        if found < steps.len() {
            tracing::info!(
                name,
                from = found,
                to = steps.len(),
                "tables of the file were brought up to date"
            );
        }
    }
    change.commit()?;
    Ok(())
}

/// Whether the tables are of this version.
pub(crate) fn is_up_to_date(db: &Connection) -> Answer<bool> {
    for Part { name, steps } in PARTS {
        if version(db, name)? != steps.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn version(db: &Connection, name: &str) -> Answer<usize> {
    if !db.query_row(HAS_META, [], |row| row.get(0))? {
        return Ok(0);
    }
    let version: i64 = db.query_row(VERSION, [name], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or_default())
}
