//! A lock on the log that is held while reads are frequent.
//!
//! SQLite locks the log for each read and unlocks it: two system calls, which take longer than the read itself.
//! Connections of one process share their locks, so while one of them reads, the others need no system call. Here one
//! holds a snapshot for that, and takes a new one every few milliseconds. What the others see does not depend on it: each
//! read still looks up by itself where the log ends.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use tokio_rusqlite::rusqlite::{self, Connection};

/// How old a snapshot gets.
const TERM: Duration = Duration::from_millis(5);
/// Reads from which on another term follows.
const FREQUENT: u32 = 64;
/// A held snapshot keeps what is written later in the log. After so many terms there is one without, in which other
/// processes can empty it.
const TERMS: u32 = 19;

/// The connection that holds the snapshot.
#[derive(Default)]
pub(crate) struct Hold {
    held: Mutex<Held>,
    /// Since the term began.
    reads: AtomicU32,
    /// Whether a thread sees to it.
    kept: AtomicBool,
}

#[derive(Default)]
struct Held {
    connection: Option<Connection>,
    resting: bool,
}

/// The thread's work. Dropped, it lets go.
struct Keeper(Arc<Hold>);

/// A time without a held snapshot.
pub(crate) struct Rest(Arc<Hold>);

impl Hold {
    /// Sets the connection that is to hold.
    pub(crate) fn open_with(&self, open: impl FnOnce() -> Option<Connection>) {
        let mut held = self.lock();
        if held.connection.is_none() {
            held.connection = open();
        }
    }

    /// Counts a read of another connection.
    pub(crate) fn count(self: &Arc<Self>) {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        if reads == FREQUENT && !self.kept.swap(true, Ordering::Relaxed) {
            let keeper = Keeper(Arc::clone(self));
            // Not a task: those may have to wait for many others, which read.
            tokio::task::spawn_blocking(|| keeper.keep());
        }
    }

    /// Lets go until the answer is dropped: what is in the log can be moved.
    pub(crate) fn rest(self: &Arc<Self>) -> Rest {
        let mut held = self.lock();
        held.resting = true;
        held.let_go();
        Rest(Arc::clone(self))
    }

    pub(crate) fn close(&self) {
        self.lock().connection = None;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    fn keep(self) {
        loop {
            for _ in 0..TERMS {
                self.0.lock().renew();
                thread::sleep(TERM);
                if self.0.reads.swap(0, Ordering::Relaxed) < FREQUENT {
                    return;
                }
            }
            self.0.lock().let_go();
            thread::sleep(TERM);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.lock().let_go();
        self.0.reads.store(0, Ordering::Relaxed);
        self.0.kept.store(false, Ordering::Relaxed);
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.lock().resting = false;
    }
}

impl Held {
    fn renew(&mut self) {
        self.let_go();
        if !self.resting {
            self.change(|db| db.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1"));
        }
    }

    fn let_go(&mut self) {
        self.change(|db| if db.is_autocommit() { Ok(()) } else { db.execute_batch("COMMIT") });
    }

    /// A connection that fails is given up: reads are then slower, no more.
    fn change(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        if let Some(Err(error)) = self.connection.as_ref().map(work) {
            tracing::debug!(%error, "no snapshot is held");
            self.connection = None;
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("kept", &self.kept).finish_non_exhaustive()
    }
}
