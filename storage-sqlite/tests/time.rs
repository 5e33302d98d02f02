//! Deadlines, cancellation, and a file that others keep locked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Place, connected, json};
use futures::future::join_all;
use storage_core::{Batch, ErrorKind, StorageBackend, StorageExt};
use storage_sqlite::SqliteConfig;

const LIMIT: Duration = Duration::from_millis(300);
/// What a loaded machine may add to a deadline.
const MARGIN: Duration = Duration::from_secs(3);

fn hasty(place: &Place) -> SqliteConfig {
    SqliteConfig { operation_timeout: LIMIT, ..place.config() }
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_a_timeout_that_applies_nothing() {
    let place = Place::new();
    let backend = connected(hasty(&place)).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    // One holds the writer, the others wait in line behind it.
    let writes = (0..20).map(|number| backend.set("deal:1", json(&format!("{}", number + 2)), None));
    for answer in join_all(writes).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(start.elapsed() < LIMIT + MARGIN);
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")), "readers go on");
    other.execute_batch("COMMIT").unwrap();
    tokio::time::sleep(LIMIT).await;
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")), "nothing is applied later");
    backend.set("deal:1", json("9"), None).await.unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("9")));
}

#[tokio::test]
async fn a_busy_timeout_below_the_deadline_counts() {
    let place = Place::new();
    let backend = connected(SqliteConfig { busy_timeout: Duration::from_millis(50), ..place.config() }).await;
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    let error = backend.set("deal:1", json("1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!((error.operation(), error.key()), (Some("set"), Some("deal:1")));
    assert!(start.elapsed() < Duration::from_secs(4), "the deadline of 5 s was not needed");
}

#[tokio::test]
async fn a_batch_that_outlasts_its_deadline_is_undone() {
    let place = Place::new();
    let backend =
        connected(SqliteConfig { operation_timeout: Duration::from_millis(200), ..place.config() }).await;
    let entries = (0..300_000).fold(Batch::new(), |batch, n| batch.set(format!("deal:{n}"), json("1"), None));
    let error = backend.apply(entries).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let patient = place.connected().await;
    patient.set("order:1", json("1"), None).await.unwrap();
    assert_eq!(patient.keys("*").await.unwrap(), ["order:1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_calls_happen_whole_or_not_at_all_and_block_nobody() {
    let place = Place::new();
    let backend = Arc::new(place.connected().await);
    let tasks = (0..64).map(|task: u64| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            for round in 0..20 {
                let batch = Batch::new().set(format!("left:{task}:{round}"), json("1"), None).set(
                    format!("right:{task}:{round}"),
                    json("1"),
                    None,
                );
                let moment = Duration::from_micros((task * 37 + round * 113) % 2_000);
                let _ = tokio::time::timeout(moment, backend.apply(batch)).await;
                let _ = tokio::time::timeout(moment / 4, backend.keys("left:*")).await;
            }
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    backend.set("done:1", json("1"), None).await.unwrap();
    let left = backend.keys("left:*").await.unwrap();
    let right = backend.keys("right:*").await.unwrap();
    assert_eq!(
        left.iter().map(|key| &key[4..]).collect::<Vec<_>>(),
        right.iter().map(|key| &key[5..]).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn disconnect_waits_for_writes_under_way() {
    let place = Place::new();
    let backend = Arc::new(place.connected().await);
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let write = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.set("deal:1", json("1"), None).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let closing = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.disconnect().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!closing.is_finished(), "a write is under way");
    assert_eq!(backend.get("deal:1").await.unwrap_err().kind(), ErrorKind::NotConnected);
    other.execute_batch("COMMIT").unwrap();
    write.await.unwrap().unwrap();
    closing.await.unwrap().unwrap();
    backend.connect().await.unwrap();
    assert!(backend.exists("deal:1").await.unwrap());
}

#[tokio::test]
async fn an_abandoned_scan_holds_up_neither_readers_nor_disconnect() {
    use futures::StreamExt;
    use storage_core::{Entry, Scan};

    let place = Place::new();
    let backend = connected(SqliteConfig { readers: 1, ..place.config() }).await;
    let entries = (0..2_000).map(|n| Entry::new(format!("deal:{n:05}"), json("1")));
    backend.set_many(entries.collect()).await.unwrap();
    let mut scan = backend.records(Scan::entries("deal:*").unwrap());
    assert_eq!(scan.next().await.unwrap().unwrap().key, "deal:00000");
    assert!(backend.exists("deal:00000").await.unwrap());
    backend.disconnect().await.unwrap();
    let rest: Vec<_> = scan.collect().await;
    assert_eq!(rest.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(rest.len() < 2_000, "what was read ahead, then the error");
}
