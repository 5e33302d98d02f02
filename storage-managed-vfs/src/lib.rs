#![doc = include_str!("../README.md")]

mod file;
mod vfs;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, OpenFlags};

/// A database that SQLite reads. It never changes.
pub trait ReadAt: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills the buffer with what stands behind the first `offset` bytes. Never asked for what is behind the end.
    ///
    /// # Errors
    /// What SQLite is told as `SQLITE_IOERR_READ`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Those that are being opened, by the names that SQLite asks for.
static OPENING: Mutex<Option<HashMap<String, Arc<dyn ReadAt>>>> = Mutex::new(None);
static NEXT: AtomicU64 = AtomicU64::new(0);

fn opening() -> MutexGuard<'static, Option<HashMap<String, Arc<dyn ReadAt>>>> {
    OPENING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that reads this database alone, which lives as long as the connection. Reads nothing before the first
/// statement.
///
/// # Errors
/// What SQLite says.
pub fn open(database: Arc<dyn ReadAt>) -> rusqlite::Result<Connection> {
    vfs::register()?;
    let name = format!("database-{}", NEXT.fetch_add(1, Relaxed));
    opening().get_or_insert_default().insert(name.clone(), database);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags_and_vfs(&name, flags, vfs::NAME);
    // The open file has it now.
    find(&name, HashMap::remove);
    opened
}

/// Looks among those that are being opened.
fn find<'a>(
    name: &'a str,
    look: impl FnOnce(&mut HashMap<String, Arc<dyn ReadAt>>, &'a str) -> Option<Arc<dyn ReadAt>>,
) -> Option<Arc<dyn ReadAt>> {
    opening().as_mut().and_then(|databases| look(databases, name))
}

/// The database that is being opened under this name.
pub(crate) fn named(name: &str) -> Option<Arc<dyn ReadAt>> {
    find(name, |databases, name| databases.get(name).cloned())
}
