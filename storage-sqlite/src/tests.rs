//! What only the inside can tell: the plans of the statements, and a connection that is lost.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, ToSql};
use storage_core::{ErrorKind, Glob, Json};

use crate::{
    SqliteConfig,
    call::Call,
    connections::{
        file::DatabaseFile,
        open::{Role, open},
    },
    error::{Answer, Fault},
    statements::{
        entries::{Asked, EXPIRES_AT, Found, GET, GET_SMALL, REMOVE, SET_EXPIRY, SWEEP, View},
        pages::{ENTRIES, KEYS, upper_bound},
    },
    store::Store,
    work::{
        points::{Point, find_all},
        readers::Reader,
        writes::{Statements, Steps, Write, commit},
    },
};

fn config(folder: &tempfile::TempDir) -> SqliteConfig {
    SqliteConfig::new(folder.path().join("agent.db"))
}

fn file(config: &SqliteConfig) -> Arc<DatabaseFile> {
    DatabaseFile::new(&Arc::new(config.clone()))
}

fn plan(db: &Connection, sql: &str, params: &[&dyn ToSql]) -> String {
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = explain.query_map(params, |row| row.get::<_, String>(3)).unwrap();
    steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
}

#[test]
fn every_statement_uses_an_index_and_none_sorts() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&file(&config(&folder)), Role::Writer).unwrap();
    let bound = upper_bound(&Glob::new("deal:*").unwrap());
    let open_end = upper_bound(&Glob::new("*").unwrap());
    let by_range = "USING INDEX sqlite_autoindex_kv_store_1 (key>? AND key<?)";
    let by_key = "USING INDEX sqlite_autoindex_kv_store_1 (key=?)";
    let by_expiry = "USING COVERING INDEX idx_expires_at (expires_at<?)";
    let table: [(&str, &[&dyn ToSql], &str); 9] = [
        (KEYS, &[&"deal:", &bound], by_range),
        (ENTRIES, &[&"deal:", &bound], by_range),
        (ENTRIES, &[&"", &open_end], by_range),
        (GET, &[&"deal:1"], by_key),
        (GET_SMALL, &[&"deal:1"], by_key),
        (EXPIRES_AT, &[&"deal:1"], by_key),
        (REMOVE, &[&"deal:1", &1.0], by_key),
        (SET_EXPIRY, &[&"deal:1", &1.0, &1.0], by_key),
        (SWEEP, &[&1.0, &10], by_expiry),
    ];
    for (sql, params, expected) in table {
        let plan = plan(&db, sql, params);
        assert!(plan.contains(expected), "{sql}: {plan}");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn a_panic_ends_one_call_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = connected(SqliteConfig { readers: 1, ..config(&folder) }).await;
    let read = store.read(|_| -> Answer<()> { panic!("on purpose") });
    assert_eq!(read.await.unwrap_err().kind(), ErrorKind::Unavailable);
    let write = store.write(1, Steps::One, |view| {
        put(view, "deal:1")?;
        panic!("on purpose");
    });
    assert_eq!(write.await.unwrap_err().kind(), ErrorKind::Unavailable, "the transaction was undone");
    store.write(1, Steps::One, |view| put(view, "deal:2")).await.unwrap();
    let keys = "SELECT group_concat(key) FROM kv_store";
    let keys = store.read(|view| Ok(view.db.query_row(keys, [], |row| row.get::<_, String>(0))?));
    assert_eq!(keys.await.unwrap(), "deal:2");
}

#[tokio::test]
async fn a_writer_that_is_lost_after_its_commit_leaves_the_outcome_open() {
    let call = Call::new(Duration::from_secs(5));
    assert_eq!(call.lose().kind(), ErrorKind::Unavailable);
    let call = Call::new(Duration::from_secs(5));
    call.begin_commit().unwrap();
    assert_eq!(call.lose().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn what_passes_its_deadline_is_interrupted_and_leaves_its_thread_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(200);
    let store = connected(SqliteConfig { readers: 1, operation_timeout: limit, ..config(&folder) }).await;
    let endless = "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n";
    let count = |view: &View<'_>| Ok(view.db.query_row(endless, [], |row| row.get::<_, i64>(0))?);
    assert_eq!(store.read(count).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(store.read(|_| Ok(1)).await.unwrap(), 1);
    // And where its caller has only kept it, or gone away.
    let mut kept = Box::pin(store.read(count));
    assert!(futures::poll!(&mut kept).is_pending());
    let mut dropped = Box::pin(store.read(count));
    assert!(futures::poll!(&mut dropped).is_pending());
    drop(dropped);
    tokio::time::sleep(limit).await;
    assert_eq!(store.read(|_| Ok(1)).await.unwrap(), 1);
    let write = store.write(1, Steps::One, move |view| count(view));
    assert_eq!(write.await.unwrap_err().kind(), ErrorKind::Timeout);
    store.write(1, Steps::One, |view| put(view, "deal:1")).await.unwrap();
}

#[tokio::test]
async fn reads_are_tried_once_more_where_the_connection_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(SqliteConfig { readers: 1, ..config(&folder) });
    store.connect().await.unwrap();
    let tries = Arc::new(std::sync::atomic::AtomicU8::new(0));
    let fail_once = {
        let tries = Arc::clone(&tries);
        move |_: &View<'_>| match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Err(Fault::Lost(storage_core::Error::new(ErrorKind::Unavailable, "gone"))),
            tries => Ok(tries),
        }
    };
    assert_eq!(store.read(fail_once).await.unwrap(), 1);
}

