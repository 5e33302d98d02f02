//! Checkpoints beside the writer.
//!
//! By itself SQLite lets the writer run a checkpoint after a commit, and everybody who waits for the writer waits for
//! thousands of pages. Here a thread of its own copies most of the WAL's pages into the database file meanwhile, and syncs
//! it; the writer checkpoints only what was committed in between, after which the WAL starts anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::Connection;
use storage_core::{
    Error, ErrorKind,
    engine::{Combiner, Limits, Work, Worker, spawn_thread},
};
use tokio_util::task::TaskTracker;

use crate::{
    connections::{
        file::DatabaseFile,
        open::{Role, open},
        wal::{MANY_PAGES, checkpoint, pages_in_wal},
    },
    error::{Answer, Fault},
};

/// How many pages the WAL may have that are not in the file yet (64 MiB): a page that changed often is copied once.
const PAGES: u32 = MANY_PAGES / 16;
/// How often pages are copied beside the writer at most. SQLite syncs the file only at the end of a checkpoint during which
/// nothing was committed. The writer does what is left of that, so there are more than it takes until one is short enough.
const PASSES: usize = 12;
/// A reader of an old snapshot keeps pages in the WAL: it is tried again after this long.
const PAUSE: Duration = Duration::from_millis(100);

/// The WAL, as the writer's last commit and checkpoint left it.
#[derive(Debug, Default)]
pub(crate) struct Wal {
    // Relaxed throughout: a number that is late moves a checkpoint by a commit, and nothing else depends on it.
    pages: AtomicU32,
    /// How many of them are in the database file.
    copied: AtomicU32,
    /// The checkpoint thread has been told, and has not come to an end yet.
    due: AtomicBool,
    /// What is left is short enough for the writer.
    last_pass_due: AtomicBool,
}

impl Wal {
    /// Takes note of a commit, on the writer's thread.
    pub(crate) fn committed(
        &self,
        db: &Connection,
        file: &DatabaseFile,
        checkpoints: &Combiner<Checkpoints>,
    ) {
        let pages = pages_in_wal();
        if pages < self.pages.swap(pages, Ordering::Relaxed) {
            // It started anew.
            self.copied.store(0, Ordering::Relaxed);
        }
        if self.last_pass_due.swap(false, Ordering::Relaxed) {
            self.run_last_pass(db, file);
        } else if pages.saturating_sub(self.copied.load(Ordering::Relaxed)) >= PAGES
            && !self.due.swap(true, Ordering::Relaxed)
        {
            checkpoints.put(());
        }
    }

    fn run_last_pass(&self, db: &Connection, file: &DatabaseFile) {
        match file.check().map_err(Fault::from).and_then(|()| checkpoint(db)) {
            Ok(pass) if pass.left == 0 => self.copied.store(pass.pages, Ordering::Relaxed),
            Ok(_) => {}
            Err(fault) => {
                let error = Error::from(fault);
                tracing::warn!(%error, "the checkpoint was not completed; it will be tried again");
            }
        }
    }
}

/// The thread that runs checkpoints.
pub(crate) struct Checkpoints {
    file: Arc<DatabaseFile>,
    wal: Arc<Wal>,
    /// Ends when the connection is closed.
    open: TaskTracker,
}

impl Checkpoints {
    pub(crate) fn new(file: &Arc<DatabaseFile>, wal: &Arc<Wal>, open: &TaskTracker) -> Combiner<Self> {
        let checkpoints = Self { file: Arc::clone(file), wal: Arc::clone(wal), open: open.clone() };
        Combiner::new(checkpoints, Limits { workers: 1, items: usize::MAX, bytes: usize::MAX })
    }

    /// Copies what the WAL holds until little enough is left for the writer, or nothing.
    fn run(&self, db: &mut Option<Connection>) -> Answer<()> {
        let db = match db {
            Some(db) => db,
            None => db.insert(open(&self.file, Role::Checkpoint)?),
        };
        let mut left = 0;
        for _ in 0..PASSES {
            self.file.check()?;
            let pass = checkpoint(db)?;
            left = pass.left;
            // Nothing was committed meanwhile, so SQLite has synced the file.
            if left == 0 && pass.pages == self.wal.pages.load(Ordering::Relaxed) {
                break;
            }
        }
        if left == 0 {
            self.wal.last_pass_due.store(true, Ordering::Relaxed);
        } else {
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Work for Checkpoints {
    type Item = ();
    type Answer = ();

    fn weight(&self, (): &()) -> usize {
        1
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    fn start(worker: Worker<Self>) {
        let open = worker.work().open.token();
        spawn_thread("storage-sqlite-checkpoint", async move {
            // Declared first, so dropped last: `disconnect` finds the connection closed.
            let _open = open;
            let mut db = None;
            while worker.take().await.is_some() {
                let checkpoints = worker.work();
                if let Err(fault) = checkpoints.run(&mut db) {
                    let error = Error::from(fault);
                    tracing::warn!(%error, "the checkpoint failed; it will be tried again");
                    db = None;
                    thread::sleep(PAUSE);
                }
                // Also after a failure: the next commit asks again.
                checkpoints.wal.due.store(false, Ordering::Relaxed);
            }
        });
    }
}
