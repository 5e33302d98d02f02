//! What health says where reads or writes do not work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::time::Duration;

use common::{Place, connected, json};
use storage_core::{HEALTH_KEY, StorageBackend, StoreHealth};
use storage_sqlite::{SqliteBackend, SqliteConfig};
#[cfg(unix)]
use storage_tests::SmallDisk;

async fn health(backend: &SqliteBackend) -> StoreHealth {
    backend.health().await.stores.remove(0)
}

#[tokio::test]
async fn a_check_writes_and_leaves_nothing_behind() {
    let place = Place::new();
    let backend = place.connected().await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    let log = place.folder.path().join("agent.db-wal");
    let before = std::fs::metadata(&log).unwrap().len();
    let found = health(&backend).await;
    assert!(found.reads() && found.writes() && found.behind.is_none(), "{found:?}");
    assert!(std::fs::metadata(&log).unwrap().len() > before, "it wrote");
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    assert!(!backend.exists(HEALTH_KEY).await.unwrap());
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_stops_writes_alone() {
    let place = Place::new();
    let busy_timeout = Duration::from_millis(100);
    let backend = connected(SqliteConfig { busy_timeout, ..place.config() }).await;
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let found = health(&backend).await;
    assert!(found.reads() && !found.writes(), "{found:?}");
    assert!(found.write_error.unwrap().contains("lock"));
    other.execute_batch("ROLLBACK").unwrap();
    assert!(health(&backend).await.writes());
}

#[tokio::test]
async fn a_row_that_cannot_be_written_stops_writes_alone() {
    let place = Place::new();
    let backend = place.connected().await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON kv_store BEGIN SELECT raise(ABORT, 'no'); END";
    place.outside().execute_batch(trigger).unwrap();
    let found = health(&backend).await;
    assert!(found.reads() && !found.writes(), "{found:?}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_stops_writes_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let test = async |disk: &SmallDisk| {
        let backend = connected(SqliteConfig::new(disk.path().join("agent.db"))).await;
        backend.set("deal:1", json("1"), None).await.unwrap();
        disk.fill(0).unwrap();
        let found = health(&backend).await;
        assert!(found.reads() && !found.writes(), "{found:?}");
        assert!(!disk.is_mounted() || found.write_error.unwrap().contains("the disk is full"));
        disk.free().unwrap();
        let found = health(&backend).await;
        assert!(found.reads() && found.writes(), "{found:?}");
    };
    SmallDisk::run(1024 * 1024, "a_full_disk_stops_writes_alone", |disk| runtime.block_on(test(disk)))
        .unwrap();
}

#[tokio::test]
async fn a_backend_that_is_not_connected_is_unhealthy() {
    let backend = SqliteBackend::new(Place::new().config()).unwrap();
    let found = health(&backend).await;
    assert!(!found.reads() && !found.writes());
}
