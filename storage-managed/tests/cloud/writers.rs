//! Several who write, one of whom may have been away.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options, export};
use storage_tests::Fault;

use crate::{
    model::{add, batches, in_home},
    place::{Cloud, Place, TIMEOUT},
    stopped::Stoppable,
};

const WRITERS: usize = 6;

pub(crate) async fn first_writers_race(cloud: &Cloud) {
    let place = Arc::new(Place::new(*cloud).await);
    let writers = (0..WRITERS).map(|writer| {
        let place = Arc::clone(&place);
        tokio::spawn(async move {
            let options = Options {
                lease_wait: Duration::from_secs(30),
                lease_share: Duration::ZERO,
                ..place.options(&format!("cache {writer}"))
            };
            let store = place.open(options).await.unwrap();
            add(&store, &format!("writer {writer}")).await.unwrap();
            store.close().await.unwrap();
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let mut found = in_home(&place).await;
    found.sort();
    assert_eq!(found, (0..WRITERS).map(|writer| format!("writer {writer}")).collect::<Vec<_>>());
}

/// Waits until the proxy has seen a segment on its way.
pub(crate) async fn until_a_segment_travels(place: &Place) {
    let is_segment =
        |seen: &storage_tests::Seen| seen.method == "PUT" && seen.path.replace("%2F", "/").contains("/seg/");
    while !place.proxy.seen().iter().any(is_segment) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A batch that could not be published any more is kept, and the store goes on without it.
pub(crate) async fn check_overtaken(
    place: &Place,
    store: &DatabaseStore,
    written: storage_managed::Result<()>,
) {
    let Err(error) = written else { panic!("it was overtaken") };
    match error {
        Error::Overtaken { is_lost: true, .. } => store.ensure_fresh().await.map(drop).unwrap(),
        // By who settles it later.
        error => {
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
            store.vacuum().await.unwrap();
        }
    }
    let path = store.rescued().unwrap()[0].path.clone();
    let exported = place.cache("exported.db");
    export(&path, &exported).unwrap();
    let kept = rusqlite::Connection::open(exported).unwrap();
    let rows: i64 =
        kept.query_row("SELECT count(*) FROM t WHERE body = 'only here'", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2, "the batch is kept");
    assert_eq!(batches(store).await, ["first", "elsewhere"]);
    store.close().await.unwrap();
}

pub(crate) async fn a_zombie_wakes_up(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let home = Stoppable::new(place.watched(TIMEOUT));
    let options = Options { lease_term: place.cloud.term(), ..place.holding("zombie") };
    let zombie = DatabaseStore::open(home.clone(), options).await.unwrap();
    add(&zombie, "first").await.unwrap();
    place.proxy.reset();
    place.proxy.at(0, Fault::DelayAnswer(Duration::from_millis(300)));
    // It stops in mid-upload.
    let stopped = async {
        until_a_segment_travels(&place).await;
        home.stop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        place.end_lease().await;
        let other = place.open(place.patient("other")).await.unwrap();
        add(&other, "elsewhere").await.unwrap();
        other.close().await.unwrap();
        home.go_on();
    };
    let (written, ()) = tokio::join!(add(&zombie, "only here"), stopped);
    check_overtaken(&place, &zombie, written).await;
    assert_eq!(in_home(&place).await, ["first", "elsewhere"]);
}

pub(crate) async fn a_home_is_recreated(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let old = place.open(place.options("old")).await.unwrap();
    add(&old, "first").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let home = place.direct();
    for object in home.list("").await.unwrap() {
        home.delete(&object.name).await.unwrap();
    }
    assert!(matches!(old.ensure_fresh().await, Err(Error::Recreated { found: None, .. })));
    assert!(matches!(add(&old, "late").await, Err(Error::Recreated { found: None, .. })));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let new = place.open(place.patient("new")).await.unwrap();
    add(&new, "anew").await.unwrap();
    new.close().await.unwrap();
    assert!(matches!(old.ensure_fresh().await, Err(Error::Recreated { found: Some(_), .. })));
    assert!(matches!(add(&old, "late").await, Err(Error::Recreated { found: Some(_), .. })));
    assert_eq!(batches(&old).await, ["first"], "what is here is still here");
    let _ = old.close().await;
    let Err(Error::Recreated { .. }) = place.open(place.options("old")).await else { panic!() };
    assert_eq!(in_home(&place).await, ["anew"]);
}
