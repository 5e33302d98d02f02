//! Opening the file: made with its mode, in WAL, with its table.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use storage_core::{Error, ErrorKind};

use crate::{
    SqliteConfig,
    call::make_interruptible,
    connections::{
        file::{DatabaseFile, beside},
        wal::watch,
    },
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
const HAS_TABLE: &str = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'kv_store'";
const MAKE: &str = "`storage init` makes one, and so does a program that connects and may create it";
/// Fails where the columns are others.
const USES_COLUMNS: &str = "SELECT rowid, key, value, expires_at FROM kv_store LIMIT 0";
/// More statements than there are, so that each is prepared once per connection.
const STATEMENTS: usize = 64;

/// Negative, since it is KiB and not pages. Keys come in any order: what is not cached is read from the file each time.
const WRITER_CACHE_KIB: i32 = -16 * 1024;
const INLINE_CACHE_KIB: i32 = -32 * 1024;

/// What the path of a URI shows as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

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
pub(crate) fn open(file: &DatabaseFile, role: Role) -> Answer<Connection> {
    let config = &*file.config;
    if role == Role::Writer {
        find_or_make(config)?;
    }
    let before = file.identity();
    let start = Instant::now();
    let db = loop {
        match try_open(file, role) {
            // Several processes switch a new file to WAL: SQLite then answers without asking the busy handler.
            Err(fault) if fault.is_busy() && start.elapsed() < config.operation_timeout => {
                thread::sleep(Duration::from_millis(10));
            }
            done => break done?,
        }
    };
    file.note(before, role == Role::Writer)?;
    Ok(db)
}

/// Opens the connection that writes; `None` where the file can only be read, which `file` then knows.
pub(crate) fn open_writer(file: &DatabaseFile) -> Answer<Option<Connection>> {
    let refused = match open(file, Role::Writer) {
        Ok(db) => return Ok(Some(db)),
        Err(fault) => fault,
    };
    let readable = file.config.publisher.is_none() && refused.may_refuse_writes_alone();
    if !readable || !file.config.path.is_file() {
        return Err(refused);
    }
    let db = match open(file, Role::Reader) {
        Err(fault) if fault.cannot_open() => match log_with_content(&file.config.path) {
            Some(log) => return Err(log_in_the_way(&file.config.path, &log).into()),
            None => {
                file.set_immutable();
                open(file, Role::Reader)
            }
        },
        opened => opened,
    };
    // What cannot be read either is refused for the first reason.
    if db.and_then(|db| check_table(&db)).is_err() {
        return Err(refused);
    }
    file.refuse_writes(read_only(&file.config.path));
    Ok(None)
}

/// The log or the journal beside the file, where it holds anything: what only reads the file itself would miss that.
fn log_with_content(path: &Path) -> Option<PathBuf> {
    let holds_any = |path: &PathBuf| fs::metadata(path).is_ok_and(|log| log.len() > 0);
    ["-wal", "-journal"].map(|suffix| beside(path, suffix)).into_iter().find(holds_any)
}

fn log_in_the_way(path: &Path, log: &Path) -> Error {
    let (path, log) = (path.display(), log.display());
    Error::new(
        ErrorKind::Unauthorized,
        format!("`{path}` cannot be read without writing: `{log}` holds a part of it"),
    )
    .with_hint(
        "copy both to a folder that may be written to, or let somebody open the file who may write to it",
    )
}

fn read_only(path: &Path) -> Error {
    let message = format!("`{}` can be read and not written to", path.display());
    Error::new(ErrorKind::Unauthorized, message).with_hint(
        "check the rights on the file and its folder, and that the file system is not read-only; then connect again",
    )
}

fn try_open(file: &DatabaseFile, role: Role) -> Answer<Connection> {
    let config = &*file.config;
    let db = connect(file)?;
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
        Role::Reader => {
            // The first statement opens the log.
            db.query_row(HAS_TABLE, [], |_| Ok(()))?;
            make_interruptible(&db)?;
        }
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

fn connect(file: &DatabaseFile) -> Answer<Connection> {
    let path = &file.config.path;
    // No CREATE: SQLite would make the file with a mode of its own. NO_MUTEX: a connection has one thread at a time.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !file.is_immutable() {
        // Not SQLITE_OPEN_URI: a path is a path, whatever it looks like.
        return Ok(Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?);
    }
    // SQLite reads a WAL database in a folder that takes no log only so, without looking for one.
    let path = percent_encode(path.as_os_str().as_encoded_bytes(), PLAIN);
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?)
}

/// Whether the file has all its tables, so that opening it to write writes nothing. Blocks.
pub(crate) fn is_set_up(file: &DatabaseFile) -> Answer<bool> {
    let db = open(file, Role::Reader)?;
    Ok(db.query_row(HAS_SCHEMA, [], |row| row.get(0))? && is_up_to_date(&db)?)
}

fn set_up_writer(db: &Connection, config: &SqliteConfig) -> Answer<()> {
    if config.create {
        let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            tracing::warn!(%mode, "the file system does not take a write-ahead log: readers and writers block each other");
        }
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
    if !config.create {
        check_table(db)?;
    } else if !db.query_row(HAS_SCHEMA, [], |row| row.get::<_, bool>(0))? {
        // Most connects find all of it, and need no lock then.
        db.execute_batch(SCHEMA)?;
    }
    db.prepare(USES_COLUMNS)?;
    if config.create {
        bring_up_to_date(db)?;
    }
    if db.is_readonly(MAIN_DB)? { Err(read_only(&config.path).into()) } else { Ok(()) }
}

/// Fails where there is no store in the file.
fn check_table(db: &Connection) -> Answer<()> {
    if db.query_row(HAS_TABLE, [], |row| row.get(0))? {
        return Ok(());
    }
    Err(Error::config("the file holds no store").with_hint(MAKE).into())
}

/// A limit that the driver takes.
pub(crate) fn busy_limit(limit: Duration) -> Duration {
    limit.min(Duration::from_secs(3_600))
}

/// Makes sure that there is a file.
fn find_or_make(config: &SqliteConfig) -> Result<(), Error> {
    let path = &config.path;
    if config.create {
        return make_file(path);
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(is_folder(path)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(from_io(&error, "open", path)),
        Err(_) => {
            Err(Error::config(format!("there is no store: no file `{}`", path.display())).with_hint(MAKE))
        }
    }
}

fn is_folder(path: &Path) -> Error {
    Error::config(format!("`{}` is a folder", path.display())).with_hint("name a file in it")
}

/// Creates file and folder where they are not there, for this user alone. The log files get the mode of the file.
fn make_file(path: &Path) -> Result<(), Error> {
    /// Closing a file that SQLite has open in this process would drop its locks: nobody may open it in between.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        private_folder().create(folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::config(format!("cannot create `{}`: it is there, and no folder", folder.display()))
                    .with_hint("name a file in a folder that is there or can be made")
            }
            _ => from_io(&error, "create", folder),
        })?;
    }
    match private_file().open(path) {
        Ok(_) => {
            tracing::info!(path = %path.display(), "the database file was made");
            Ok(())
        }
        Err(_) if path.is_dir() => Err(is_folder(path)),
        // In a folder that takes no new file, too.
        Err(_) if path.is_file() => Ok(()),
        Err(_) if path.is_symlink() && !path.exists() => {
            Err(Error::config(format!("`{}` is a symbolic link to nothing", path.display()))
                .with_hint("make what it leads to, or name the file itself"))
        }
        Err(error) => Err(from_io(&error, "create", path)),
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
