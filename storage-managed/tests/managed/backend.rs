//! The key/value and collection backend on a managed database.

use std::{sync::Arc, time::Duration};

use storage_core::{Commit, ErrorKind, Json, Operation, Partition, Query, StorageBackend};
use storage_managed::{Managed, Options};
use storage_sqlite::{SqliteBackend, SqliteConfig};

use crate::{Place, faulty::Fault};

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_concurrent_sets_are_a_few_publications() {
    let place = Place::new();
    let home = place.home();
    let managed = Managed::new(home.clone(), place.options("a"));
    let storage = Arc::new(SqliteBackend::new(managed.config()).unwrap());
    storage.connect().await.unwrap();
    home.take_log();
    let sets = (0..64).map(|number| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move { storage.set(&format!("deal:{number}"), Json::from(number), None).await })
    });
    for set in futures::future::join_all(sets).await {
        set.unwrap().unwrap();
    }
    let moves = home.take_log().iter().filter(|request| *request == "replace head").count();
    assert!((1..=4).contains(&moves), "{moves} publications");
    storage.disconnect().await.unwrap();

    let elsewhere = Managed::new(place.home(), place.options("b"));
    let storage = SqliteBackend::new(elsewhere.config()).unwrap();
    storage.connect().await.unwrap();
    assert_eq!(storage.keys("deal:*").await.unwrap().len(), 64);
    assert_eq!(elsewhere.store().await.unwrap().status().publications, 0, "the tables were there");
    storage.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_the_head_has_moved() {
    let place = Place::new();
    let home = place.home();
    let managed = Managed::new(home.clone(), place.holding("a"));
    let config = SqliteConfig { operation_timeout: Duration::from_secs(2), ..managed.config() };
    let storage = SqliteBackend::new(config).unwrap();
    storage.connect().await.unwrap();
    storage.set("deal:1", Json::from(1), None).await.unwrap();
    home.fail(1..1_000, Fault::Before(ErrorKind::Unavailable));
    let partition = Partition::new("log", &["a"]).unwrap();
    let error = storage.set("deal:2", Json::from(2), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    let error = storage.delete("deal:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "nothing was applied: {error}");
    home.heal();
    let commit = Commit::new(partition.clone()).with(Operation::append("", Json::from(1), "body"));
    storage.collections().unwrap().commit(commit).await.unwrap();
    storage.disconnect().await.unwrap();

    let elsewhere =
        Managed::new(place.home(), Options { freshness: Duration::from_secs(5), ..place.options("b") });
    let storage = SqliteBackend::new(elsewhere.config()).unwrap();
    storage.connect().await.unwrap();
    assert_eq!(storage.keys("*").await.unwrap(), ["deal:1", "deal:2"]);
    let page = storage.collections().unwrap().query(Query::all(partition, 10)).await.unwrap();
    assert_eq!(page.items.len(), 1);
    storage.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_the_home_and_publishes_nothing() {
    let place = Place::new();
    let home = place.home();
    let options = Options { freshness: Duration::from_secs(60), ..place.options("a") };
    let managed = Managed::new(home.clone(), options);
    let storage = SqliteBackend::new(managed.config()).unwrap();
    storage.connect().await.unwrap();
    storage.set("deal:1", Json::from(1), None).await.unwrap();
    // The lease is given back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let publications = managed.store().await.unwrap().status().publications;
    let health = storage.health().await;
    assert!(health.reads() && health.writes(), "{health:?}");
    assert!(health.stores[0].behind.is_some());
    assert_eq!(managed.store().await.unwrap().status().publications, publications);

    home.fail(0..1_000, Fault::Before(ErrorKind::Unavailable));
    let health = storage.health().await;
    assert!(health.reads() && !health.writes(), "what is here is still fresh enough: {health:?}");
    home.heal();
    assert!(storage.health().await.writes());
    storage.disconnect().await.unwrap();
}
