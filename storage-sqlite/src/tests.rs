//! What only the inside can tell: the plans of the statements, and a connection that is lost.

use std::sync::Arc;

use storage_core::{ErrorKind, Glob};
use tokio_rusqlite::rusqlite::{Connection, ToSql};

use crate::{
    SqliteConfig,
    error::Fault,
    pool::Pool,
    scan::{ENTRIES, KEYS, upper_bound},
    schema::{Role, open},
    sql::{EXPIRES_AT, GET, REMOVE, SET_EXPIRY, SWEEP},
    store::Store,
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
    let table: [(&str, &[&dyn ToSql], &str); 8] = [
        (KEYS, &[&"deal:", &bound], by_range),
        (ENTRIES, &[&"deal:", &bound], by_range),
        (ENTRIES, &[&"", &open_end], by_range),
        (GET, &[&"deal:1"], by_key),
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
        move |_: &crate::sql::View<'_>| match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Err(Fault::Lost(storage_core::Error::new(ErrorKind::Unavailable, "gone"))),
            tries => Ok(tries),
        }
    };
    assert_eq!(store.read(fail_once).await.unwrap(), 1);
}
