//! How many requests what costs.

use std::sync::Arc;

use futures::future::join_all;
use storage_core::{Json, StorageBackend};
use storage_managed::{DatabaseStore, Managed};
use storage_sqlite::SqliteBackend;
use storage_tests::Seen;

use crate::{
    model::{add, batches},
    place::{Cloud, Place, TIMEOUT},
};

/// The requests since the last reset, by method and object.
fn requests(place: &Place) -> Vec<String> {
    let name = |seen: &Seen| {
        let path = seen.path.split('?').next().unwrap().replace("%2F", "/");
        let kind = ["/seg/", "/base/", "/head", "/lease"].into_iter().find(|kind| path.contains(kind));
        let renewal = if seen.path.contains("comp=lease") { " lease" } else { "" };
        format!("{} {}{renewal}", seen.method, kind.unwrap_or(&path).trim_matches('/'))
    };
    place.proxy.seen().iter().map(name).collect()
}

pub(crate) async fn of_a_publication(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let writer = DatabaseStore::open(place.watched(TIMEOUT), place.holding("writer")).await.unwrap();
    add(&writer, "first").await.unwrap();
    let reader_place = place.beside();
    let reader = DatabaseStore::open(reader_place.watched(TIMEOUT), place.options("reader")).await.unwrap();

    place.proxy.reset();
    add(&writer, "second").await.unwrap();
    assert_eq!(requests(&place), ["PUT seg", "PUT head"]);

    reader_place.proxy.reset();
    assert_eq!(reader.ensure_fresh().await.unwrap(), 2);
    assert_eq!(requests(&reader_place), ["GET head", "GET seg"], "one behind");
    reader_place.proxy.reset();
    reader.ensure_fresh().await.unwrap();
    let seen = reader_place.proxy.seen();
    assert_eq!(requests(&reader_place), ["GET head"], "up to date");
    assert_eq!((seen[0].status, seen[0].received), (Some(304), 0), "without a body");
    assert_eq!(batches(&reader).await, ["first", "second"]);
    writer.close().await.unwrap();
    reader.close().await.unwrap();
}

pub(crate) async fn of_many_sets(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let managed = Managed::new(place.watched(TIMEOUT), place.holding("a"));
    let storage = Arc::new(SqliteBackend::new(managed.config()).unwrap());
    storage.connect().await.unwrap();
    place.proxy.reset();
    let sets = (0..64).map(|number| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move { storage.set(&format!("deal:{number}"), Json::from(number), None).await })
    });
    for set in join_all(sets).await {
        set.unwrap().unwrap();
    }
    let publications = requests(&place).iter().filter(|request| *request == "PUT head").count();
    assert!((1..=4).contains(&publications), "{publications}: {:?}", requests(&place));
    storage.disconnect().await.unwrap();
}
