//! What SQLite sees through the VFS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, ErrorCode};
use storage_managed_vfs::{ReadAt, open};

struct Memory {
    bytes: Vec<u8>,
    fails: AtomicBool,
    panics: AtomicBool,
}

impl ReadAt for Memory {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        assert!(!self.panics.load(Relaxed), "on purpose");
        if self.fails.load(Relaxed) {
            return Err(io::Error::other("on purpose"));
        }
        let from = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.bytes[from..from + buffer.len()]);
        Ok(())
    }
}

/// A database of some hundred pages, as one with a write-ahead log leaves it.
fn database(page_size: u32) -> Arc<Memory> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.db");
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "page_size", page_size).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO t SELECT i, hex(randomblob(100)) FROM n",
    )
    .unwrap();
    db.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes[18], bytes[19]), (2, 2), "its header says that it has a log");
    Arc::new(Memory { bytes, fails: false.into(), panics: false.into() })
}

fn count(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT count(*) FROM t WHERE body <> ''", [], |row| row.get(0))
}

#[test]
fn it_reads_and_refuses_to_write() {
    for page_size in [512, 4096, 65_536] {
        let db = open(database(page_size)).unwrap();
        assert_eq!(count(&db).unwrap(), 5000);
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        for write in ["DELETE FROM t", "CREATE TABLE u (x)", "PRAGMA user_version = 3", "VACUUM"] {
            let error = db.execute_batch(write).unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly), "{write}: {error}");
        }
        assert_eq!(count(&db).unwrap(), 5000);
    }
}

#[test]
fn what_sqlite_writes_aside_goes_to_the_system() {
    let db = open(database(4096)).unwrap();
    db.execute_batch(
        "PRAGMA temp_store = FILE; PRAGMA cache_size = 10;
         CREATE TEMP TABLE sorted AS SELECT a.body FROM t a, t b WHERE b.id < 20 ORDER BY a.body",
    )
    .unwrap();
    let rows: i64 = db.query_row("SELECT count(*) FROM sorted", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 95_000);
    let now: String = db.query_row("SELECT datetime('now')", [], |row| row.get(0)).unwrap();
    assert!(now.as_str() > "2020", "{now}");
    let other = db.execute_batch("ATTACH 'database-0' AS other; SELECT * FROM other.t").unwrap_err();
    assert_eq!(other.sqlite_error_code(), Some(ErrorCode::CannotOpen));
}

#[test]
fn what_fails_or_panics_is_an_error_and_passes() {
    let database = database(4096);
    let db = open(Arc::<Memory>::clone(&database)).unwrap();
    for flag in [&database.fails, &database.panics] {
        // Nothing that is cached: SQLite has one cache for the process here, so a limit of one connection's is none.
        db.execute_batch("PRAGMA shrink_memory").unwrap();
        flag.store(true, Relaxed);
        let error = count(&db).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure), "{error}");
        flag.store(false, Relaxed);
        assert_eq!(count(&db).unwrap(), 5000);
    }
    drop(db);
    assert_eq!(Arc::strong_count(&database), 1, "a closed connection leaves nothing behind");
}

#[test]
fn many_threads_have_connections_of_their_own() {
    let database = database(4096);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let database = Arc::<Memory>::clone(&database);
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(count(&open(Arc::<Memory>::clone(&database)).unwrap()).unwrap(), 5000);
                }
            });
        }
    });
}
