//! Batches that are acknowledged before they are in the home.

use std::time::{Duration, Instant};

use storage_core::{Json, StorageBackend};
use storage_managed::{DatabaseStore, Error, Managed, Options};
use storage_sqlite::SqliteBackend;

use crate::{Place, add, rows, rows_in_home};

fn gathering(place: &Place, cache: &str, every: Duration) -> Options {
    Options { publish_every: Some(every), ..place.options(cache) }
}

const LONG: Duration = Duration::from_secs(600);

async fn published(store: &DatabaseStore, generation: u64) {
    let started = Instant::now();
    while store.status().generation < generation || store.status().dirty {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", store.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_published_together_after_the_interval_and_the_status_tells_the_window() {
    let place = Place::new();
    let home = place.home();
    let options = gathering(&place, "a", Duration::from_millis(300));
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    assert_eq!(store.status().unpublished_for, None);
    home.take_log();
    for body in 0..20 {
        add(&store, &body.to_string()).await.unwrap();
    }
    let status = store.status();
    assert!(status.dirty && status.unpublished_for.is_some() && status.publications == 0, "{status:?}");
    assert_eq!(rows(&store).await.len(), 20, "they are here");
    published(&store, 1).await;
    let status = store.status();
    assert_eq!((status.publications, status.unpublished_for), (1, None));
    let sent = home.take_log().iter().filter(|request| request.contains(" base/")).count();
    assert_eq!((sent, rows_in_home(&place).await.len()), (1, 20));
    // What fails or changes nothing leaves nothing to publish.
    store.for_write(|db| db.execute_batch("SELECT nothing")).await.unwrap_err();
    store.for_write(|db| db.execute_batch("SELECT 1")).await.unwrap();
    published(&store, 1).await;
    assert_eq!(store.status().publications, 1);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_publishes_and_so_does_what_needs_the_home() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), gathering(&place, "a", LONG)).await.unwrap();
    add(&store, "1").await.unwrap();
    store.vacuum().await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1"]);
    add(&store, "2").await.unwrap();
    assert!(store.fold().await.unwrap());
    assert_eq!(rows_in_home(&place).await, ["1", "2"]);
    add(&store, "3").await.unwrap();
    store.close().await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_acknowledged_is_published_by_the_next_on_its_cache() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), gathering(&place, "a", LONG)).await.unwrap();
    add(&store, "1").await.unwrap();
    store.fold().await.unwrap();
    for body in ["2", "3"] {
        add(&store, body).await.unwrap();
    }
    // As a machine that stops leaves it.
    crate::copy_folder(&place.cache("a"), &place.cache("b"));
    drop(store);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let again = DatabaseStore::open(place.home(), place.options("b")).await.unwrap();
    assert_eq!(rows(&again).await, ["1", "2", "3"]);
    add(&again, "4").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_kept_while_batches_are_gathered() {
    let place = Place::new();
    let options = gathering(&place, "a", Duration::from_millis(1_500));
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    add(&store, "1").await.unwrap();
    let options = Options { lease_wait: Duration::from_millis(300), ..place.options("b") };
    let other = DatabaseStore::open(place.home(), options).await.unwrap();
    assert!(matches!(add(&other, "other").await, Err(Error::LeaseTaken { .. })), "long after it was idle");
    published(&store, 1).await;
    add(&other, "2").await.unwrap();
    store.ensure_fresh().await.unwrap();
    add(&store, "3").await.unwrap();
    store.close().await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_fails_is_asked_again_until_it_takes_what_was_gathered() {
    let place = Place::new();
    let home = place.home();
    let options = gathering(&place, "a", Duration::from_millis(50));
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    add(&store, "1").await.unwrap();
    published(&store, 1).await;
    home.fail(0..10_000, crate::faulty::Fault::Before(storage_core::ErrorKind::Unavailable));
    let _ = add(&store, "2").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(store.status().dirty || rows(&store).await.len() == 1);
    home.heal();
    published(&store, store.status().generation).await;
    assert_eq!(rows_in_home(&place).await, rows(&store).await);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_acknowledges_here_too() {
    let place = Place::new();
    let managed = Managed::new(place.home(), gathering(&place, "a", LONG));
    let storage = SqliteBackend::new(managed.config()).unwrap();
    storage.connect().await.unwrap();
    for number in 0..10 {
        storage.set(&format!("deal:{number}"), Json::from(number), None).await.unwrap();
    }
    let status = managed.store().await.unwrap().status();
    assert!(status.dirty && status.publications <= 1, "{status:?}");
    storage.disconnect().await.unwrap();
    let managed = Managed::new(place.home(), place.options("b"));
    let storage = SqliteBackend::new(managed.config()).unwrap();
    storage.connect().await.unwrap();
    assert_eq!(storage.keys("deal:*").await.unwrap().len(), 10);
    storage.disconnect().await.unwrap();
}
