//! What only the inside can tell: the plans of the statements, and a connection that is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use storage_core::{ErrorKind, Glob, Group, Json};
use tokio_rusqlite::rusqlite::{Connection, ToSql};

use crate::{
    SqliteConfig,
    call::Call,
    error::{Answer, Fault},
    inline::Inline,
    pool::Pool,
    read::{Asked, Found, Read, Reads},
    scan::{ENTRIES, KEYS, upper_bound},
    schema::{Role, open},
    sql::{EXPIRES_AT, GET, GET_SMALL, REMOVE, SET_EXPIRY, SWEEP, View},
    store::Store,
    write::{Steps, Work, Write, commit},
};

fn config(folder: &tempfile::TempDir) -> SqliteConfig {
    SqliteConfig::new(folder.path().join("agent.db"))
}

fn plan(db: &Connection, sql: &str, params: &[&dyn ToSql]) -> String {
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = explain.query_map(params, |row| row.get::<_, String>(3)).unwrap();
    steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
}

#[test]
fn every_statement_uses_an_index_and_none_sorts() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&config(&folder), Role::Writer).unwrap();
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
    let pool = Pool::open(Role::Writer, 1, &Arc::new(config(&folder))).await.unwrap();
    let panicked = pool.visit((), |db| -> Result<(), Fault> {
        db.execute_batch("BEGIN IMMEDIATE; INSERT INTO kv_store VALUES ('deal:1', '1', NULL)")?;
        panic!("on purpose");
    });
    assert!(matches!(panicked.await, Err(Fault::Lost(_))));
    let count = |sql| pool.visit((), move |db| Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?));
    assert_eq!(count("SELECT count(*) FROM kv_store").await.unwrap(), 0, "the transaction was undone");
}

#[tokio::test]
async fn a_connection_whose_thread_ended_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Pool::open(Role::Writer, 1, &Arc::new(config(&folder))).await.unwrap();
    pool.end_threads().await;
    assert!(matches!(pool.visit((), |_| Ok(1)).await, Err(Fault::Lost(_))));
    assert_eq!(pool.visit((), |_| Ok(1)).await.unwrap(), 1);
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
    let work: Box<Work> = Box::new(work);
    Write {
        call: Arc::clone(call),
        weight: 1,
        steps: Steps::Many,
        work,
        _lease: store.lifecycle.enter().unwrap(),
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
    let db = open(&config(&folder), Role::Writer).unwrap();
    let (answers, loses_connection) = commit(&db, &config(&folder), &writes);
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
    let db = open(&config(&folder), Role::Writer).unwrap();
    let (answers, loses_connection) = commit(&db, &config(&folder), &writes);
    assert!(loses_connection, "the next group opens it again");
    assert!(matches!(&answers[..], [Ok(1), Err(_), Ok(1)]));
    let count: i64 = db.query_row("SELECT count(*) FROM kv_store", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn reads_are_done_at_once_where_a_connection_is_free_and_the_file_is_not_locked() {
    let folder = tempfile::tempdir().unwrap();
    let config = Arc::new(config(&folder));
    let db = open(&config, Role::Writer).unwrap();
    let big = format!("\"{}\"", "x".repeat(70_000));
    db.execute("INSERT INTO kv_store VALUES ('deal:1', '1', NULL), ('deal:big', ?1, NULL)", [big]).unwrap();
    let inline = Inline::new(&config, Arc::default());
    assert!(inline.look(Asked::Value, "deal:1").is_none(), "no connection is open yet");
    inline.grow();
    inline.grow();
    assert!(format!("{inline:?}").contains("open: 1"), "one is idle, so no second is needed");
    let found = |key| inline.look(Asked::Value, key).map(Result::unwrap);
    assert!(matches!(found("deal:1"), Some(Found::Value(Some(_)))));
    assert!(matches!(found("deal:2"), Some(Found::Value(None))));
    assert!(matches!(found("deal:big"), Some(Found::Large)));

    // Without a write-ahead log, as on some file systems, a writer locks readers out.
    inline.close();
    let mode: String = db.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    inline.grow();
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    assert!(inline.look(Asked::Value, "deal:1").is_none(), "a reader's thread waits for the lock");
    assert!(start.elapsed() < config.busy_timeout);
    db.execute_batch("COMMIT").unwrap();
    assert!(inline.look(Asked::Value, "deal:1").is_some());
}

#[tokio::test]
async fn reads_that_wait_together_share_one_state_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = Arc::new(SqliteConfig { readers: 1, ..config(&folder) });
    let store = connected((*config).clone()).await;
    let db = open(&config, Role::Writer).unwrap();
    db.execute_batch("INSERT INTO kv_store VALUES ('deal:1', '1', NULL), ('deal:bad', 'NaN', 1e300)")
        .unwrap();
    let readers = Pool::open(Role::Reader, 1, &config).await.unwrap();
    let inline = Arc::new(Inline::new(&config, Arc::default()));
    let reads = Reads { readers: Arc::clone(&readers), inline: Arc::clone(&inline), config };
    let group = || {
        let asked = [
            (Asked::Value, "deal:1"),
            (Asked::Value, "deal:bad"),
            (Asked::Value, "deal:2"),
            (Asked::Expiry, "deal:bad"),
        ];
        let read = |(asked, key): (Asked, &str)| Read {
            key: key.to_owned(),
            asked,
            _lease: store.lifecycle.enter().unwrap(),
        };
        asked.map(read).into()
    };
    let check = |found: &[storage_core::Result<Found>]| {
        assert!(matches!(found[0], Ok(Found::Value(Some(_)))));
        assert_eq!(found[1].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(matches!(found[2], Ok(Found::Value(None))));
        assert!(matches!(found[3], Ok(Found::Expiry(Some(_)))));
    };
    check(&reads.run(group()).await);
    assert!(
        inline.look(Asked::Value, "deal:1").is_some(),
        "the visit opened a connection for those who come next"
    );
    readers.end_threads().await;
    check(&reads.run(group()).await);
    db.execute_batch("INSERT INTO kv_store VALUES ('deal:2', '2', NULL)").unwrap();
    assert!(matches!(reads.run(group()).await[2], Ok(Found::Value(Some(_)))), "no old state is kept");
}
