//! Calls that are kept without being polled, runtimes that end or stand still, callers without one.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, executor::block_on};
use storage_core::{Batch, Entry, ErrorKind, Expected, Json, Scan, StorageBackend, StorageExt};
use storage_postgres::{PostgresBackend, PostgresConfig};
use tokio::runtime::{Builder, Runtime};

use crate::common::{config, eventually, open, outside, schema, unique};

const DEADLINE: Duration = Duration::from_secs(5);
const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";

type Kept<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn named(name: &str) -> PostgresConfig {
    let mut config = config(name);
    config.application_name = unique(name);
    config
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn several() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn nothing_is_open(config: &PostgresConfig) {
    let client = outside().await;
    eventually("the server sees the connections closed", async || {
        client.query_one(CONNECTIONS, &[&config.application_name]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

/// Reads and writes for a while: somebody gets on in each half second, or less often on a busy machine but sooner than calls end
/// at their deadlines, and everybody in the end.
async fn goes_on(backend: &Arc<PostgresBackend>, callers: usize, halves: u32) {
    let done: Arc<Vec<AtomicU64>> = Arc::new((0..callers).map(|_| AtomicU64::new(0)).collect());
    let calls: Vec<_> = (0..callers)
        .map(|caller| {
            let (backend, done) = (Arc::clone(backend), Arc::clone(&done));
            tokio::spawn(async move {
                let key = format!("c:{caller}");
                loop {
                    backend.set(&key, Json::from(1), None).await.unwrap();
                    assert!(backend.get(&key).await.unwrap().is_some());
                    done[caller].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let count = || done.iter().map(|done| done.load(Ordering::Relaxed)).collect::<Vec<_>>();
    // Connections have to be opened first.
    eventually("every caller gets somewhere", async || count().iter().all(|done| *done > 0)).await;
    let mut before = count();
    for half in 0..halves {
        let start = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(500)).await;
        while count() == before {
            assert!(start.elapsed() < Duration::from_secs(4), "half second {half}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        before = count();
    }
    eventually("every caller goes on", async || {
        count().iter().zip(&before).all(|(now, before)| now > before)
    })
    .await;
    for call in calls {
        call.abort();
        assert!(call.await.is_err_and(|error| error.is_cancelled()), "a call failed");
    }
}

/// A call of each kind that is polled once and kept.
fn kept(backend: &PostgresBackend) -> Vec<Kept<'_>> {
    let mut kept: Vec<Kept<'_>> = Vec::new();
    for _ in 0..100 {
        kept.push(Box::pin(async { drop(backend.get("k").await) }));
        kept.push(Box::pin(async { drop(backend.set("k", Json::from(1), None).await) }));
    }
    for _ in 0..20 {
        kept.push(Box::pin(async { drop(backend.get_many(&["k", "l"]).await) }));
        kept.push(Box::pin(async { drop(backend.increment("n", 1, None).await) }));
        kept.push(Box::pin(async {
            drop(backend.apply(Batch::new().set("a", Json::from(1), None).delete("b")).await);
        }));
        let swap = backend.compare_and_set("s", Expected::Absent, Some(Json::from(1)), None);
        kept.push(Box::pin(async { drop(swap.await) }));
        kept.push(Box::pin(async { drop(backend.records(Scan::keys("*").unwrap()).next().await) }));
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_polled_once_and_kept_block_nobody() {
    let config = named("kept");
    let backend = Arc::new(open(config.clone()));
    backend.connect().await.unwrap();
    let mut calls = kept(&backend);
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    goes_on(&backend, 16, 4).await;
    // A stream between two of its pages, and a disconnect that is kept too.
    backend
        .set_many((0..5_000).map(|n| Entry::new(format!("p:{n}"), Json::from(1))).collect())
        .await
        .unwrap();
    let mut scan = backend.records(Scan::keys("p:*").unwrap());
    assert!(scan.next().await.unwrap().is_ok());
    let start = Instant::now();
    let mut closing = Box::pin(backend.disconnect());
    assert!(futures::poll!(&mut closing).is_pending());
    backend.disconnect().await.unwrap();
    assert!(start.elapsed() < DEADLINE);
    nothing_is_open(&config).await;
    let ended = scan.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::NotConnected);
    drop((calls, closing));
}

#[test]
fn any_runtime_and_none_may_call() {
    let config = named("runtimes");
    let backend = Arc::new(open(config.clone()));
    let home = several();
    home.block_on(backend.connect()).unwrap();
    home.block_on(goes_on(&backend, 4, 1));
    several().block_on(goes_on(&backend, 4, 1));
    single().block_on(goes_on(&backend, 4, 1));
    let calls = async {
        backend.set("k", Json::from(1), None).await.unwrap();
        assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(1)));
        assert_eq!(backend.increment("n", 2, None).await.unwrap(), 2);
        assert_eq!(backend.records(Scan::keys("k").unwrap()).count().await, 1);
        assert!(backend.health().await.stores[0].writes());
    };
    block_on(calls);
    block_on(backend.disconnect()).unwrap();
    single().block_on(nothing_is_open(&config));
}

#[test]
fn a_thread_without_a_runtime_connects() {
    let config = named("none");
    let backend = Arc::new(open(config.clone()));
    block_on(backend.connect()).unwrap();
    block_on(backend.set("k", Json::from(1), None)).unwrap();
    single().block_on(goes_on(&backend, 4, 1));
    block_on(backend.disconnect()).unwrap();
    single().block_on(nothing_is_open(&config));
}

#[test]
fn the_end_of_the_runtime_that_connected_stops_nobody_else() {
    let config = named("ended");
    let backend = Arc::new(open(config.clone()));
    let home = several();
    home.block_on(backend.connect()).unwrap();
    // Calls of its own are under way when it ends.
    for caller in 0..8 {
        let backend = Arc::clone(&backend);
        home.spawn(async move {
            loop {
                drop(backend.set(&format!("h:{caller}"), Json::from(1), None).await);
                drop(backend.increment("n", 1, None).await);
            }
        });
    }
    let ends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        drop(home);
    });
    let other = several();
    other.block_on(goes_on(&backend, 8, 4));
    ends.join().unwrap();
    let start = Instant::now();
    other.block_on(backend.disconnect()).unwrap();
    assert!(start.elapsed() < DEADLINE);
    other.block_on(nothing_is_open(&config));
    other.block_on(async {
        backend.connect().await.unwrap();
        goes_on(&backend, 4, 1).await;
    });
}

#[test]
fn a_runtime_that_computes_stops_nobody_else() {
    let backend = Arc::new(open(named("computes")));
    let home = single();
    home.block_on(backend.connect()).unwrap();
    let computes = thread::spawn({
        let backend = Arc::clone(&backend);
        move || {
            home.block_on(async {
                let mut calls: Vec<_> =
                    (0..4).map(|_| Box::pin(backend.set("k", Json::from(1), None))).collect();
                for call in &mut calls {
                    assert!(futures::poll!(call).is_pending());
                }
                thread::sleep(Duration::from_secs(6));
                // Its own calls may be late: nothing reads what the server has answered them meanwhile.
                for call in calls {
                    drop(call.await);
                }
            });
        }
    });
    several().block_on(goes_on(&backend, 8, 2));
    assert!(!computes.is_finished(), "they waited for it");
    computes.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_whose_caller_gives_up_still_closes_and_a_second_one_waits_for_it() {
    let config = named("given up");
    let backend = Arc::new(open(config.clone()));
    backend.connect().await.unwrap();
    backend.set("k", Json::from(1), None).await.unwrap();
    let mut client = outside().await;
    let lock = client.transaction().await.unwrap();
    lock.execute(&format!("SELECT 1 FROM {}.kv_store FOR UPDATE", schema(&config)), &[]).await.unwrap();
    let write = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.set("k", Json::from(2), None).await }
    });
    eventually("the write waits for the lock", async || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
        outside().await.query_one(sql, &[&config.application_name]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    drop(tokio::time::timeout(Duration::from_millis(20), backend.disconnect()).await);
    assert_eq!(backend.get("k").await.unwrap_err().kind(), ErrorKind::NotConnected);
    let second = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.disconnect().await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!second.is_finished(), "a write is under way");
    lock.rollback().await.unwrap();
    write.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    nothing_is_open(&config).await;
}

/// Results of many megabytes, which take more reads than tokio lets one task have at a time, end like others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_takes_many_reads_ends() {
    let mut config = named("large");
    config.operation_timeout = Duration::from_secs(20);
    let backend = Arc::new(open(config));
    backend.connect().await.unwrap();
    let value = Json::parse(format!("\"{}\"", "x".repeat(1 << 10))).unwrap();
    let entries = (0..20_000).map(|number| Entry::new(format!("many:{number}"), value.clone()));
    backend.set_many(entries.collect()).await.unwrap();
    let names: Vec<String> = (0..20_000).map(|number| format!("many:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let read = async {
        for _ in 0..3 {
            assert_eq!(backend.get_many(&names).await.unwrap().len(), names.len());
            let scan = Scan::entries("many:*").unwrap();
            let found: Vec<_> = backend.records(scan).try_collect().await.unwrap();
            assert_eq!(found.len(), names.len());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the reads end");
    backend.disconnect().await.unwrap();
}
