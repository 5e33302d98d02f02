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

/// What is kept under a name is there when all that led to it is gone, and nobody else's copy is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_under_a_name_stays_until_it_is_removed() {
    let place = Place::new();
    let options = Options { grace: Duration::ZERO, ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let to = place.cache("kept.db");
    assert!(matches!(store.hold("early", None).await, Err(Error::Unsupported(_))), "nothing is published");
    for number in ["1", "2"] {
        add(&store, number).await.unwrap();
    }
    let early = store.hold("early-v2.1", None).await.unwrap();
    assert_eq!((early.generation, early.name.as_str()), (2, "early-v2.1"));
    assert!(early.made.unwrap().elapsed().unwrap() < HOUR && early.bytes > 0);
    for number in 3..=40 {
        add(&store, &number.to_string()).await.unwrap();
    }
    store.hold("first", Some(1)).await.unwrap();
    store.fold().await.unwrap();
    store.fold().await.unwrap();
    assert!(matches!(store.restore(2, &to).await, Err(Error::Unsupported(_))), "it is gone from the history");
    let names: Vec<String> = store.holds().await.unwrap().into_iter().map(|hold| hold.name).collect();
    assert_eq!(names, ["first", "early-v2.1"]);
    for (name, expected) in [("first", vec!["1"]), ("early-v2.1", vec!["1", "2"])] {
        store.restore_hold(name, None, &to).await.unwrap();
        assert_eq!(rows_of(&rusqlite::Connection::open(&to).unwrap()).unwrap(), expected, "{name}");
        std::fs::remove_file(&to).unwrap();
    }
    for name in ["first", "", "a/b", "..%2f", &"n".repeat(65), "n\u{e4}"] {
        let refused = store.hold(name, None).await.unwrap_err().to_string();
        assert!(refused.contains("hold") || refused.contains("keeps generation 1"), "{name}: {refused}");
    }
    assert!(matches!(store.hold("none", Some(2)).await, Err(Error::Unsupported(_))), "no such generation");
    // Damage is refused by name, whatever else is sound.
    let object = place.objects("hold").into_iter().find(|name| name.ends_with("first")).unwrap();
    let path = place.object("hold", &object);
    let mut content = std::fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&path, content).unwrap();
    let refused = store.restore_hold("first", None, &to).await.unwrap_err();
    assert!(matches!(&refused, Error::Corrupt { object, .. } if object.ends_with("-first")), "{refused}");
    assert!(!to.exists());
    // Two of one name, as where two were made at once: neither is taken for the other.
    let other = place.object("hold", &object.replacen('1', "9", 1));
    std::fs::copy(&path, &other).unwrap();
    for refused in [
        store.remove_hold("first", None).await.map(drop),
        store.restore_hold("first", None, &to).await.map(drop),
    ] {
        assert!(refused.unwrap_err().to_string().contains("several generations"));
    }
    assert_eq!(store.remove_hold("first", Some(9)).await.unwrap().generation, 9);
    assert_eq!(store.remove_hold("first", None).await.unwrap().generation, 1);
    assert!(matches!(store.remove_hold("first", None).await, Err(Error::Unsupported(_))));
    assert!(matches!(store.restore_hold("first", None, &to).await, Err(Error::Unsupported(_))));
    let left = store.holds().await.unwrap();
    assert_eq!((left.len(), &left[0].name, &left[0].commit), (1, &early.name, &early.commit));
}
