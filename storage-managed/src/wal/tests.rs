//! Against SQLite itself: it takes what is appended here, and what it commits is read here.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, config::DbConfig};

use super::*;

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let _: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).unwrap();
    db.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    db
}

fn file(path: &Path, suffix: &str) -> File {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    OpenOptions::new().read(true).write(true).open(PathBuf::from(name)).unwrap()
}

fn ask(db: &Connection, sql: &str) -> String {
    db.query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0)).map(|v| format!("{v:?}")).unwrap()
}

/// Carries what `from` has committed behind `mark` over to `to`, as a reader does.
fn carry(from: &Path, mark: &mut Mark, to: &Connection, to_path: &Path, index: &File) {
    let log = file(from, "-wal");
    let found = committed(&log, mark, None).unwrap().unwrap();
    *mark = found.end;
    let Some(page_count) = found.page_count else { return };
    let mut pages = found.frames.range(..=page_count).map(|(page, frame)| {
        let mut bytes = vec![0; 4096];
        read_page(&log, *frame, &mut bytes).map(|()| (*page, bytes))
    });
    to.execute_batch("BEGIN IMMEDIATE").unwrap();
    let to_log = file(to_path, "-wal");
    let end = committed(&to_log, &Mark::default(), None).unwrap().unwrap().end;
    append(&to_log, &end, &mut pages, 4096, page_count).unwrap();
    index.write_all_at(&[0; 96], 0).unwrap();
    to.execute_batch("COMMIT").unwrap();
}

#[test]
fn open_connections_see_what_is_appended_and_open_transactions_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = (folder.path().join("a.db"), folder.path().join("b.db"));
    let db = open(&source);
    std::fs::copy(&source, &copy).unwrap();
    let (applier, reader, snapshot) = (open(&copy), open(&copy), open(&copy));
    applier.execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
    let _ = ask(&reader, "SELECT count(*) FROM sqlite_schema");
    let index = file(&copy, "-shm");
    let mut mark = Mark::default();
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
    carry(&source, &mut mark, &applier, &copy, &index);
    assert_eq!(ask(&reader, "SELECT count(*) FROM t"), "Integer(0)");

    snapshot.execute_batch("BEGIN").unwrap();
    assert_eq!(ask(&snapshot, "SELECT count(*) FROM t"), "Integer(0)");
    for round in 1..=40_i64 {
        db.execute("INSERT INTO t (body) VALUES (randomblob(20000))", []).unwrap();
        carry(&source, &mut mark, &applier, &copy, &index);
        assert_eq!(ask(&reader, "SELECT count(*) FROM t"), format!("Integer({round})"));
        assert_eq!(ask(&snapshot, "SELECT count(*) FROM t"), "Integer(0)", "a snapshot stays");
    }
    assert_eq!(ask(&snapshot, "PRAGMA integrity_check"), "Text(\"ok\")");
    snapshot.execute_batch("COMMIT").unwrap();
    assert_eq!(ask(&snapshot, "SELECT count(*) FROM t"), "Integer(40)");
    assert_eq!(ask(&reader, "PRAGMA page_count"), ask(&db, "PRAGMA page_count"));

    db.execute_batch("DELETE FROM t WHERE id > 5; VACUUM").unwrap();
    carry(&source, &mut mark, &applier, &copy, &index);
    assert_eq!(ask(&reader, "PRAGMA page_count"), ask(&db, "PRAGMA page_count"), "it shrinks");
    assert_eq!(ask(&reader, "PRAGMA integrity_check"), "Text(\"ok\")");
    let all = "SELECT group_concat(id || hex(body)) FROM t";
    assert_eq!(ask(&reader, all), ask(&db, all));
}

#[test]
fn appended_transactions_are_checkpointed_by_sqlite_and_the_log_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (source, copy) = (folder.path().join("a.db"), folder.path().join("b.db"));
    let db = open(&source);
    std::fs::copy(&source, &copy).unwrap();
    let (applier, reader) = (open(&copy), open(&copy));
    applier.execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
    let index = file(&copy, "-shm");
    let mut mark = Mark::default();
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
    for round in 1..=30_i64 {
        db.execute("INSERT INTO t (body) VALUES (randomblob(9000))", []).unwrap();
        carry(&source, &mut mark, &applier, &copy, &index);
        if round % 7 == 0 {
            let busy: i64 =
                applier.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
            assert_eq!((busy, file(&copy, "-wal").metadata().unwrap().len()), (0, 0));
        }
        if round % 5 == 0 {
            applier.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        }
        assert_eq!(ask(&reader, "SELECT count(*) FROM t"), format!("Integer({round})"));
    }
    drop((applier, reader));
    assert_eq!(ask(&open(&copy), "PRAGMA integrity_check"), "Text(\"ok\")");
}

#[test]
fn what_is_torn_or_not_committed_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let db = open(&path);
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
    let log = file(&path, "-wal");
    let mark = committed(&log, &Mark::default(), None).unwrap().unwrap().end;
    assert!(mark.frames > 0);
    // With a cache of few pages, a transaction writes frames before it commits.
    db.pragma_update(None, "cache_size", 2).unwrap();
    db.execute_batch("BEGIN; INSERT INTO t (body) VALUES (randomblob(200000))").unwrap();
    assert!(log.metadata().unwrap().len() > frame_offset(mark.frames + 10, 4096));
    assert_eq!(committed(&log, &mark, None).unwrap().unwrap().page_count, None);
    db.execute_batch("ROLLBACK; INSERT INTO t (body) VALUES (randomblob(9000))").unwrap();
    let found = committed(&log, &mark, None).unwrap().unwrap();
    assert!(found.end.frames > mark.frames);
    let last = frame_offset(found.end.frames - 1, 4096);
    log.write_all_at(b"x", last + 100).unwrap();
    assert_eq!(committed(&log, &mark, None).unwrap().unwrap().page_count, None, "the last frame is damaged");
    log.set_len(frame_offset(mark.frames - 1, 4096) + 50).unwrap();
    assert!(committed(&log, &mark, None).unwrap().is_none(), "the log ends before the mark");
}