async fn connected(config: SqliteConfig) -> Arc<Store> {
    let store = Store::new(config);
    store.connect().await.unwrap();
    store
}

fn write(
    store: &Store,
    call: &Arc<Call>,
    work: impl Fn(&View<'_>) -> Answer<i64> + Send + Sync + 'static,
) -> Write {
    let work: Box<Statements> = Box::new(work);
    Write {
        call: Arc::clone(call),
        weight: 1,
        steps: Steps::Many,
        work,
        _guard: store.lifecycle.enter().unwrap().into(),
    }
}

fn put(view: &View<'_>, key: &str) -> Answer<i64> {
    view.put(key, &Json::from(1), None).map(|()| 1)
}

#[tokio::test]
async fn a_caller_who_was_told_timeout_is_left_out_of_a_commit_that_the_others_get() {
    let folder = tempfile::tempdir().unwrap();
    let store = connected(config(&folder)).await;
    let calls: Vec<_> = (0..3).map(|_| Call::new(Duration::from_secs(5))).collect();
    let late = Arc::clone(&calls[0]);
    let writes = [
        write(&store, &calls[0], |view| put(view, "deal:late")),
        write(&store, &calls[1], move |view| {
            late.give_up();
            put(view, "deal:1")
        }),
        write(&store, &calls[2], |view| put(view, "deal:2")),
    ];
    let db = open(&file(&config(&folder)), Role::Writer).unwrap();
    let (answers, loses_connection) = commit(&db, &file(&config(&folder)), &writes);
    assert!(!loses_connection);
    assert_eq!(answers[0].as_ref().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(matches!(answers[1..], [Ok(1), Ok(1)]));
    let keys: String = db.query_row("SELECT group_concat(key) FROM kv_store", [], |row| row.get(0)).unwrap();
    assert_eq!(keys, "deal:1,deal:2");
}

#[tokio::test]
async fn a_fault_of_the_connection_in_one_write_fails_that_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = connected(config(&folder)).await;
    let call = Call::new(Duration::from_secs(5));
    let gone = |_: &View<'_>| Err(Fault::Lost(storage_core::Error::new(ErrorKind::Unavailable, "gone")));
    let writes = [
        write(&store, &call, |view| put(view, "deal:1")),
        write(&store, &call, gone),
        write(&store, &call, |view| put(view, "deal:2")),
    ];
    let db = open(&file(&config(&folder)), Role::Writer).unwrap();
    let (answers, loses_connection) = commit(&db, &file(&config(&folder)), &writes);
    assert!(loses_connection, "the next group opens it again");
    assert!(matches!(&answers[..], [Ok(1), Err(_), Ok(1)]));
    let count: i64 = db.query_row("SELECT count(*) FROM kv_store", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
}

#[test]
fn reads_that_come_together_see_one_state_of_the_file_and_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = Arc::new(config(&folder));
    let db = open(&file(&config), Role::Writer).unwrap();
    db.execute_batch("INSERT INTO kv_store VALUES ('deal:1', '1', NULL), ('deal:bad', 'NaN', 1e300)")
        .unwrap();
    let store = futures::executor::block_on(connected((*config).clone()));
    let points = [
        (Asked::Value, "deal:1"),
        (Asked::Value, "deal:bad"),
        (Asked::Value, "deal:2"),
        (Asked::Expiry, "deal:bad"),
    ];
    let points = points.map(|(asked, key)| Point {
        key: key.to_owned(),
        asked,
        _guard: store.lifecycle.enter().unwrap().into(),
    });
    let mut reader = Reader::new(file(&config));
    let found = find_all(&mut reader, &config, &points);
    assert!(matches!(found[0], Ok(Found::Value(Some(_)))));
    assert!(matches!(found[1], Ok(Found::Value(Some(_)))), "its caller finds out that it is none");
    assert!(matches!(found[2], Ok(Found::Value(None))));
    assert!(matches!(found[3], Ok(Found::Expiry(Some(_)))));
    db.execute_batch("INSERT INTO kv_store VALUES ('deal:2', '2', NULL)").unwrap();
    let found = find_all(&mut reader, &config, &points);
    assert!(matches!(found[2], Ok(Found::Value(Some(_)))), "no old state is kept");
}
