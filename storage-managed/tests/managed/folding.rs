//! Folding, cleaning up, and what readers see meanwhile.

use std::{sync::Arc, time::Duration};

use storage_core::{Clock, ManualClock, SystemClock};
use storage_managed::{DatabaseStore, Error, Options};

use crate::{Place, add, rows, rows_in_home};

fn folding(place: &Place, cache: &str, clock: &Arc<ManualClock>) -> Options {
    let clock: Arc<dyn Clock> = clock.clone();
    Options { fold_segments: 4, grace: Duration::from_secs(60), clock, ..place.options(cache) }
}

async fn settled(place: &Place, wanted: impl Fn(&Place) -> bool) {
    for _ in 0..500 {
        if wanted(place) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("base {:?}, seg {:?}", place.objects("base"), place.objects("seg"));
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_folded_and_superseded_objects_go_after_the_grace_period() {
    let place = Place::new();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let store = DatabaseStore::open(place.home(), folding(&place, "a", &clock)).await.unwrap();
    let late = place.open("late").await.unwrap();
    add(&store, "1").await.unwrap();
    late.ensure_fresh().await.unwrap();
    for number in 2..=5 {
        add(&store, &number.to_string()).await.unwrap();
    }
    settled(&place, |place| place.objects("base").len() == 2).await;
    assert_eq!(place.objects("seg").len(), 4, "readers may be about to fetch them");
    // An earlier generation is still there.
    let restored = place.cache("restored.db");
    assert_eq!(store.restore(3, &restored).await.unwrap().generation, 3);
    let db = rusqlite::Connection::open(&restored).unwrap();
    assert_eq!(crate::rows_of(&db).unwrap(), ["1", "2", "3"]);
    assert!(matches!(store.restore(3, &restored).await, Err(Error::Unsupported(_))), "it does not overwrite");
    let beside = place.cache("beside.db");
    std::fs::write(place.cache("beside.db-wal"), "left behind").unwrap();
    let refused = store.restore(3, &beside).await.unwrap_err().to_string();
    assert!(refused.contains("beside.db-wal` exists already") && !beside.exists(), "{refused}");

    clock.advance(Duration::from_secs(61));
    add(&store, "6").await.unwrap();
    assert!(store.fold().await.unwrap());
    assert_eq!(
        (place.objects("base").len(), place.objects("seg").len()),
        (2, 1),
        "what the first fold superseded"
    );
    assert!(matches!(store.restore(3, &place.cache("gone.db")).await, Err(Error::Unsupported(_))));
    // A reader that is too far behind takes the base.
    assert_eq!(late.ensure_fresh().await.unwrap(), 6);
    assert_eq!(rows(&late).await, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(rows_in_home(&place).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_while_segments_are_folded_and_removed_under_it() {
    let place = Place::new();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options { grace: Duration::ZERO, fold_segments: 2, ..folding(&place, "a", &clock) };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let reader = place.open("b").await.unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..40 {
                add(&store, &number.to_string()).await.unwrap();
            }
        }
    });
    let (mut generation, mut seen) = (0, 0);
    while !writing.is_finished() {
        let now = reader.ensure_fresh().await.unwrap();
        assert!(now >= generation, "it went back");
        let rows = rows(&reader).await.len();
        assert!(rows >= seen);
        (generation, seen) = (now, rows);
    }
    writing.await.unwrap();
    reader.ensure_fresh().await.unwrap();
    assert_eq!(rows(&reader).await.len(), 40);
    assert!(!store.fold().await.unwrap() || store.verify().await.unwrap().objects == 1);
    assert_eq!(rows_in_home(&place).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grew_is_written_back_and_everything_goes_on() {
    let place = Place::new();
    let options = Options { checkpoint_bytes: 50_000, ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let options = Options { checkpoint_bytes: 50_000, ..place.options("b") };
    let reader = DatabaseStore::open(place.home(), options).await.unwrap();
    let mut expected = Vec::new();
    for number in 0..30 {
        expected.push(number.to_string().repeat(3_000));
        add(&store, expected.last().unwrap()).await.unwrap();
        reader.ensure_fresh().await.unwrap();
        assert_eq!(rows(&reader).await, expected);
    }
    for cache in ["a", "b"] {
        let length = std::fs::metadata(place.cache(cache).join("database.db-wal")).unwrap().len();
        assert!(length < 200_000, "{cache}: {length}");
    }
    drop((store, reader));
    tokio::time::sleep(Duration::from_millis(50)).await;
    for cache in ["a", "b"] {
        let again = place.open(cache).await.unwrap();
        assert_eq!(rows(&again).await, expected);
        again.close().await.unwrap();
    }
    assert_eq!(rows_in_home(&place).await, expected);
}
