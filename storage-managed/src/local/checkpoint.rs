//! Moving what is published from the log to the main file: most of it beside the batches, the little that came meanwhile
//! between two of them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::OwnedMutexGuard;

use super::{Local, connect};
use crate::{
    cache::Last,
    error::{Error, Result},
};

const DOING: &str = "write back the log";
/// What is left of the log between two batches, in shares of what it may grow to.
const REST: u64 = 4;

/// A checkpoint that goes as far as what was published when it began: an open read transaction keeps it from what came later,
/// which the home may not have.
#[derive(Debug)]
pub(crate) struct Moving {
    _snapshot: Connection,
    database: PathBuf,
    busy: Duration,
    _moving: OwnedMutexGuard<()>,
}

impl Moving {
    /// Moves the pages. Writers and readers go on meanwhile.
    pub(crate) fn run(self) -> Result<()> {
        let db = connect(&self.database, self.busy).map_err(Error::sqlite(DOING))?;
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).map_err(Error::sqlite(DOING))
    }
}

impl Local {
    /// What is to be moved beside the batches, where the log has grown beyond `bytes`. What is left after that is moved here,
    /// and the log begins anew; readers in the way put that off.
    pub(crate) fn checkpoint_beside(&mut self, bytes: u64) -> Result<Option<Moving>> {
        let index = self.index()?;
        let page_size = u64::from(self.published().page_size);
        if index.frames * page_size <= bytes {
            (self.checkpoints.move_from, self.checkpoints.end_from) = (0, 0);
            return Ok(None);
        }
        let Ok(moving) = Arc::clone(&self.checkpoints.moving).try_lock_owned() else { return Ok(None) };
        let again = index.frames + bytes / page_size;
        let is_little = (index.frames.saturating_sub(index.moved)) * page_size <= bytes / REST;
        let from = match is_little {
            true => &mut self.checkpoints.end_from,
            false => &mut self.checkpoints.move_from,
        };
        if index.frames < *from || self.change()?.is_some() {
            return Ok(None);
        }
        self.record_for_checkpoint()?;
        if is_little {
            let ended = self.end_log()?;
            self.checkpoints.end_from = if ended { 0 } else { again };
            return Ok(None);
        }
        self.checkpoints.move_from = again;
        let snapshot = self.pin_only()?;
        Ok(Some(Moving {
            _snapshot: snapshot,
            database: self.paths.database(),
            busy: self.busy,
            _moving: moving,
        }))
    }

    /// As [`checkpoint_beside`](Self::checkpoint_beside), all of it here.
    pub(crate) fn checkpoint(&mut self, bytes: u64) -> Result<()> {
        let frames = self.index()?.frames;
        if frames * u64::from(self.published().page_size) <= bytes || self.change()?.is_some() {
            return Ok(());
        }
        self.wait_for_checkpoint();
        self.record_for_checkpoint()?;
        self.end_log().map(drop)
    }

    /// Waits until no pages are moved beside the batches.
    pub(crate) fn wait_for_checkpoint(&self) {
        drop(self.checkpoints.moving.blocking_lock());
    }

    /// The record must not name an intent any more whose pages stand in the main file.
    fn record_for_checkpoint(&mut self) -> Result<()> {
        self.state.intent = None;
        self.state.write(&self.paths, Last::Now)
    }

    /// Moves all that is in the log, and cuts it. False where readers are in the way.
    fn end_log(&self) -> Result<bool> {
        self.db.busy_timeout(Duration::ZERO).map_err(Error::sqlite(DOING))?;
        let busy = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        self.db.busy_timeout(self.busy).map_err(Error::sqlite(DOING))?;
        match busy {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
            busy => busy.map(|busy| !busy).map_err(Error::sqlite(DOING)),
        }
    }
}
