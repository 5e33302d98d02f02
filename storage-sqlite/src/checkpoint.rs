//! Moving the log's pages back into the file, beside the writer.
//!
//! SQLite by itself lets the writer do that after a commit, and everybody who waits for the writer waits for thousands of
//! pages. Here another connection moves most of them meanwhile; the writer moves only what came in between, after which the
//! log starts anew.

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_rusqlite::rusqlite::{self, Connection, hooks::Wal};
use tokio_util::task::AbortOnDropHandle;

use crate::{SqliteConfig, error::Answer, hold::Hold, pool::Pool, schema::Role};

/// How long the log may grow (64 MiB): a page that changed often is moved once.
const PAGES: u32 = 16_000;
/// Longer it gets only where checkpoints are held up; the writer then tries by itself, as SQLite would.
const MANY_PAGES: u32 = 16 * PAGES;
/// What the writer is left with, and how often the others are moved to come there.
const FEW_PAGES: i64 = 250;
const PASSES: usize = 4;
/// A reader of an old state keeps the log from being moved: it is tried again after this long.
const PAUSE: Duration = Duration::from_millis(100);

thread_local! {
    /// The pages in the log, as the last commit of this thread left it.
    static IN_LOG: Cell<u32> = const { Cell::new(0) };
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

/// Whether it is time for a checkpoint, on the writer's thread.
pub(crate) fn is_due() -> bool {
    IN_LOG.get() >= PAGES
}

/// What moves the pages.
pub(crate) struct Checkpoints {
    connection: Arc<Pool>,
    task: AbortOnDropHandle<()>,
}

impl Checkpoints {
    /// Makes a checkpoint whenever it is `due`.
    pub(crate) async fn start(
        config: &Arc<SqliteConfig>,
        writer: &Arc<Pool>,
        due: Arc<Notify>,
        hold: Arc<Hold>,
    ) -> Answer<Self> {
        let connection = Pool::open(Role::Checkpoint, 1, config).await?;
        let (beside, writer) = (Arc::clone(&connection), Arc::clone(writer));
        let task = tokio::spawn(async move {
            loop {
                due.notified().await;
                let _rest = hold.rest();
                if let Err(fault) = checkpoint(&beside, &writer).await {
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

async fn checkpoint(beside: &Arc<Pool>, writer: &Arc<Pool>) -> Answer<()> {
    for _ in 0..PASSES {
        if pass(beside).await? <= FEW_PAGES {
            break;
        }
    }
    if pass(writer).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Moves what no reader needs in the log any more. Returns how many pages are left.
async fn pass(connection: &Arc<Pool>) -> Answer<i64> {
    let visit = connection.visit((), |db| {
        let left = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
        Ok(db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], left)?)
    });
    visit.await
}
