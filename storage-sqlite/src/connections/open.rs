//! Opening the file: made with its mode, in WAL, with its table.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use storage_core::Error;

use crate::{
    SqliteConfig,
    call::make_interruptible,
    connections::wal::watch,
    error::{Answer, from_io},
    statements::{
        entries::{EXPIRES_AT, GET_SMALL},
        schema::{bring_up_to_date, is_up_to_date},
    },
};

/// As the Python agents make it; the columns never change.
// IMMEDIATE: a transaction that reads and then writes may fail with SQLITE_BUSY_SNAPSHOT, which no busy timeout covers.
const SCHEMA: &str = "BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS kv_store (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at REAL);
    CREATE INDEX IF NOT EXISTS idx_expires_at ON kv_store (expires_at);
    COMMIT;";
const HAS_SCHEMA: &str = "SELECT count(*) = 2 FROM sqlite_schema WHERE tbl_name = 'kv_store'
    AND (type = 'table' OR name = 'idx_expires_at')";
/// Fails where the columns are others.
const USES_COLUMNS: &str = "SELECT rowid, key, value, expires_at FROM kv_store LIMIT 0";
/// More statements than there are, so that each is prepared once per connection.
const STATEMENTS: usize = 64;

/// Negative, since it is KiB and not pages. Keys come in any order: what is not cached is read from the file each time.
const WRITER_CACHE_KIB: i32 = -16 * 1024;
const INLINE_CACHE_KIB: i32 = -32 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that writes; opening it makes what is not there.
    Writer,
    /// One of those that read.
    Reader,
    /// One that reads and never waits for a lock.
    Inline,
    /// The one that makes checkpoints.
    Checkpoint,
}

/// Opens a connection. Blocks, at most about as long as an operation may take.
pub(crate) fn open(config: &SqliteConfig, role: Role) -> Answer<Connection> {
    if role == Role::Writer {
        make_file(&config.path)?;
    }
    let start = Instant::now();
    loop {
        match try_open(config, role) {
            // Several processes switch a new file to WAL: SQLite then answers without asking the busy handler.
            Err(fault) if fault.is_busy() && start.elapsed() < config.operation_timeout => {
                thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

fn try_open(config: &SqliteConfig, role: Role) -> Answer<Connection> {
    // Not SQLITE_OPEN_URI: a path is a path, whatever it looks like.
    // No CREATE: SQLite would make the file with a mode of its own. NO_MUTEX: a connection has one thread at a time.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&config.path, flags)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Before any statement: reading the schema and switching to WAL wait for locks, too.
    db.busy_timeout(busy_limit(config.busy_timeout.min(config.operation_timeout)))?;
    if let Some(publisher) = &config.publisher {
        publisher.prepare(&db)?;
    }
    if !matches!(role, Role::Writer | Role::Checkpoint) {
        // Not opened read-only: a reader of a WAL writes to the `-shm` file, and may have to recover the log.
        db.pragma_update(None, "query_only", true)?;
    }
    match role {
        Role::Writer => {
            set_up_writer(&db, config)?;
            make_interruptible(&db)?;
        }
        Role::Reader => make_interruptible(&db)?,
        // A checkpoint syncs the log and the file as this says.
        Role::Checkpoint => db.pragma_update(None, "synchronous", config.synchronous.as_str())?,
        Role::Inline => {
            db.pragma_update(None, "cache_size", INLINE_CACHE_KIB)?;
            // The first statement reads the schema.
            for sql in [GET_SMALL, EXPIRES_AT] {
                db.prepare_cached(sql)?;
            }
            // Last: the statements above may wait, a call must not. Where it finds a lock, a reader's thread waits.
            db.busy_timeout(Duration::ZERO)?;
        }
    }
    Ok(db)
}

/// Whether the file has all its tables, so that opening it to write writes nothing. Blocks.
pub(crate) fn is_set_up(config: &SqliteConfig) -> Answer<bool> {
    let db = open(config, Role::Reader)?;
    Ok(db.query_row(HAS_SCHEMA, [], |row| row.get(0))? && is_up_to_date(&db)?)
}

fn set_up_writer(db: &Connection, config: &SqliteConfig) -> Answer<()> {
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(%mode, "the file system does not take a write-ahead log: readers and writers block each other");
    }
    db.pragma_update(None, "synchronous", config.synchronous.as_str())?;
    db.pragma_update(None, "cache_size", WRITER_CACHE_KIB)?;
    // A publisher runs checkpoints by itself, once the pages are published.
    if config.publisher.is_none() {
        watch(db);
    }
    let encoding: String = db.pragma_query_value(None, "encoding", |row| row.get(0))?;
    if encoding != "UTF-8" {
        return Err(Error::config(format!(
            "the database is in {encoding}, so its keys are not in byte order"
        ))
        .with_hint("name another file")
        .into());
    }
    // Most connects find all of it, and need no lock then.
    if !db.query_row(HAS_SCHEMA, [], |row| row.get::<_, bool>(0))? {
        db.execute_batch(SCHEMA)?;
    }
    db.prepare(USES_COLUMNS)?;
    bring_up_to_date(db)
}

/// A limit that the driver takes.
pub(crate) fn busy_limit(limit: Duration) -> Duration {
    limit.min(Duration::from_secs(3_600))
}

/// Creates file and folder where they are not there, for this user alone. The log files get the mode of the file.
fn make_file(path: &Path) -> Result<(), Error> {
    /// Closing a file that SQLite has open in this process would drop its locks: nobody may open it in between.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        private_folder().create(folder).map_err(|error| from_io(&error, folder))?;
    }
    match private_file().open(path) {
        Err(_) if path.is_dir() => {
            Err(Error::config(format!("`{}` is a folder", path.display())).with_hint("name a file in it"))
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(from_io(&error, path)),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn private_folder() -> fs::DirBuilder {
    let mut folder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(folder.recursive(true), 0o700);
    folder
}

#[cfg(unix)]
fn private_file() -> fs::OpenOptions {
    let mut file = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(file.write(true).create_new(true), 0o600);
    file
}

#[cfg(not(unix))]
fn private_folder() -> fs::DirBuilder {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true);
    folder
}

#[cfg(not(unix))]
fn private_file() -> fs::OpenOptions {
    let mut file = fs::OpenOptions::new();
    file.write(true).create_new(true);
    file
}
