//! Folding, cleaning up, and what readers see meanwhile.

use std::{sync::Arc, time::Duration};

use storage_core::{Clock, ManualClock, SystemClock};
use storage_managed::{DatabaseStore, Error, Options};

use crate::{Faulty, Place, add, copy_folder, rows, rows_in_home};

fn merging(place: &Place, cache: &str) -> Options {
    Options { merge_segments: 4, merge_fan_out: 3, grace: Duration::from_secs(60), ..place.options(cache) }
}

const KINDS: [&str; 4] = ["base", "seg", "merged", "index"];

/// Makes all objects older, by the home's own clock.
fn age(place: &Place, by: Duration) {
    for kind in KINDS {
        for name in place.objects(kind) {
            let file = std::fs::File::options().write(true).open(place.object(kind, &name)).unwrap();
            file.set_modified(file.metadata().unwrap().modified().unwrap() - by).unwrap();
        }
    }
}

async fn add_all(store: &DatabaseStore, bodies: std::ops::RangeInclusive<u32>) {
    for body in bodies {
        add(store, &body.to_string()).await.unwrap();
    }
}

fn up_to(last: u32) -> Vec<String> {
    (1..=last).map(|body| body.to_string()).collect()
}

async fn restored(place: &Place, store: &DatabaseStore, generation: u64) -> Option<Vec<String>> {
    let to = place.cache("restored.db");
    match store.restore(generation, &to).await {
        Ok(verified) => assert_eq!(verified.generation, generation),
        Err(Error::Unsupported(_)) => return None,
        Err(error) => panic!("{error}"),
    }
    let rows = crate::rows_of(&rusqlite::Connection::open(&to).unwrap()).unwrap();
    std::fs::remove_file(to).unwrap();
    Some(rows)
}

async fn settled(place: &Place, wanted: impl Fn(&Place) -> bool) {
    for _ in 0..500 {
        if wanted(place) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", KINDS.map(|kind| (kind, place.objects(kind))));
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_merged_and_superseded_objects_go_after_the_grace_period() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), merging(&place, "a")).await.unwrap();
    add(&store, "1").await.unwrap();
    let [late, within] = [place.open("late").await.unwrap(), place.open("within").await.unwrap()];
    add_all(&store, 2..=3).await;
    within.ensure_fresh().await.unwrap();
    add_all(&store, 4..=5).await;
    settled(&place, |place| place.objects("merged").len() == 1).await;
    assert_eq!(place.objects("seg").len(), 4, "readers may be about to fetch them");
    for generation in [1, 3, 5] {
        let expected = up_to(u32::try_from(generation).unwrap());
        assert_eq!(restored(&place, &store, generation).await, Some(expected));
    }

    age(&place, Duration::from_secs(61));
    add_all(&store, 6..=9).await;
    settled(&place, |place| place.objects("seg").len() == 4).await;
    assert_eq!(restored(&place, &store, 3).await, None, "it was merged with others");
    assert_eq!(restored(&place, &store, 5).await, Some(up_to(5)));
    assert_eq!(restored(&place, &store, 7).await, Some(up_to(7)));
    let history = store.history().await.unwrap();
    let generations: Vec<u64> = history.iter().map(|found| found.generation).collect();
    assert_eq!(generations, [1, 5, 6, 7, 8, 9]);
    // Merged segments lead on from where they begin and from within.
    for reader in [&late, &within] {
        assert_eq!(reader.ensure_fresh().await.unwrap(), 9);
        assert_eq!(rows(reader).await, up_to(9));
    }
    assert_eq!(rows_in_home(&place).await, up_to(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_is_superseded_by_a_newer_one_and_goes_after_the_grace_period() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), merging(&place, "a")).await.unwrap();
    let late = place.open("late").await.unwrap();
    add_all(&store, 1..=7).await;
    settled(&place, |place| place.objects("merged").len() == 1).await;
    assert!(store.fold().await.unwrap());
    assert_eq!(restored(&place, &store, 3).await, Some(up_to(3)));
    let to = place.cache("restored.db");
    std::fs::write(&to, "here").unwrap();
    assert!(matches!(store.restore(3, &to).await, Err(Error::Unsupported(_))), "it does not overwrite");
    let beside = place.cache("beside.db");
    std::fs::write(place.cache("beside.db-wal"), "left behind").unwrap();
    let refused = store.restore(3, &beside).await.unwrap_err().to_string();
    assert!(refused.contains("beside.db-wal` exists already") && !beside.exists(), "{refused}");
    std::fs::remove_file(to).unwrap();

    age(&place, Duration::from_secs(61));
    add(&store, "8").await.unwrap();
    assert!(store.fold().await.unwrap());
    assert_eq!(place.objects("base").len(), 2, "what the first fold superseded");
    for (generation, there) in [(3, false), (5, false), (7, true), (8, true)] {
        let expected = there.then(|| up_to(u32::try_from(generation).unwrap()));
        assert_eq!(restored(&place, &store, generation).await, expected, "{generation}");
    }
    // A reader that is too far behind takes the base.
    assert_eq!(late.ensure_fresh().await.unwrap(), 8);
    assert_eq!(rows(&late).await, up_to(8));
    assert_eq!(rows_in_home(&place).await, up_to(8));
}

