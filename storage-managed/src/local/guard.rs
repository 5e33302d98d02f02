//! What somebody else has done to the database while it was open here.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};

use super::{Local, overlay, sums_of};
use crate::{
    cache::Intent,
    error::{Error, Result},
    format::{Id, Sums},
    recover,
    wal::{self, Index, Mark},
};

impl Local {
    /// Begins a batch: writes down, durably, that it comes. False where somebody else has written since what is published;
    /// until [`allow_checkpoints`](Self::allow_checkpoints) nobody can write back the log, in either case.
    pub(crate) fn begin(&mut self, commit: Id) -> Result<bool> {
        let begun = self.block_checkpoints().and_then(|ours| match ours {
            true => self.intend(Intent::Commit(commit)).map(|()| true),
            false => Ok(false),
        });
        if begun.is_err() {
            self.allow_checkpoints();
        }
        begun
    }

    /// Keeps the log from being written back by others, and so from being begun anew. Says whether what is here is still
    /// what is published.
    pub(super) fn block_checkpoints(&mut self) -> Result<bool> {
        if self.guard.is_autocommit() {
            self.snapshot()?;
        }
        let changes = self.index()?.changes;
        if self.changes == Some(changes) {
            return Ok(true);
        }
        // What was written may be what was there.
        let (sums, end) = self.whole()?;
        let published = &mut self.state.published;
        let ours = (sums.total(), sums.page_count()) == (published.checksum, published.page_count);
        if ours {
            (published.mark, self.changes) = (end, Some(changes));
        }
        Ok(ours)
    }

    /// Takes a snapshot while nobody has SQLite's write lock: who writes back the whole log waits for snapshots under that
    /// lock, for which the batch would then wait.
    fn snapshot(&self) -> Result<()> {
        let (start, doing) = (Instant::now(), "lock the cache");
        self.db.busy_timeout(Duration::ZERO).map_err(Error::sqlite(doing))?;
        let taken = loop {
            let begun = self.guard.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema");
            let free = begun.and_then(|()| self.db.execute_batch("BEGIN IMMEDIATE; COMMIT"));
            match free {
                Err(error) => {
                    end(&self.guard);
                    let is_busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
                    if !is_busy || start.elapsed() >= self.busy {
                        break Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                free => break free,
            }
        };
        let restored = self.db.busy_timeout(self.busy);
        taken.and(restored).map_err(Error::sqlite(doing))
    }

    /// The log may be written back from now on.
    pub(crate) fn allow_checkpoints(&mut self) {
        end(&self.guard);
    }

    /// Lets SQLite read what was appended to the log, and keeps its count.
    pub(super) fn count(&mut self) -> Result<()> {
        // Whatever fails now, what was appended stands; the whole is compared before it is changed again.
        self.changes = None;
        let read = self.db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        read.map_err(Error::sqlite("read what came from the home"))?;
        let index = self.index()?;
        // Else somebody else has written since.
        self.changes = (index.frames == self.published().mark.frames).then_some(index.changes);
        Ok(())
    }

    /// What SQLite takes for committed.
    pub(super) fn index(&self) -> Result<Index> {
        Index::read(&self.files.index).map_err(Error::io("read", self.paths.index()))
    }

    /// The sums of all that is here, and the end of the log. It reads the whole database.
    fn whole(&self) -> Result<(Sums, Mark)> {
        let page_size = self.published().page_size;
        let read = || {
            let mut sums = sums_of(&self.files.database, page_size)?;
            let log = wal::committed(&self.files.log, &Mark::default(), None)?.unwrap_or_default();
            overlay(&mut sums, &self.files.log, &log, page_size)?;
            Ok((sums, log.end))
        };
        read().map_err(Error::io("read", self.paths.database()))
    }

    /// Keeps a copy of what is here under `rescue/`, and returns its folder.
    pub(crate) fn keep(&mut self) -> Result<PathBuf> {
        recover::keep(&self.paths, &self.files.database, Some(&self.files.log))
    }

    /// Takes what is here for what is to be changed: it has diverged, was kept, and goes.
    pub(crate) fn accept(&mut self) -> Result<()> {
        self.allow_checkpoints();
        // Read before the pages are: what comes later is noticed.
        self.changes = Some(self.index()?.changes);
        let (sums, end) = self.whole()?;
        (self.sums, self.state.published.mark) = (sums, end);
        Ok(())
    }

    /// Removes from the log what SQLite has written and could not commit, as a full disk can come between the last frame and
    /// the index of the log: whoever reads the log would take it for committed.
    pub(crate) fn discard_failed(&self) -> Result<()> {
        let index = self.index()?;
        let cut = || {
            let log = &self.files.log;
            let found = wal::committed(log, &self.published().mark, None)?.unwrap_or_default();
            match found.page_count {
                Some(_) if found.end.frames > index.frames => {
                    wal::cut(log, index.frames, self.published().page_size)
                }
                _ => Ok(()),
            }
        };
        cut().map_err(Error::io("cut", self.paths.log()))
    }
}

/// Ends a read, which cannot fail in a way that matters.
fn end(db: &Connection) {
    if !db.is_autocommit() {
        let _ = db.execute_batch("COMMIT");
    }
}
