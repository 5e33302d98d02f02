//! A loop written by hand that commits rows in groups, with all that ours sets: the statements, the writer's cache, and
//! checkpoints beside the writer. No caller waits for it, so it is what the file and one thread give.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, params};
use storage_bench_harness::{Data, Result};

use super::sqlite::{SET, set_up};

/// Leaves the index of expiries alone.
const OVERWRITE: &str = "UPDATE kv_store SET value = ?2 WHERE key = ?1 AND expires_at IS NULL";
/// Rows of one transaction.
const GROUP: u64 = 256;
/// Negative, since it is KiB and not pages.
const CACHE_KIB: i32 = -16 * 1024;
/// The pages of the WAL at which the writer would run a checkpoint by itself.
const MANY_PAGES: u32 = 256_000;
/// The pages that are not in the file yet at which they are copied.
const PAGES: u32 = MANY_PAGES / 16;
const PASSES: usize = 12;
const PAUSE: Duration = Duration::from_millis(100);

thread_local! {
    static IN_WAL: Cell<u32> = const { Cell::new(0) };
}

#[derive(Default)]
struct Wal {
    pages: AtomicU32,
    copied: AtomicU32,
    due: AtomicBool,
    last_pass_due: AtomicBool,
}

/// The one writer.
pub(super) struct Writer {
    db: Connection,
    wal: Arc<Wal>,
    /// Tells the thread that runs checkpoints, which ends with it.
    checkpoints: mpsc::Sender<()>,
}

impl Writer {
    pub(super) fn open(path: &str) -> Result<Self> {
        let db = Connection::open(path)?;
        set_up(&db)?;
        db.pragma_update(None, "cache_size", CACHE_KIB)?;
        db.wal_hook(Some(|wal, pages| {
            let pages = u32::try_from(pages).unwrap_or_default();
            IN_WAL.set(pages);
            if pages >= MANY_PAGES { wal.checkpoint() } else { Ok(()) }
        }));
        let beside = Connection::open(path)?;
        set_up(&beside)?;
        let wal = Arc::new(Wal::default());
        let (checkpoints, told) = mpsc::channel();
        let seen = Arc::clone(&wal);
        thread::spawn(move || {
            while told.recv().is_ok() {
                seen.copy(&beside);
                seen.due.store(false, Ordering::Relaxed);
            }
        });
        Ok(Self { db, wal, checkpoints })
    }

    /// Commits a group; returns how many rows it has.
    pub(super) fn write(&self, data: &Data, values: &[String]) -> Result<u64> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for _ in 0..GROUP {
            let (key, value) = (data.random_key(), fastrand::choice(values).ok_or("no values")?);
            if self.db.prepare_cached(OVERWRITE)?.execute([&key, value])? == 0 {
                self.db.prepare_cached(SET)?.execute(params![key, value])?;
            }
        }
        self.db.prepare_cached("COMMIT")?.execute([])?;
        self.committed()?;
        Ok(GROUP)
    }

    fn committed(&self) -> Result<()> {
        let (wal, pages) = (&self.wal, IN_WAL.get());
        if pages < wal.pages.swap(pages, Ordering::Relaxed) {
            // It started anew.
            wal.copied.store(0, Ordering::Relaxed);
        }
        if wal.last_pass_due.swap(false, Ordering::Relaxed) {
            let (pages, left) = checkpoint(&self.db)?;
            if left == 0 {
                wal.copied.store(pages, Ordering::Relaxed);
            }
        } else if pages.saturating_sub(wal.copied.load(Ordering::Relaxed)) >= PAGES
            && !wal.due.swap(true, Ordering::Relaxed)
        {
            self.checkpoints.send(())?;
        }
        Ok(())
    }
}

impl Wal {
    /// Copies pages until few enough are left for the writer.
    fn copy(&self, db: &Connection) {
        let mut left = u32::MAX;
        for _ in 0..PASSES {
            let Ok((pages, more)) = checkpoint(db) else { break };
            left = more;
            if left == 0 && pages == self.pages.load(Ordering::Relaxed) {
                break;
            }
        }
        match left {
            0 => self.last_pass_due.store(true, Ordering::Relaxed),
            _ => thread::sleep(PAUSE),
        }
    }
}

/// The pages of the WAL, and how many of them are not in the file.
fn checkpoint(db: &Connection) -> rusqlite::Result<(u32, u32)> {
    let (pages, copied): (u32, u32) =
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok((pages, pages.saturating_sub(copied)))
}
