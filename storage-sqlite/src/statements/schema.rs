//! The tables of collections, brought up to date when a file is opened to be written.
//!
//! They stand beside `kv_store` in one file with other programs, so nothing here needs a recent SQLite to open it.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use storage_core::Error;

use crate::error::Answer;

/// Step `n` brings version `n` to `n + 1`. A step that was released is never changed.
///
/// A partition without a name has ended; its row stays until its items are gone, so that its id is not given out again.
///
/// Items are in a rowid table: in a `WITHOUT ROWID` table 10,000 bodies of 1.1 KB took 45.6 MB, here 13.7 MB, as much as
/// with the bodies in a table of their own. What is appended is together at the end of the table. The body is the last
/// column: what does not ask for it does not read the pages that hold nothing else.
const STEPS: [&str; 1] = ["
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
    CREATE UNIQUE INDEX storage_item_tag ON storage_item (partition, tag) WHERE tag IS NOT NULL;"];

const META: &str =
    "CREATE TABLE IF NOT EXISTS storage_meta (name TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL)";
const HAS_META: &str =
    "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'storage_meta'";
const VERSION: &str = "SELECT coalesce((SELECT version FROM storage_meta WHERE name = 'collections'), 0)";
const SET_VERSION: &str = "INSERT OR REPLACE INTO storage_meta (name, version) VALUES ('collections', ?1)";

/// Makes or changes the tables where they are not of this version. Whoever comes second finds it done.
pub(crate) fn bring_up_to_date(db: &Connection) -> Answer<()> {
    // Most connects find all of it, and need no lock then.
    if is_up_to_date(db)? {
        return Ok(());
    }
    let change = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let found = version(&change)?;
    if found > STEPS.len() {
        return Err(Error::config(format!("a later release made the file's collections (version {found})"))
            .with_hint("use that release, or name another file")
            .into());
    }
    change.execute_batch(META)?;
    for step in STEPS.iter().skip(found) {
        change.execute_batch(step)?;
    }
    change.execute(SET_VERSION, [STEPS.len().cast_signed()])?;
    change.commit()?;
    tracing::info!(from = found, to = STEPS.len(), "the tables of collections were brought up to date");
    Ok(())
}

/// Whether the tables are of this version.
pub(crate) fn is_up_to_date(db: &Connection) -> Answer<bool> {
    Ok(version(db)? == STEPS.len())
}

fn version(db: &Connection) -> Answer<usize> {
    if !db.query_row(HAS_META, [], |row| row.get(0))? {
        return Ok(0);
    }
    let version: i64 = db.query_row(VERSION, [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or_default())
}