/// Each of some hundred states is merged into larger and larger segments, and a base is made between.
#[tokio::test(flavor = "multi_thread")]
async fn levels_lead_to_the_same_database_from_wherever_a_reader_is() {
    let place = Place::new();
    let options = Options { merge_fan_out: 2, grace: Duration::ZERO, ..merging(&place, "a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let mut readers = Vec::new();
    for number in 1..=150 {
        add(&store, &number.to_string()).await.unwrap();
        if number % 7 == 0 {
            readers.push(place.open(&format!("reader {number}")).await.unwrap());
        }
        if number == 100 {
            store.fold().await.unwrap();
        }
    }
    // One that is rebuilt, cut and grown again within one merged segment.
    let cut = |db: &rusqlite::Connection| db.execute_batch("DELETE FROM t WHERE id > 10").map(drop);
    store.for_write(cut).await.unwrap();
    store.vacuum().await.unwrap();
    add(&store, &"long".repeat(50_000)).await.unwrap();
    store.merge().await.unwrap();
    let expected = rows(&store).await;
    assert!(store.verify().await.unwrap().objects < 20);
    for reader in &readers {
        assert_eq!(reader.ensure_fresh().await.unwrap(), 153);
        assert_eq!(rows(reader).await, expected);
    }
    assert_eq!(rows_in_home(&place).await, expected);
}

/// Whoever opens a cache does not know any more what its commits have changed: the segments tell.
#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_processes_and_others_wrote_is_merged_too() {
    let place = Place::new();
    for number in 1..=20 {
        let cache = ["a", "b"][number % 2];
        let store = DatabaseStore::open(place.home(), merging(&place, cache)).await.unwrap();
        add(&store, &number.to_string()).await.unwrap();
        store.close().await.unwrap();
    }
    let store = DatabaseStore::open(place.home(), merging(&place, "a")).await.unwrap();
    store.merge().await.unwrap();
    let objects = store.verify().await.unwrap().objects;
    assert!(objects <= 5, "{objects}");
    assert_eq!(rows_in_home(&place).await, up_to(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_follows_while_segments_are_folded_and_removed_under_it() {
    let place = Place::new();
    let options =
        Options { merge_segments: 2, merge_fan_out: 2, grace: Duration::ZERO, ..merging(&place, "a") };
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
        merge_segments: 1_000,
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

/// What is superseded while a removal waits for its time has a time of its own.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_superseded_goes_while_nobody_writes() {
    let place = Place::new();
    let options = Options { merge_segments: 1_000, grace: Duration::from_secs(1), ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    add_all(&store, 1..=4).await;
    assert!(store.merge().await.unwrap());
    tokio::time::sleep(Duration::from_millis(600)).await;
    add_all(&store, 5..=7).await;
    assert!(store.merge().await.unwrap());
    settled(&place, |place| place.objects("seg").is_empty()).await;
    assert_eq!(rows_in_home(&place).await, up_to(7));
}

/// The age is the home's: a writer whose clock is wrong removes nothing that readers may be about to fetch.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_removes_nothing_too_early() {
    let place = Place::new();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options { clock: clock.clone(), ..merging(&place, "a") };
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
async fn closing_does_not_wait_for_what_is_being_sent_in_the_background() {
    for stalls in ["put base/", "put merged/"] {
        let place = Place::new();
        let options = match stalls {
            "put base/" => Options { fold_share: 0.0, fold_bytes: 1_000, ..place.options("a") },
            _ => Options { merge_segments: 3, ..place.options("a") },
        };
        let home = place.home();
        let store = DatabaseStore::open(home.clone(), options).await.unwrap();
        add(&store, "first").await.unwrap();
        home.stall(stalls);
        for number in 0..3 {
            add(&store, &number.to_string()).await.unwrap();
        }
        while !home.has_stalled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let closed = tokio::time::timeout(Duration::from_secs(10), store.close()).await;
        closed.expect(stalls).unwrap();
        let again = place.open("a").await.unwrap();
        assert_eq!(rows(&again).await, ["first", "0", "1", "2"]);
        assert!(again.merge().await.unwrap() && again.fold().await.unwrap());
        assert_eq!(rows_in_home(&place).await.len(), 4);
    }
}

/// A merge that stands still at a request.
async fn merge_up_to(
    store: &DatabaseStore,
    home: &Faulty,
    request: &'static str,
) -> tokio::task::JoinHandle<Result<bool, Error>> {
    home.stall(request);
    let store = store.clone();
    let merging = tokio::spawn(async move { store.merge().await });
    while !home.has_stalled() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    merging
}

/// The writer whose merged segment is overtaken by another's names nothing that may be gone.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_merge_at_once_one_is_named() {
    let place = Place::new();
    let (home, options) = (place.home(), Options { merge_segments: 1_000, ..place.options("a") });
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    add_all(&store, 1..=6).await;
    let stalled = merge_up_to(&store, &home, "put index/").await;
    let other = DatabaseStore::open(place.home(), Options { grace: Duration::ZERO, ..place.options("b") });
    let other = other.await.unwrap();
    add(&other, "7").await.unwrap();
    assert!(other.merge().await.unwrap());
    home.go_on();
    assert!(!stalled.await.unwrap().unwrap(), "it was overtaken");
    add(&store, "8").await.unwrap();
    other.fold().await.unwrap();
    assert_eq!(rows_in_home(&place).await, up_to(8));
}

/// Without an index, a base decides what is superseded: an index that was put before it may be gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_not_named_behind_a_base_that_superseded_it() {
    let place = Place::new();
    let (home, options) = (place.home(), Options { merge_segments: 1_000, ..place.options("a") });
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    add_all(&store, 1..=6).await;
    let merging = merge_up_to(&store, &home, "after put index/").await;
    let other = DatabaseStore::open(place.home(), Options { grace: Duration::ZERO, ..place.options("b") });
    let other = other.await.unwrap();
    other.fold().await.unwrap();
    assert_eq!(place.objects("index").len(), 0);
    home.go_on();
    assert!(!merging.await.unwrap().unwrap());
    add(&store, "7").await.unwrap();
    assert_eq!(rows_in_home(&place).await, up_to(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_write_once_leave_few_objects() {
    let place = Place::new();
    for number in 0..30 {
        let store = DatabaseStore::open(place.home(), merging(&place, "a")).await.unwrap();
        add(&store, &number.to_string()).await.unwrap();
        store.close().await.unwrap();
    }
    let store = DatabaseStore::open(place.home(), merging(&place, "a")).await.unwrap();
    let objects = store.verify().await.unwrap().objects;
    assert!(objects <= 16, "a base and {} segments", objects - 1);
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
    let length = |cache: &str| std::fs::metadata(place.cache(cache).join("database.db-wal")).unwrap().len();
    assert!(length("b") < 200_000, "{}", length("b"));
    // The writer's is moved beside its batches, and ended by one of the next.
    while length("a") >= 200_000 {
        assert!(expected.len() < 1_000, "{}", length("a"));
        expected.push("more".to_owned());
        add(&store, "more").await.unwrap();
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

/// Pages move to the main file while batches go on. What is copied of the cache at any moment opens as it was: no page is in
/// the main file that the record does not know of.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_written_back_beside_batches_and_readers() {
    const BYTES: u64 = 200_000;
    let place = Place::new();
    let options = Options { checkpoint_bytes: BYTES, ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let log = place.cache("a").join("database.db-wal");
    let (mut expected, mut longest, mut begun_anew) = (Vec::new(), 0, 0);
    for number in 0..400 {
        expected.push(number.to_string().repeat(1_000));
        let before = std::fs::metadata(&log).map_or(0, |log| log.len());
        add(&store, expected.last().unwrap()).await.unwrap();
        let length = std::fs::metadata(&log).unwrap().len();
        (longest, begun_anew) = (longest.max(length), begun_anew + u32::from(length < before));
        if number % 50 == 49 {
            let name = format!("copy {number}");
            copy_folder(&place.cache("a"), &place.cache(&name));
            let copy = place.open(&name).await.unwrap();
            assert_eq!(copy.rescued().unwrap(), []);
            assert_eq!(rows(&copy).await, expected);
            copy.close().await.unwrap();
        }
    }
    assert!(begun_anew > 0, "the log never began anew");
    assert!(longest < 20 * BYTES, "{longest}");
    // A snapshot that stays puts it off, and everything goes on.
    let outside = rusqlite::Connection::open(store.path()).unwrap();
    outside.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    for number in 0..100 {
        expected.push(number.to_string().repeat(1_000));
        add(&store, expected.last().unwrap()).await.unwrap();
    }
    assert_eq!(outside.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, u32>(0)).unwrap(), 400);
    drop(outside);
    while std::fs::metadata(&log).unwrap().len() >= 4 * BYTES {
        assert!(expected.len() < 2_000, "the log stays long");
        add(&store, "once more").await.unwrap();
        expected.push("once more".to_owned());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store.close().await.unwrap();
    let again = place.open("a").await.unwrap();
    assert_eq!(rows(&again).await, expected);
    again.close().await.unwrap();
    assert_eq!(rows_in_home(&place).await, expected);
}
