//! A SQLite file of somebody else's, read without changing it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{
    Connection, ErrorCode, OpenFlags,
    backup::{Backup, StepResult},
    config::DbConfig,
    ffi::SQLITE_READONLY_ROLLBACK,
};

use crate::{
    cache::{Paths, State},
    error::{Error, Result},
    format::Sums,
    local::sums_of,
    system::Positioned,
};

/// What ends a path in a URI, or is one of its escapes.
const IN_URI: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');
/// How often a file is copied again that was opened by somebody meanwhile.
const TRIES: u32 = 3;

/// A copy as the store takes it: whole, sound, and in the mode of a write-ahead log.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) page_size: u32,
    pub(crate) sums: Sums,
    /// How many rows each table has.
    pub(crate) rows: BTreeMap<String, u64>,
}

/// Where a file is, whatever links lead to it. Refused where it is none, or the cache of a managed database.
pub(crate) fn find(file: &Path) -> Result<PathBuf> {
    let found = match fs::canonicalize(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(refused(file, "is not there")),
        found => found.map_err(Error::io("look for", file))?,
    };
    if !fs::metadata(&found).map_err(Error::io("look at", &found))?.is_file() {
        return Err(refused(file, "is no file"));
    }
    let folder = found.parent().map(Paths::new).filter(|folder| folder.database() == found);
    if let Some(folder) = folder
        && State::read(&folder.state())?.is_some()
    {
        return Err(refused(
            file,
            "is the local copy of a managed database; `storage managed restore` writes a file of its own",
        ));
    }
    Ok(found)
}

/// Copies a database with what its log holds, as it is at one moment, also while others write to it.
pub(crate) fn copy(from: &Path, to: &Path, busy: Duration) -> Result<Copied> {
    let mut tries = 1;
    loop {
        let closed = Closed::of(from)?.filter(|_| tries < TRIES);
        take(from, to, closed.is_some(), busy).map_err(|error| of_source(from, error))?;
        match closed {
            Some(before) if Closed::of(from)?.as_ref() != Some(&before) => tries += 1,
            _ => break,
        }
    }
    check(from, to)
}

/// A database in the mode of a write-ahead log that nobody has open. SQLite would make a log beside it to read it, and leave
/// it there: such a file is read as it is, and looked at again afterwards.
#[derive(Debug, PartialEq, Eq)]
struct Closed {
    length: u64,
    modified: Option<std::time::SystemTime>,
}

impl Closed {
    fn of(file: &Path) -> Result<Option<Self>> {
        let beside = |suffix: &str| {
            let mut name = OsString::from(file);
            name.push(suffix);
            fs::symlink_metadata(name).is_ok()
        };
        let mut versions = [0; 2];
        let opened = File::open(file).map_err(Error::io("read", file))?;
        let has_log_mode = opened.read_exact_at(&mut versions, 18).is_ok() && versions == [2, 2];
        if !has_log_mode || beside("-wal") || beside("-shm") {
            return Ok(None);
        }
        let found: Metadata = opened.metadata().map_err(Error::io("look at", file))?;
        Ok(Some(Self { length: found.len(), modified: found.modified().ok() }))
    }
}

/// SQLite's own backup, of one snapshot.
fn take(from: &Path, to: &Path, is_closed: bool, busy: Duration) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = match is_closed {
        true => {
            let path = percent_encode(from.as_os_str().as_encoded_bytes(), IN_URI);
            Connection::open_with_flags(
                format!("file:{path}?immutable=1"),
                flags | OpenFlags::SQLITE_OPEN_URI,
            )?
        }
        false => Connection::open_with_flags(from, flags)?,
    };
    source.busy_timeout(busy)?;
    source.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
    // One of an earlier try.
    let _ = fs::remove_file(to);
    let mut target = Connection::open(to)?;
    match Backup::new(&source, &mut target)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("others have it locked".to_owned()),
        )),
    }
}

/// Checks a copy, and makes it what a store opens.
fn check(from: &Path, to: &Path) -> Result<Copied> {
    let refuse = |error| of_source(from, error);
    let db = Connection::open(to).map_err(refuse)?;
    let encoding: String = db.pragma_query_value(None, "encoding", |row| row.get(0)).map_err(refuse)?;
    if encoding != "UTF-8" {
        return Err(refused(
            from,
            &format!(
                "is in {encoding}, so its keys would not be in byte order; write it anew in UTF-8, as \
                 `sqlite3 FILE .dump | sqlite3 NEW` does"
            ),
        ));
    }
    let problem: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(refuse)?;
    if problem != "ok" {
        return Err(refused(from, &format!("is damaged: SQLite's integrity check says `{problem}`")));
    }
    let rows = rows(&db).map_err(refuse)?;
    let mode: String = db
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(Error::sqlite("prepare the copy"))?;
    if mode != "wal" {
        return Err(Error::Unsupported(
            "the file system of the cache folder takes no write-ahead log".to_owned(),
        ));
    }
    let page_size = db.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(refuse)?;
    db.close().map_err(|(_, error)| Error::sqlite("close the copy")(error))?;
    let file = File::open(to).map_err(Error::io("open", to))?;
    file.sync_all().map_err(Error::io("sync", to))?;
    let sums = sums_of(&file, page_size).map_err(Error::io("read", to))?;
    Ok(Copied { page_size, sums, rows })
}

/// How many rows each table has; those that SQLite and its extensions keep for themselves are left out.
fn rows(db: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut tables = db.prepare(
        "SELECT name FROM pragma_table_list \
         WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let counted = names.into_iter().map(|name| {
        let count = format!("SELECT count(*) FROM main.\"{}\"", name.replace('"', "\"\""));
        let rows: i64 = db.query_row(&count, [], |row| row.get(0))?;
        Ok((name, u64::try_from(rows).unwrap_or_default()))
    });
    counted.collect()
}

/// What SQLite says of a file that is not ours.
fn of_source(file: &Path, error: rusqlite::Error) -> Error {
    if error.sqlite_error().is_some_and(|cause| cause.extended_code == SQLITE_READONLY_ROLLBACK) {
        return refused(
            file,
            "was left by a program in the middle of a transaction; open it with SQLite once, which ends that",
        );
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => refused(file, "is no SQLite database, or is encrypted"),
        Some(ErrorCode::DatabaseCorrupt) => refused(file, "is damaged: SQLite cannot read it"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            refused(file, "is locked by another program; try again when that has written")
        }
        _ => Error::sqlite("copy the file")(error),
    }
}

fn refused(file: &Path, why: &str) -> Error {
    Error::Unsupported(format!("`{}` {why}", file.display()))
}
