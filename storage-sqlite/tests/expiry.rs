//! Expired rows: gone at once, removed later, and never a value written since.
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
    time::{Duration, UNIX_EPOCH},
};

use common::{Place, connected, json};
use storage_core::{Clock, Entry, Expiry, ManualClock, StorageBackend, StorageExt, SweepConfig};
use storage_sqlite::SqliteConfig;

const SECOND: Duration = Duration::from_secs(1);

fn manual(place: &Place) -> (Arc<ManualClock>, SqliteConfig) {
    let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(1_795_000_000_123)));
    let config = SqliteConfig { clock: clock.clone(), sweep: None, ..place.config() };
    (clock, config)
}

fn rows(place: &Place) -> i64 {
    place.outside().query_row("SELECT count(*) FROM kv_store", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn an_entry_expires_at_its_millisecond() {
    let place = Place::new();
    let (clock, config) = manual(&place);
    let backend = connected(config).await;
    backend.set("quote:1", json("1"), Some(SECOND)).await.unwrap();
    assert_eq!(backend.ttl("quote:1").await.unwrap(), Some(Expiry::After(SECOND)));
    clock.advance(Duration::from_millis(999));
    assert!(backend.exists("quote:1").await.unwrap());
    assert_eq!(backend.ttl("quote:1").await.unwrap(), Some(Expiry::After(Duration::from_millis(1))));
    clock.advance(Duration::from_millis(1));
    assert!(!backend.exists("quote:1").await.unwrap());
    assert!(backend.keys("*").await.unwrap().is_empty());
    assert_eq!(rows(&place), 1, "reading removes nothing");
}

#[tokio::test]
async fn cleanup_removes_more_than_one_batch_and_nothing_else() {
    let place = Place::new();
    let (clock, config) = manual(&place);
    let config = SqliteConfig { sweep: Some(SweepConfig { interval: 3_600 * SECOND, batch: 100 }), ..config };
    let backend = connected(config).await;
    let entries = (0..250).map(|n| Entry::new(format!("quote:{n}"), json("1")).with_ttl(SECOND));
    backend.set_many(entries.collect()).await.unwrap();
    backend.set("quote:later", json("1"), Some(5 * SECOND)).await.unwrap();
    backend.set("deal:1", json("1"), None).await.unwrap();
    clock.advance(2 * SECOND);
    backend.set("quote:7", json("2"), None).await.unwrap();
    assert_eq!(backend.cleanup().await.unwrap(), 249);
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1", "quote:7", "quote:later"]);
    assert_eq!(rows(&place), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sweep_never_removes_a_value_written_since() {
    let place = Arc::new(Place::new());
    let (clock, config) = manual(&place);
    let (writer, sweeper) = (connected(config.clone()).await, connected(config).await);
    let sweeping = tokio::spawn(async move {
        loop {
            sweeper.cleanup().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for round in 0..100 {
        writer.set("quote:1", json("0"), Some(SECOND)).await.unwrap();
        clock.advance(2 * SECOND);
        writer.set("quote:1", json(&round.to_string()), None).await.unwrap();
        assert_eq!(writer.get("quote:1").await.unwrap(), Some(json(&round.to_string())));
    }
    sweeping.abort();
}

#[tokio::test]
async fn the_background_sweep_removes_rows() {
    let place = Place::new();
    let sweep = SweepConfig { interval: Duration::from_millis(50), batch: 2 };
    let backend = connected(SqliteConfig { sweep: Some(sweep), ..place.config() }).await;
    for number in 0..5 {
        backend.set(&format!("quote:{number}"), json("1"), Some(Duration::from_millis(1))).await.unwrap();
    }
    backend.set("deal:1", json("1"), None).await.unwrap();
    let swept = async {
        while rows(&place) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(10 * SECOND, swept).await.expect("the sweep runs by itself");
    backend.disconnect().await.unwrap();
}

#[tokio::test]
async fn scans_tell_the_expiry_to_the_millisecond() {
    use futures::TryStreamExt;
    use storage_core::{Clock, Scan};

    let place = Place::new();
    let (clock, config) = manual(&place);
    let backend = connected(config).await;
    backend.set("quote:1", json("1"), Some(Duration::from_millis(1_001))).await.unwrap();
    backend.set("quote:2", json("1"), None).await.unwrap();
    let scan = Scan::keys("quote:*").unwrap().with_expiry();
    let found: Vec<_> = backend.records(scan).try_collect().await.unwrap();
    assert_eq!(found[0].expires_at, Some(clock.now() + Duration::from_millis(1_001)));
    assert_eq!(found[1].expires_at, None);
}

/// A lock that had expired stays so where the clock is put back, and a deletion takes the row of an expired entry with it: also
/// another process, whose clock was never ahead, sees nothing of it.
#[tokio::test]
async fn a_clock_that_is_put_back_revives_nothing() {
    let place = Place::new();
    let (clock, config) = manual(&place);
    let start = clock.now();
    let backend = connected(config).await;
    for key in ["lock:kept", "lock:deleted"] {
        backend.set(key, json("1"), Some(SECOND)).await.unwrap();
    }
    clock.advance(2 * SECOND);
    assert!(!backend.exists("lock:kept").await.unwrap());
    assert!(!backend.delete("lock:deleted").await.unwrap());
    assert_eq!(rows(&place), 1);
    clock.set(start);
    assert!(!backend.exists("lock:kept").await.unwrap());
    assert_eq!(backend.get("lock:kept").await.unwrap(), None);
    assert!(backend.keys("*").await.unwrap().is_empty());
    clock.advance(SECOND);
    backend.set("lock:new", json("1"), Some(SECOND)).await.unwrap();
    clock.advance(SECOND);
    assert!(!backend.exists("lock:new").await.unwrap(), "time goes on from where it stood");
}
