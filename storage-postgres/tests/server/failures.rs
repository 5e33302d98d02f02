use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use storage_core::{Batch, ErrorKind, Json, StorageBackend};

use crate::common::{config, eventually, open, outside, schema, unique};

const KILL: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";

#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_connections_are_killed_fail_with_the_right_kind_and_then_work_again() {
    let mut config = config("killed");
    config.application_name = unique("killed");
    let backend = Arc::new(open(config.clone()));
    backend.connect().await.unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let callers = (0..16).map(|caller| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let key = format!("k:{caller}");
            let mut wrong = Vec::new();
            while Instant::now() < end {
                let read = backend.get(&key).await.err().map(|error| error.kind());
                let write = backend.set(&key, Json::from(1), None).await.err().map(|error| error.kind());
                wrong.extend(read.filter(|kind| *kind != ErrorKind::Unavailable));
                wrong.extend(
                    write.filter(|kind| !matches!(kind, ErrorKind::Unavailable | ErrorKind::OutcomeUnknown)),
                );
            }
            wrong
        })
    });
    let callers = join_all(callers);
    let killer = async {
        let client = outside().await;
        while Instant::now() < end {
            client.query_one(KILL, &[&config.application_name]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (callers, ()) = futures::future::join(callers, killer).await;
    for wrong in callers {
        assert_eq!(wrong.unwrap(), []);
    }
    backend.set("k", Json::from(2), None).await.unwrap();
    assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_that_were_killed_are_not_used() {
    let mut config = config("idle");
    config.application_name = unique("idle");
    config.pool_min = 3;
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    let client = outside().await;
    for _ in 0..5 {
        client.query_one(KILL, &[&config.application_name]).await.unwrap();
        // The server says goodbye before the process is gone; the connection's task hears it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        backend.set("k", Json::from(1), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_calls_leave_the_pool_usable_and_no_transaction_open() {
    let mut config = config("cancelled");
    config.application_name = unique("cancelled");
    config.pool_max = 2;
    let backend = Arc::new(open(config.clone()));
    backend.connect().await.unwrap();
    let client = outside().await;
    let open_transactions = async || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state LIKE 'idle in%'";
        client.query_one(sql, &[&config.application_name]).await.unwrap().get::<_, i64>(0)
    };
    for round in 0..200_u64 {
        let batch = Batch::new().set("a", Json::from(1), None).delete("b").set("c", Json::from(1), None);
        let patience = Duration::from_micros(round * 10);
        drop(tokio::time::timeout(patience, backend.apply(batch)).await);
        drop(tokio::time::timeout(patience, backend.increment("n", 1, None)).await);
    }
    backend.set("after", Json::from(1), None).await.unwrap();
    eventually("no transaction is open", async || open_transactions().await == 0).await;
    assert_eq!(backend.get("a").await.unwrap().is_some(), backend.get("c").await.unwrap().is_some());
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    let connections: i64 = client.query_one(sql, &[&config.application_name]).await.unwrap().get(0);
    assert!(connections <= 2, "{connections} connections");
}

/// Asked on a connection of its own: a transaction would see the same moment again and again.
async fn nothing_is_running(application_name: &str) {
    let client = outside().await;
    eventually("the server has ended the statement", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active'";
        client.query_one(sql, &[&application_name]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_answers_within_the_deadline() {
    let mut config = config("exhausted");
    config.application_name = unique("exhausted");
    config.pool_max = 1;
    config.operation_timeout = Duration::from_millis(1_500);
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    backend.set("k", Json::from(1), None).await.unwrap();
    let mut client = outside().await;
    let lock = client.transaction().await.unwrap();
    lock.execute(&format!("SELECT 1 FROM {}.kv_store FOR UPDATE", schema(&config)), &[]).await.unwrap();
    let start = Instant::now();
    let (blocked, waiting) =
        futures::future::join(backend.set("k", Json::from(2), None), backend.get("other")).await;
    let blocked = blocked.unwrap_err().kind();
    assert!(matches!(blocked, ErrorKind::OutcomeUnknown | ErrorKind::Timeout), "{blocked:?}");
    if let Err(error) = waiting {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    // Nothing goes on at the server after its caller gave up.
    nothing_is_running(&config.application_name).await;
    lock.rollback().await.unwrap();
    backend.set("k", Json::from(3), None).await.unwrap();
    assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_a_late_statement_is_cancelled() {
    let mut config = config("late");
    config.application_name = unique("late");
    config.pooler = true;
    config.operation_timeout = Duration::from_millis(1_500);
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    backend.set("k", Json::from(1), None).await.unwrap();
    let mut client = outside().await;
    let lock = client.transaction().await.unwrap();
    lock.execute(&format!("SELECT 1 FROM {}.kv_store FOR UPDATE", schema(&config)), &[]).await.unwrap();
    let error = backend.set("k", Json::from(2), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    nothing_is_running(&config.application_name).await;
    lock.rollback().await.unwrap();
    assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(1)));
}

#[tokio::test]
async fn a_read_only_database_takes_no_writes_and_says_so() {
    let config = config("read only");
    open(config.clone()).connect().await.unwrap();
    let url = format!("{}?options=-c%20default_transaction_read_only%3Don", crate::common::url());
    let mut reader = storage_postgres::PostgresConfig::from_url(&url).unwrap();
    reader.schema = config.schema;
    let backend = open(reader);
    backend.connect().await.unwrap();
    assert_eq!(backend.get("k").await.unwrap(), None);
    let error = backend.set("k", Json::from(1), None).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some("k")));
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ends_for_being_idle_cost_no_write() {
    let url = format!("{}?options=-c%20idle_session_timeout%3D1000", crate::common::url());
    let mut config = storage_postgres::PostgresConfig::from_url(&url).unwrap();
    config.schema = Some(unique("idle session"));
    config.pool_min = 3;
    let backend = Arc::new(open(config));
    backend.connect().await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        backend.set("k", Json::from(1), None).await.unwrap();
        backend.apply(Batch::new().set("a", Json::from(1), None).delete("b")).await.unwrap();
    }
}
