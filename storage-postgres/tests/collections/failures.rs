use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use storage_core::{ErrorKind, StorageBackend};

use crate::{
    all, assert_whole, commit,
    common::{config, eventually, open, outside, schema, unique},
    partition, store,
};

const KILL: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
const OPEN: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state LIKE 'idle in%'";

#[tokio::test(flavor = "multi_thread")]
async fn commits_whose_connections_are_killed_happen_whole_or_not_at_all() {
    let mut config = config("killed commits");
    config.application_name = unique("killed");
    let backend = Arc::new(open(config.clone()));
    backend.connect().await.unwrap();
    let end = Instant::now() + Duration::from_secs(4);
    let callers = (0..12).map(|caller| {
        let backend = Arc::clone(&backend);
        let whole = caller % 2 == 0;
        tokio::spawn(async move {
            let mut answers = Vec::new();
            while Instant::now() < end {
                let body = format!("{caller}:{}", answers.len());
                let commit = commit(&partition(if whole { "whole" } else { "short" }), &body, whole);
                answers.push((body, store(&backend).commit(commit).await.err().map(|error| error.kind())));
            }
            answers
        })
    });
    let callers = join_all(callers);
    let killer = async {
        let client = outside().await;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(40)).await;
            client.query_one(KILL, &[&config.application_name]).await.unwrap();
        }
    };
    let (callers, ()) = futures::future::join(callers, killer).await;
    for whole in [true, false] {
        let of = partition(if whole { "whole" } else { "short" });
        let mut tries = 0;
        eventually("commits succeed again", async || {
            tries += 1;
            store(&backend).commit(commit(&of, &format!("last:{tries}"), whole)).await.is_ok()
        })
        .await;
        let bodies = assert_whole(&backend, &of, whole).await;
        let stored: BTreeSet<_> = bodies.iter().cloned().collect();
        assert_eq!(stored.len(), bodies.len(), "each once");
        let mut failed = 0;
        for (caller, answers) in callers.iter().enumerate().filter(|(caller, _)| (caller % 2 == 0) == whole) {
            for (body, answer) in answers.as_ref().unwrap() {
                match answer {
                    None => assert!(stored.contains(body), "an acknowledged one is missing: {caller}"),
                    Some(ErrorKind::Unavailable | ErrorKind::Timeout) => {
                        assert!(!stored.contains(body), "nothing was applied");
                    }
                    Some(kind) => assert_eq!(*kind, ErrorKind::OutcomeUnknown),
                }
                failed += usize::from(answer.is_some());
            }
        }
        assert!(failed > 0, "else this test shows nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_whose_callers_went_away_leave_no_transaction_open() {
    for pooler in [false, true] {
        let mut config = config("left commits");
        config.application_name = unique("left");
        config.pool_max = 2;
        config.pooler = pooler;
        let backend = open(config.clone());
        backend.connect().await.unwrap();
        for round in 0..300_u64 {
            let commit = commit(&partition("s"), "x", round % 3 > 0);
            let patience = Duration::from_micros(round % 100 * 40);
            drop(tokio::time::timeout(patience, store(&backend).commit(commit)).await);
        }
        let items = all(&backend, &partition("s")).await;
        let messages = items.iter().filter(|item| item.sort != "count").count();
        assert_eq!(messages % 3, 0, "three of each commit");
        let client = outside().await;
        eventually("no transaction is open", async || {
            client.query_one(OPEN, &[&config.application_name]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        let connections: i64 = client.query_one(sql, &[&config.application_name]).await.unwrap().get(0);
        assert!(connections <= 2, "{connections} connections");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_get_the_lock_ends_in_time_and_changed_nothing() {
    let mut config = config("locked");
    config.application_name = unique("locked");
    config.operation_timeout = Duration::from_millis(1_500);
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    let of = partition("s");
    let first = store(&backend).commit(commit(&of, "first", true)).await.unwrap();
    let mut client = outside().await;
    let lock = client.transaction().await.unwrap();
    let sql = format!("SELECT FROM {}.storage_partition FOR UPDATE", schema(&config));
    lock.execute(&sql, &[]).await.unwrap();
    let start = Instant::now();
    let error = store(&backend).commit(commit(&of, "late", true)).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Timeout, Some("conversation:s")));
    assert!(start.elapsed() < Duration::from_secs(5));
    let read = store(&backend).partition(&of).await.unwrap().unwrap();
    assert_eq!(read.version, first.version, "readers wait for nobody");
    lock.rollback().await.unwrap();
    let client = outside().await;
    eventually("no transaction is open", async || {
        client.query_one(OPEN, &[&config.application_name]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    store(&backend).commit(commit(&of, "second", true)).await.unwrap();
    assert_eq!(assert_whole(&backend, &of, true).await, ["first", "second"]);
}
