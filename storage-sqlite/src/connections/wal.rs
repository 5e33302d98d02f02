//! How long the WAL is, and checkpoints of it.

use std::cell::Cell;

use rusqlite::{Connection, hooks};

use crate::error::Answer;

/// Longer the WAL gets only where checkpoints beside the writer are held up; the writer then tries by itself, as SQLite would.
pub(crate) const MANY_PAGES: u32 = 256_000;

thread_local! {
    /// The pages in the WAL, as the last commit of this thread left it.
    static IN_WAL: Cell<u32> = const { Cell::new(0) };
}

/// The pages in the WAL, as the last commit of this thread left it.
pub(crate) fn pages_in_wal() -> u32 {
    IN_WAL.get()
}

/// Takes over from SQLite on the writer's connection.
pub(crate) fn watch(db: &Connection) {
    // The hook is a plain function: it can write to nothing but a thread-local, which the same thread reads.
    db.wal_hook(Some(|wal: &hooks::Wal, pages| {
        let pages = u32::try_from(pages).unwrap_or_default();
        IN_WAL.set(pages);
        if pages >= MANY_PAGES && wal.checkpoint().is_err() {
            tracing::debug!(pages, "the WAL could not be checkpointed");
        }
        // An error would be the commit's, which is done.
        Ok(())
    }));
}

/// What a checkpoint found in the WAL.
pub(crate) struct Pass {
    pub(crate) pages: u32,
    /// How many of them readers still need there.
    pub(crate) left: u32,
}

/// Copies what no reader needs in the WAL any more.
pub(crate) fn checkpoint(db: &Connection) -> Answer<Pass> {
    // PASSIVE: FULL, RESTART and TRUNCATE wait for readers, and lock out writers meanwhile.
    let (pages, copied): (i64, i64) =
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
    // Both are -1 where there is no WAL.
    let pages = u32::try_from(pages).unwrap_or_default();
    Ok(Pass { pages, left: pages.saturating_sub(u32::try_from(copied).unwrap_or_default()) })
}
