//! Reads that are done at once, in the caller's own task.
//!
//! A read of one key takes a few microseconds: less than handing it to another thread, so it holds the runtime up less
//! than a hop would. What may take longer goes to the readers' threads instead: a large value, a file that is locked,
//! and for a while every read, once the disk was found to be slow.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_rusqlite::rusqlite::Connection;

use crate::{
    SqliteConfig,
    error::{Answer, Fault},
    hold::Hold,
    read::{Asked, Found},
    schema::{self, Role},
    sql::View,
};

/// A read that took longer waited for the disk, or the machine is overloaded and the runtime stands still anyway.
const SLOW: Duration = Duration::from_millis(20);
/// How long the readers' threads then take over.
const PAUSE: Duration = Duration::from_millis(250);

/// Callers between which the runtime chooses; further ones wait in line. It keeps what runs on a thread next in a queue
/// of 256 and sees to the rest so rarely that one may wait for 65 ms while others read dozens of times.
const TURNS: usize = 128;

/// Connections that no thread owns.
pub(crate) struct Inline {
    config: Arc<SqliteConfig>,
    connections: Mutex<Connections>,
    turns: Semaphore,
    hold: Arc<Hold>,
    start: Instant,
    /// Microseconds after `start`.
    paused_until: AtomicU64,
}

#[derive(Default)]
struct Connections {
    /// The last one used comes first: its cache is warm.
    idle: Vec<Connection>,
    open: usize,
}

impl Inline {
    /// Without connections; they are opened as they are missed.
    pub(crate) fn new(config: &Arc<SqliteConfig>, hold: Arc<Hold>) -> Self {
        Self {
            config: Arc::clone(config),
            connections: Mutex::default(),
            turns: Semaphore::new(TURNS),
            hold,
            start: Instant::now(),
            paused_until: AtomicU64::new(0),
        }
    }

    /// Answers a read at once, or not at all: then a reader's thread has to. Where it is `crowded`, others have their turn
    /// before the answer is returned.
    pub(crate) async fn find(&self, asked: Asked, key: &str, crowded: bool) -> Option<Answer<Found>> {
        // It counts against tokio's budget, so a task that reads and reads leaves room for others now and then.
        let _turn = self.turns.acquire().await.ok()?;
        let found = self.look(asked, key);
        if crowded && found.is_some() {
            tokio::task::yield_now().await;
        }
        found
    }

    /// [`find`](Self::find) without turns.
    pub(crate) fn look(&self, asked: Asked, key: &str) -> Option<Answer<Found>> {
        let start = self.elapsed();
        if start < self.paused_until.load(Ordering::Relaxed) {
            return None;
        }
        let db = self.lock().idle.pop()?;
        let view = View { db: &db, call: None, now: self.config.clock.now() };
        let found = catch_unwind(AssertUnwindSafe(|| asked.find(&view, key)));
        let end = self.elapsed();
        if end.saturating_sub(start) > micros(SLOW) {
            self.paused_until.store(end.saturating_add(micros(PAUSE)), Ordering::Relaxed);
        }
        match found {
            Ok(found) if !found.as_ref().is_err_and(Fault::loses_connection) => {
                self.lock().idle.push(db);
                self.hold.count();
                match found {
                    Err(Fault::Driver(_)) => None,
                    found => Some(found),
                }
            }
            _ => {
                self.lock().open -= 1;
                None
            }
        }
    }

    /// Opens one more connection where none is idle and there are fewer than readers. Blocks.
    pub(crate) fn grow(&self) {
        {
            let mut connections = self.lock();
            if !connections.idle.is_empty() || connections.open >= self.config.readers {
                return;
            }
            connections.open += 1;
        }
        let opened = self.open();
        let mut connections = self.lock();
        match opened {
            Some(db) => connections.idle.push(db),
            None => connections.open -= 1,
        }
        drop(connections);
        // A publisher needs the log to itself now and then.
        if self.config.publisher.is_none() {
            self.hold.open_with(|| self.open());
        }
    }

    fn open(&self) -> Option<Connection> {
        let opened = schema::open(&self.config, Role::Inline).map_err(storage_core::Error::from);
        opened
            .inspect_err(|error| {
                tracing::warn!(%error, "a connection could not be opened; reads go to the readers' threads");
            })
            .ok()
    }

    /// Closes the connections. Nobody may be reading.
    pub(crate) fn close(&self) {
        self.hold.close();
        *self.lock() = Connections::default();
    }

    fn elapsed(&self) -> u64 {
        micros(self.start.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").field("open", &self.lock().open).finish_non_exhaustive()
    }
}
