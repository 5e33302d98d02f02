//! The generations that a home still holds.

use std::time::Duration;

use storage_managed::{DatabaseStore, Error, Options};

use crate::{Place, add, rows_of};

const HOUR: Duration = Duration::from_secs(3_600);

fn kept(place: &Place) -> Options {
    Options { grace: 48 * HOUR, merge_segments: 1_000, fold_bytes: u64::MAX, ..place.options("a") }
}

async fn restored(place: &Place, store: &DatabaseStore, generation: u64) -> Vec<String> {
    let to = place.cache(&format!("{generation}.db"));
    assert_eq!(store.restore(generation, &to).await.unwrap().generation, generation);
    let found = rows_of(&rusqlite::Connection::open(&to).unwrap()).unwrap();
    std::fs::remove_file(to).unwrap();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn each_generation_within_the_grace_can_be_restored_however_often_it_was_folded() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), kept(&place)).await.unwrap();
    assert_eq!(store.history().await.unwrap(), [], "nothing is published");
    // More than a head remembers.
    let expected: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
    for number in &expected {
        add(&store, number).await.unwrap();
        if number.ends_with('3') {
            store.fold().await.unwrap();
        }
    }
    let history = store.history().await.unwrap();
    let generations: Vec<u64> = history.iter().map(|found| found.generation).collect();
    assert_eq!(generations, (1..=100).collect::<Vec<_>>());
    assert!(history.iter().all(|found| found.bytes > 0 && found.commit.len() == 32));
    let recent = |found: &storage_managed::Generation| found.published.unwrap().elapsed().unwrap() < HOUR;
    assert!(history.iter().all(recent), "{history:?}");
    for generation in [1, 2, 3, 13, 14, 52, 53, 100] {
        assert_eq!(restored(&place, &store, generation).await, expected[..generation as usize]);
    }
    assert!(matches!(store.restore(101, &place.cache("none.db")).await, Err(Error::Unsupported(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_as_old_as_the_home_says() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), kept(&place)).await.unwrap();
    for number in 1..=3 {
        add(&store, &number.to_string()).await.unwrap();
    }
    let segment = place.object("seg", &place.objects("seg")[0]);
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    file.set_modified(file.metadata().unwrap().modified().unwrap() - 5 * HOUR).unwrap();
    let history = store.history().await.unwrap();
    let ages: Vec<u64> = history
        .iter()
        .map(|found| found.published.unwrap().elapsed().unwrap().as_secs() / HOUR.as_secs())
        .collect();
    assert_eq!(ages, [0, 5, 0]);
}

/// A batch that was overtaken leaves a segment of a generation that is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_overtaken_is_no_generation() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), kept(&place)).await.unwrap();
    let expected: Vec<String> = (1..=80).map(|number| number.to_string()).collect();
    for number in &expected {
        add(&store, number).await.unwrap();
    }
    store.fold().await.unwrap();
    // One that the head remembers no more, and one that it does.
    for generation in [5, 70] {
        let name =
            place.objects("seg").into_iter().find(|name| name.starts_with(&format!("{generation:016x}-")));
        let content = std::fs::read(place.object("seg", &name.unwrap())).unwrap();
        let other = format!("{generation:016x}-{:032x}", 0);
        std::fs::write(place.object("seg", &other), content).unwrap();
    }
    let history = store.history().await.unwrap();
    assert_eq!(history.len(), 80);
    assert!(history.iter().all(|found| found.commit != format!("{:032x}", 0)), "{history:?}");
    assert_eq!(restored(&place, &store, 6).await, expected[..6]);
}
