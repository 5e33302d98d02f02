//! Homes that releases have written to which tell less.

use crate::{Place, count, fill, open, row};

/// Segments of all kinds on a base.
async fn place() -> Place {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..2_000).await;
    for id in 1..10 {
        fill(&store, id * 100..id * 100 + 3).await;
        if id == 3 || id == 6 {
            assert!(store.merge().await.unwrap());
        }
    }
    store.close().await.unwrap();
    place
}

/// A cold query, how many segments it finds, and how many of them it has to ask.
async fn asked(place: &Place, cache: &str) -> (usize, usize) {
    let home = place.home();
    let replica = open(home.clone(), place.replica_options(cache)).await.unwrap();
    let (segments, log) = (replica.status().segments, home.take_log());
    assert_eq!(replica.read(count).await.unwrap(), 1_999, "{cache}");
    let asks = |line: &&String| line.contains(" seg/") || line.contains(" merged/");
    (segments, log.iter().filter(asks).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_told_is_asked_for() {
    let place = place().await;
    assert_eq!(asked(&place, "told").await, (5, 0));
    place.forget_what_is_told();
    assert_eq!(asked(&place, "not told").await, (5, 5));
    // Who goes on tells what it makes itself.
    let store = place.writer().await;
    for id in 11..14 {
        fill(&store, id * 100..id * 100 + 3).await;
    }
    assert_eq!(asked(&place, "told again").await, (8, 5));
    assert!(store.merge().await.unwrap());
    fill(&store, 1_500..1_501).await;
    assert_eq!(asked(&place, "merged again").await, (4, 2));
    let replica = place.replica("compared").await;
    for id in [1, 100, 301, 602, 1_101, 1_302, 1_500, 1_999] {
        let expected = store.read(move |db| row(db, id)).await.unwrap();
        assert_eq!(replica.read(move |db| row(db, id)).await.unwrap(), expected, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_reads_a_home_whether_or_not_it_tells() {
    let place = place().await;
    for cache in ["told", "not told"] {
        let options = storage_managed::Options { cache: place.folder.path().join(cache), ..place.options() };
        let store = storage_managed::DatabaseStore::open(place.home(), options).await.unwrap();
        assert_eq!(store.read(count).await.unwrap(), 1_999, "{cache}");
        store.close().await.unwrap();
        place.forget_what_is_told();
    }
}
