//! Frequent reads, and what others do to the file meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::{fs, sync::Arc, time::Duration};

use common::{Place, json};
use rusqlite::Connection;
use storage_core::StorageBackend;
use storage_sqlite::SqliteBackend;
use tokio::{task::JoinHandle, time::Instant};

/// Long enough for thousands of reads.
const SETTLED: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(30);

/// Reads without a pause until it is aborted.
fn read_on(backend: &Arc<SqliteBackend>) -> JoinHandle<()> {
    let backend = Arc::clone(backend);
    tokio::spawn(async move {
        loop {
            backend.get("deal:1").await.unwrap().unwrap();
        }
    })
}

async fn place_with_an_entry() -> (Place, Arc<SqliteBackend>) {
    let place = Place::new();
    let backend = Arc::new(place.connected().await);
    backend.set("deal:1", json("1"), None).await.unwrap();
    (place, backend)
}

/// Which run of the log this is: it begins anew with another salt.
fn run_of_the_log(place: &Place) -> Vec<u8> {
    fs::read(place.folder.path().join("agent.db-wal")).unwrap()[16..24].to_vec()
}

/// Whether all of the WAL could be checkpointed, without waiting for anybody.
fn empties_the_log(db: &Connection) -> bool {
    db.busy_timeout(Duration::ZERO).unwrap();
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    busy == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frequent_reads_do_not_keep_another_writer_from_starting_the_log_anew() {
    let (place, backend) = place_with_an_entry().await;
    let reader = read_on(&backend);
    let other = place.outside();
    other.pragma_update(None, "wal_autocheckpoint", 8).unwrap();
    let (first, start) = (run_of_the_log(&place), Instant::now());
    while run_of_the_log(&place) == first {
        assert!(start.elapsed() < LIMIT, "the log only grows");
        other.execute("UPDATE kv_store SET value = value || ' '", []).unwrap();
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    reader.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_wrote_is_seen_by_the_next_of_frequent_reads() {
    let (place, backend) = place_with_an_entry().await;
    let reader = read_on(&backend);
    let other = place.outside();
    for number in 2..200 {
        other.execute("UPDATE kv_store SET value = ?1", [number.to_string()]).unwrap();
        assert_eq!(backend.get("deal:1").await.unwrap().unwrap().as_str(), number.to_string());
        tokio::time::sleep(Duration::from_millis(number % 7)).await;
    }
    reader.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_held_once_reads_have_ended() {
    let (place, backend) = place_with_an_entry().await;
    let reader = read_on(&backend);
    tokio::time::sleep(SETTLED).await;
    reader.abort();
    backend.set("deal:1", json("2"), None).await.unwrap();
    tokio::time::sleep(SETTLED).await;
    assert!(empties_the_log(&place.outside()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnecting_amid_frequent_reads_closes_the_file() {
    let (place, backend) = place_with_an_entry().await;
    let reader = read_on(&backend);
    tokio::time::sleep(SETTLED).await;
    reader.abort();
    backend.disconnect().await.unwrap();
    let names: Vec<_> =
        fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["agent.db"]);
}

#[test]
fn a_runtime_that_ends_amid_frequent_reads_leaves_no_lock() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let (place, backend) = first.block_on(async {
        let (place, backend) = place_with_an_entry().await;
        let _reader = read_on(&backend);
        tokio::time::sleep(SETTLED).await;
        (place, backend)
    });
    first.shutdown_timeout(SETTLED);
    let other = place.outside();
    other.execute("UPDATE kv_store SET value = '2'", []).unwrap();
    assert!(empties_the_log(&other));
    // And another runtime goes on reading.
    runtime().block_on(async {
        for _ in 0..1_000 {
            backend.get("deal:1").await.unwrap();
        }
    });
}
