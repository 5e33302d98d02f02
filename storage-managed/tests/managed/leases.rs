//! Leases: they end while the machine sleeps, keep nobody from reading, and name who has them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options, Steady};
use tokio::time::timeout;

use crate::{Place, add, faulty::Fault, rows, rows_in_home};

const SOON: Duration = Duration::from_secs(10);

fn end_lease(place: &Place) {
    std::fs::remove_file(place.home_path().join(".lease")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_while_the_machine_slept_is_not_believed() {
    let (place, slept) = (Place::new(), Arc::new(AtomicU64::new(0)));
    let (start, sleep) = (Instant::now(), Arc::clone(&slept));
    let steady = Steady::new(move || start.elapsed() + Duration::from_secs(sleep.load(SeqCst)));
    let store = DatabaseStore::open(place.home(), Options { steady, ..place.holding("a") }).await.unwrap();
    add(&store, "first").await.unwrap();
    assert_eq!(store.status().lag, Some(Duration::ZERO), "nobody else can have written");
    slept.store(3_600, SeqCst);
    end_lease(&place);
    let other = place.open("b").await.unwrap();
    add(&other, "elsewhere").await.unwrap();
    other.close().await.unwrap();
    assert!(store.status().lag.unwrap() >= Duration::from_secs(3_600), "{:?}", store.status());
    store.ensure_fresh().await.unwrap();
    assert_eq!(rows(&store).await, ["first", "elsewhere"]);
    add(&store, "next").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["first", "elsewhere", "next"]);
    assert!(store.rescued().unwrap().is_empty());
}

/// A cache with a batch that is in no home, and a store elsewhere that has the lease and writes nothing.
async fn unpublished_beside_a_holder(place: &Place) -> DatabaseStore {
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    home.fail(1..1_000, Fault::Before(ErrorKind::Unavailable));
    assert_eq!(add(&store, "left behind").await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    drop(store);
    let holder = DatabaseStore::open(place.home(), place.holding("b")).await.unwrap();
    holder.for_write(|_| Ok(())).await.unwrap();
    holder
}

fn patient(place: &Place) -> Options {
    Options { lease_wait: SOON * 6, cache_wait: SOON, ..place.options("a") }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_lease_keeps_nobody_from_opening_reading_and_closing() {
    let place = Place::new();
    let holder = unpublished_beside_a_holder(&place).await;
    let opened = timeout(SOON, DatabaseStore::open(place.home(), patient(&place))).await;
    let store = opened.expect("it waits for the lease").unwrap();
    assert!(store.status().dirty, "a batch is not published");
    assert_eq!(rows(&store).await, ["first", "left behind"]);
    timeout(SOON, store.close()).await.expect("it waits for the lease").unwrap();
    assert_eq!(rows_in_home(&place).await, ["first"]);
    holder.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_had_left_is_published_once_the_lease_is_free() {
    let place = Place::new();
    let holder = unpublished_beside_a_holder(&place).await;
    let store = DatabaseStore::open(place.home(), patient(&place)).await.unwrap();
    holder.close().await.unwrap();
    let start = Instant::now();
    while store.status().dirty {
        assert!(start.elapsed() < SOON, "it is published by nobody");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rows_in_home(&place).await, ["first", "left behind"]);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_takes_no_writes_keeps_nobody_from_reading() {
    let place = Place::new();
    unpublished_beside_a_holder(&place).await.close().await.unwrap();
    // Nothing can be written there, nor read.
    let (folder, away) = (place.home_path().join("seg"), place.home_path().join("seg-away"));
    let there = folder.is_dir();
    if there {
        std::fs::rename(&folder, &away).unwrap();
    }
    std::fs::write(&folder, "a file").unwrap();
    let store = DatabaseStore::open(place.home(), patient(&place)).await.unwrap();
    assert!(store.status().dirty, "a batch is not published");
    assert_eq!(rows(&store).await, ["first", "left behind"]);
    assert!(add(&store, "refused").await.is_err());
    timeout(SOON, store.close()).await.unwrap().unwrap();
    std::fs::remove_file(&folder).unwrap();
    if there {
        std::fs::rename(&away, &folder).unwrap();
    }
    let store = DatabaseStore::open(place.home(), patient(&place)).await.unwrap();
    assert!(!store.status().dirty);
    assert_eq!(rows_in_home(&place).await, ["first", "left behind"]);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_lease_in_vain_is_told_who_has_it() {
    let place = Place::new();
    let owner = "process 7 on elsewhere".to_owned();
    let holder = DatabaseStore::open(place.home(), Options { owner, ..place.holding("b") }).await.unwrap();
    holder.for_write(|_| Ok(())).await.unwrap();
    let options = Options { lease_wait: Duration::from_millis(50), ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let refused = add(&store, "refused").await.unwrap_err();
    assert!(matches!(refused, Error::LeaseTaken { .. }), "{refused}");
    assert_eq!(refused.to_string(), "process 7 on elsewhere held the lease for 50ms");
    let told = storage_core::Error::from(refused);
    assert_eq!(told.kind(), ErrorKind::Timeout);
    assert!(told.hint().unwrap().contains("storage managed unlock"), "{told}");
    assert_eq!(store.holder().await.unwrap().unwrap().owner.unwrap(), "process 7 on elsewhere");
    holder.close().await.unwrap();
    assert_eq!(store.holder().await.unwrap(), None);
}
