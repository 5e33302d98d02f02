//! What the settings promise: how often the home is asked, what is tried again, and that the lease is renewed.

use std::time::Duration;

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Options};

use crate::{Place, add, faulty::Fault, rows};

#[tokio::test(flavor = "multi_thread")]
async fn the_home_is_asked_once_in_the_freshness_interval() {
    let place = Place::new();
    let writer = place.open("a").await.unwrap();
    add(&writer, "first").await.unwrap();
    let (home, freshness) = (place.home(), Duration::from_secs(2));
    let options = Options { freshness, ..place.options("b") };
    let reader = DatabaseStore::open(home.clone(), options).await.unwrap();
    let asked = |log: Vec<String>| log.iter().filter(|request| *request == "get_if_changed head").count();
    add(&writer, "second").await.unwrap();
    home.take_log();
    for _ in 0..10 {
        assert_eq!(reader.ensure_fresh().await.unwrap(), 1);
    }
    assert!(reader.status().lag.unwrap() < freshness);
    assert_eq!(asked(home.take_log()), 0, "it was asked at open");
    tokio::time::sleep(freshness).await;
    for _ in 0..10 {
        assert_eq!(reader.ensure_fresh().await.unwrap(), 2);
    }
    assert_eq!(asked(home.take_log()), 1);
    assert_eq!(rows(&reader).await, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_pass_is_tried_again() {
    for (kind, tries) in [
        (ErrorKind::Unavailable, 3),
        (ErrorKind::Timeout, 3),
        (ErrorKind::Unauthorized, 1),
        (ErrorKind::Corrupt, 1),
    ] {
        let place = Place::new();
        let home = place.home();
        let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
        add(&store, "first").await.unwrap();
        home.take_log();
        home.fail(0..100, Fault::Before(kind));
        let error = add(&store, "second").await.unwrap_err();
        let log = home.take_log();
        assert!(
            log.len() == tries && log.iter().all(|request| request.starts_with("put seg/")),
            "{kind}: {log:?}"
        );
        let status = store.status();
        assert_eq!((status.dirty, status.last_error), (true, Some(error.to_string())));
        home.heal();
        add(&store, "third").await.unwrap();
        assert_eq!(rows(&store).await, ["first", "second", "third"], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_write_is_renewed_while_it_is_held() {
    let place = Place::new();
    let home = place.home();
    let options = Options { lease_term: Duration::from_secs(3), ..place.holding("a") };
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    add(&store, "first").await.unwrap();
    home.take_log();
    tokio::time::sleep(Duration::from_secs(5)).await;
    add(&store, "second").await.unwrap();
    let log = home.take_log();
    assert!(log.iter().filter(|request| *request == "renew").count() >= 3, "{log:?}");
    assert!(!log.iter().any(|request| request == "acquire"), "it was not lost meanwhile: {log:?}");
}
