//! Folding, cleaning up, and what readers see meanwhile.

use std::{sync::Arc, time::Duration};

use storage_core::{Clock, ManualClock, SystemClock};
use storage_managed::{DatabaseStore, Error, Options};

use crate::{Place, add, rows, rows_in_home};

fn folding(place: &Place, cache: &str) -> Options {
    Options { fold_segments: 4, grace: Duration::from_secs(60), ..place.options(cache) }
}

/// Makes all objects older, by the home's own clock.
fn age(place: &Place, by: Duration) {
    for kind in ["base", "seg"] {
        for name in place.objects(kind) {
            let file = std::fs::File::options().write(true).open(place.object(kind, &name)).unwrap();
            file.set_modified(file.metadata().unwrap().modified().unwrap() - by).unwrap();
        }
    }
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
    let store = DatabaseStore::open(place.home(), folding(&place, "a")).await.unwrap();
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

    age(&place, Duration::from_secs(61));
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
    let options = Options { grace: Duration::ZERO, fold_segments: 2, ..folding(&place, "a") };
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

/// Half an hour of writing, of which half a minute passes between two folds.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_folded_often_keeps_what_its_grace_needs_and_no_more() {
    let place = Place::new();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options {
        grace: Duration::from_secs(600),
        fold_segments: 1_000,
        clock: clock.clone(),
        ..place.options("a")
    };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let passes = Duration::from_secs(30);
    for number in 0..60 {
        add(&store, &number.to_string()).await.unwrap();
        assert!(number == 0 || store.fold().await.unwrap());
        age(&place, passes);
        clock.advance(passes);
    }
    let (bases, segments) = (place.objects("base").len(), place.objects("seg").len());
    assert!((20..30).contains(&bases) && (20..30).contains(&segments), "{bases} bases, {segments} segments");
    assert_eq!(rows_in_home(&place).await.len(), 60);
}

/// The age is the home's: a writer whose clock is wrong removes nothing that readers may be about to fetch.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_removes_nothing_too_early() {
    let place = Place::new();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options { clock: clock.clone(), ..folding(&place, "a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    for number in 0..4 {
        add(&store, &number.to_string()).await.unwrap();
        store.fold().await.unwrap();
        clock.advance(Duration::from_secs(3_600));
    }
    assert_eq!((place.objects("base").len(), place.objects("seg").len()), (4, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_go_on_while_a_base_is_copied() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    for _ in 0..8 {
        let large = |db: &rusqlite::Connection| {
            db.execute("INSERT INTO t (body) VALUES (hex(randomblob(4000000)))", []).map(drop)
        };
        store.for_write(large).await.unwrap();
    }
    let folding = tokio::spawn({
        let store = store.clone();
        async move { store.fold().await }
    });
    let copy = place.cache("a/fold.tmp");
    let copied = || std::fs::metadata(&copy).map_or(0, |file| file.len());
    let (mut meanwhile, mut number) = (0, 0);
    while !folding.is_finished() {
        let before = copied();
        add(&store, &number.to_string()).await.unwrap();
        let after = copied();
        meanwhile += usize::from(before > 0 && after > before);
        number += 1;
    }
    assert!(folding.await.unwrap().unwrap());
    assert!(meanwhile > 0, "each batch waited for the copy");
    assert_eq!(rows_in_home(&place).await.len(), rows(&store).await.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_a_base_that_is_being_sent() {
    let place = Place::new();
    let home = place.home();
    let options = Options { fold_segments: 2, ..place.options("a") };
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    add(&store, "first").await.unwrap();
    home.stall("put base/");
    for number in 0..3 {
        add(&store, &number.to_string()).await.unwrap();
    }
    while !home.has_stalled() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let closed = tokio::time::timeout(Duration::from_secs(10), store.close()).await;
    closed.expect("it waits for the base").unwrap();
    let again = place.open("a").await.unwrap();
    assert_eq!(rows(&again).await, ["first", "0", "1", "2"]);
    assert!(again.fold().await.unwrap());
    assert_eq!(rows_in_home(&place).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_write_once_leave_no_more_than_twice_what_is_folded() {
    let place = Place::new();
    for number in 0..30 {
        let store = DatabaseStore::open(place.home(), folding(&place, "a")).await.unwrap();
        add(&store, &number.to_string()).await.unwrap();
        store.close().await.unwrap();
    }
    let store = DatabaseStore::open(place.home(), folding(&place, "a")).await.unwrap();
    let objects = store.verify().await.unwrap().objects;
    assert!(objects <= 2 * 4 + 1, "a base and {} segments", objects - 1);
    assert_eq!(rows(&store).await.len(), 30);
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
