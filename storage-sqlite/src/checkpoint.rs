//! Moving the log's pages back into the file, beside the writer.
//!
//! SQLite by itself lets the writer do that after a commit, and everybody who waits for the writer waits for thousands of
//! pages. Here another connection moves most of them meanwhile, and has them brought to the disk; the writer moves only what
//! came in between, after which the log starts anew.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_rusqlite::rusqlite::{Connection, hooks::Wal};
use tokio_util::task::AbortOnDropHandle;

use crate::{SqliteConfig, error::Answer, hold::Hold, pool::Pool, schema::Role};

/// How many pages the log may have that are not in the file yet (64 MiB): a page that changed often is moved once.
const PAGES: u32 = 16_000;
/// Longer it gets only where checkpoints are held up; the writer then tries by itself, as SQLite would.
const MANY_PAGES: u32 = 16 * PAGES;
/// How often pages are moved beside the writer at most. What is moved is brought to the disk only at the end of a pass during
/// which nothing was committed. The writer waits for what is left of that, so there are more passes than it takes until
/// one is short enough.
const PASSES: usize = 12;
/// A reader of an old state keeps the log from being moved: it is tried again after this long.
const PAUSE: Duration = Duration::from_millis(100);

thread_local! {
    /// The pages in the log, as the last commit of this thread left it.
    static IN_LOG: Cell<u32> = const { Cell::new(0) };
}

/// The log, as the writer's last commit and checkpoint left it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pages: AtomicU32,
    /// How many of them are in the file.
    moved: AtomicU32,
    due: Notify,
}

impl Log {
    /// Takes note of a commit, on the writer's thread.
    pub(crate) fn committed(&self) {
        let pages = IN_LOG.get();
        if pages < self.pages.swap(pages, Ordering::Relaxed) {
            // It started anew.
            self.moved.store(0, Ordering::Relaxed);
        }
        if pages.saturating_sub(self.moved.load(Ordering::Relaxed)) >= PAGES {
            self.due.notify_one();
        }
    }
}

/// Takes over from SQLite on the writer's connection.
pub(crate) fn watch(db: &Connection) {
    db.wal_hook(Some(|wal: &Wal, pages| {
        let pages = u32::try_from(pages).unwrap_or_default();
        IN_LOG.set(pages);
        if pages >= MANY_PAGES && wal.checkpoint().is_err() {
            tracing::debug!(pages, "the log could not be moved back into the file");
        }
        // An error would be the commit's, which is done.
        Ok(())
    }));
}

/// What moves the pages.
pub(crate) struct Checkpoints {
    connection: Arc<Pool>,
    task: AbortOnDropHandle<()>,
}

impl Checkpoints {
    /// Makes a checkpoint of the `log` whenever it is due.
    pub(crate) async fn start(
        config: &Arc<SqliteConfig>,
        writer: &Arc<Pool>,
        log: Arc<Log>,
        hold: Arc<Hold>,
    ) -> Answer<Self> {
        let connection = Pool::open(Role::Checkpoint, 1, config).await?;
        let (beside, writer) = (Arc::clone(&connection), Arc::clone(writer));
        let task = tokio::spawn(async move {
            loop {
                log.due.notified().await;
                let _rest = hold.rest();
                if let Err(fault) = checkpoint(&log, &beside, &writer).await {
                    let error = storage_core::Error::from(fault);
                    tracing::warn!(%error, "the log was not moved back into the file; it will be tried again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Ok(Self { connection, task: AbortOnDropHandle::new(task) })
    }

    /// Ends the task, waits for a checkpoint under way, and closes the connection.
    pub(crate) async fn close(&self) {
        self.task.abort();
        // The only connection: once it is lent to us nobody else has it.
        let _ = self.connection.visit((), |_| Ok(())).await;
        self.connection.close().await;
    }
}

async fn checkpoint(log: &Arc<Log>, beside: &Arc<Pool>, writer: &Arc<Pool>) -> Answer<()> {
    for _ in 0..PASSES {
        let pass = beside.visit((), pass).await?;
        if pass.left == 0 && pass.pages == log.pages.load(Ordering::Relaxed) {
            break;
        }
    }
    let log = Arc::clone(log);
    let last = writer.visit((), move |db| {
        let pass = pass(db)?;
        if pass.left == 0 {
            log.moved.store(pass.pages, Ordering::Relaxed);
        }
        Ok(pass)
    });
    if last.await?.left > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// What a pass found in the log.
struct Pass {
    pages: u32,
    /// How many of them readers still need there.
    left: u32,
}

/// Moves what no reader needs in the log any more.
fn pass(db: &Connection) -> Answer<Pass> {
    let (pages, moved): (i64, i64) =
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
    // Both are -1 where there is no log.
    let pages = u32::try_from(pages).unwrap_or_default();
    Ok(Pass { pages, left: pages.saturating_sub(u32::try_from(moved).unwrap_or_default()) })
}
