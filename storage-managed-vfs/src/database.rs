//! What SQLite reads, and how it finds it: by a name that is known while it is being opened.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

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

type Databases = HashMap<String, Arc<dyn ReadAt>>;

static OPENING: LazyLock<Mutex<Databases>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(0);

fn opening() -> MutexGuard<'static, Databases> {
    OPENING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a database, as long as this lives.
pub(crate) struct Named {
    pub(crate) name: String,
}

impl Named {
    pub(crate) fn new(database: Arc<dyn ReadAt>) -> Self {
        let name = format!("database-{}", NEXT.fetch_add(1, Relaxed));
        opening().insert(name.clone(), database);
        Self { name }
    }

    /// The database of this name.
    pub(crate) fn find(name: &str) -> Option<Arc<dyn ReadAt>> {
        opening().get(name).cloned()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // Not dropped while the names are locked: it may be the last one who has it.
        let removed = opening().remove(&self.name);
        drop(removed);
    }
}
