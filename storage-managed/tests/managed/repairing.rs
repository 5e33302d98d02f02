//! A home whose head, base or segments are damaged or gone.

use std::{fs, path::PathBuf, time::Duration};

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options, Repair, Source, repair};

use crate::{Place, add, copy_folder, faulty::Fault, rows, rows_in_home};

fn kept(place: &Place, cache: &str) -> Options {
    let grace = Duration::from_secs(48 * 3_600);
    Options { grace, merge_segments: 1_000, fold_bytes: u64::MAX, ..place.options(cache) }
}

fn expected(generation: u64) -> Vec<String> {
    (1..=generation).map(|number| number.to_string()).collect()
}

/// Ten generations, one row each: bases of the first and the fifth, and segments of all. `a` has them, `reader` the third.
async fn made() -> Place {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), kept(&place, "a")).await.unwrap();
    for number in 1..=10 {
        add(&store, &number.to_string()).await.unwrap();
        if number == 3 {
            place.open("reader").await.unwrap().close().await.unwrap();
        }
        if number == 5 {
            store.fold().await.unwrap();
        }
    }
    store.close().await.unwrap();
    place
}

fn object(place: &Place, kind: &str, generation: u64) -> PathBuf {
    let begin = format!("{generation:016x}-");
    let name = place.objects(kind).into_iter().find(|name| name.starts_with(&begin)).unwrap();
    place.object(kind, &name)
}

fn damage(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// With a cache that knows nothing.
async fn found(place: &Place) -> Repair {
    repair(place.home(), kept(place, "empty")).await.unwrap()
}

fn all_objects(place: &Place) -> Vec<String> {
    ["base", "seg", "merged", "index"].into_iter().flat_map(|kind| place.objects(kind)).collect()
}

/// Publishes what was found: the home has it and takes writes, old caches follow, and nothing is gone.
async fn repaired(place: &Place, found: Repair, generation: u64, rows_then: &[String]) {
    let before = all_objects(place);
    assert_eq!(found.publish().await.unwrap(), generation);
    let after = all_objects(place);
    assert!(before.iter().all(|name| after.contains(name)), "something was removed");
    assert_eq!(rows_in_home(place).await, rows_then);
    for cache in ["a", "reader"] {
        let store = place.open(cache).await.unwrap();
        assert_eq!(
            (store.ensure_fresh().await.unwrap(), rows(&store).await),
            (generation, rows_then.to_vec())
        );
        store.close().await.unwrap();
    }
    let store = DatabaseStore::open(place.home(), kept(place, "a")).await.unwrap();
    add(&store, "more").await.unwrap();
    assert_eq!(store.verify().await.unwrap().generation, generation + 1);
    store.close().await.unwrap();
    assert!(repair(place.home(), kept(place, "empty")).await.unwrap().damage.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_home_is_left_as_it_is() {
    let place = made().await;
    let head = fs::read(place.home_path().join("head")).unwrap();
    // What is damaged and superseded is in nobody's way.
    damage(&object(&place, "seg", 3));
    let found = found(&place).await;
    assert_eq!((found.damage.len(), &found.sound, found.lost.len()), (0, &None, 0));
    let refused = found.publish().await.unwrap_err().to_string();
    assert!(refused.contains("nothing to repair"), "{refused}");
    assert_eq!(fs::read(place.home_path().join("head")).unwrap(), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_head_a_home_goes_on_from_its_newest_generation() {
    for is_gone in [true, false] {
        let place = made().await;
        let head = place.home_path().join("head");
        damage(&head);
        let bytes = fs::read(&head).unwrap();
        if is_gone {
            fs::remove_file(&head).unwrap();
        }
        let found = found(&place).await;
        assert_eq!(found.damage.iter().map(|damage| damage.object.as_str()).collect::<Vec<_>>(), ["head"]);
        let sound = found.sound.clone().unwrap();
        assert_eq!((sound.generation, sound.source, sound.is_proven), (10, Source::Home, true));
        assert_eq!(found.lost, []);
        repaired(&place, found, 11, &expected(10)).await;
        let copies = place.objects("damaged");
        assert_eq!(copies.len(), usize::from(!is_gone), "{copies:?}");
        assert!(copies.iter().all(|name| fs::read(place.object("damaged", name)).unwrap() == bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_damaged_object_generations_are_lost_and_told() {
    type Harm = fn(&Place);
    let harms: [(&str, Harm, u64); 4] = [
        (
            "a base is gone that segments lead to as well",
            |place| fs::remove_file(object(place, "base", 5)).unwrap(),
            10,
        ),
        ("a base is damaged", |place| damage(&object(place, "base", 5)), 10),
        ("a segment is damaged", |place| damage(&object(place, "seg", 8)), 7),
        (
            "head and a segment are gone",
            |place| {
                fs::remove_file(place.home_path().join("head")).unwrap();
                fs::remove_file(object(place, "seg", 9)).unwrap();
            },
            8,
        ),
    ];
    for (what, harm, generation) in harms {
        let place = made().await;
        harm(&place);
        let found = found(&place).await;
        assert!(!found.damage.is_empty(), "{what}");
        let sound = found.sound.clone().unwrap();
        assert_eq!((sound.generation, sound.source), (generation, Source::Home), "{what}");
        let lost: Vec<u64> = found.lost.iter().flat_map(|lost| lost.first..=lost.generation).collect();
        assert_eq!(lost, (generation + 1..=10).collect::<Vec<_>>(), "{what}");
        assert!(found.lost.iter().all(|lost| lost.published.is_some()), "{what}: {:?}", found.lost);
        repaired(&place, found, 11, &expected(generation)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_home_has_lost_comes_from_a_cache_that_has_it() {
    let place = made().await;
    damage(&object(&place, "seg", 8));
    let found = repair(place.home(), kept(&place, "a")).await.unwrap();
    let sound = found.sound.clone().unwrap();
    assert_eq!((sound.generation, sound.source, sound.is_proven), (10, Source::Cache, true));
    assert_eq!(found.lost, []);
    repaired(&place, found, 11, &expected(10)).await;

    // All of it, too.
    let place = made().await;
    for kind in ["base", "seg"] {
        fs::remove_dir_all(place.home_path().join(kind)).unwrap();
    }
    fs::remove_file(place.home_path().join("head")).unwrap();
    let found = repair(place.home(), kept(&place, "a")).await.unwrap();
    assert_eq!(found.sound.as_ref().unwrap().source, Source::Cache);
    repaired(&place, found, 11, &expected(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_another_home_or_without_proof_counts_for_nothing() {
    let (place, other) = (made().await, made().await);
    damage(&object(&place, "seg", 8));
    copy_folder(&other.cache("a"), &place.cache("other"));
    let found = repair(place.home(), kept(&place, "other")).await.unwrap();
    assert_eq!(found.sound.as_ref().unwrap().source, Source::Home);
    drop(found);
    let foreign = rusqlite::Connection::open(place.cache("a/database.db")).unwrap();
    foreign.execute_batch("INSERT INTO t (body) VALUES ('foreign')").unwrap();
    drop(foreign);
    let found = repair(place.home(), kept(&place, "a")).await.unwrap();
    let sound = found.sound.as_ref().unwrap();
    assert_eq!((sound.source, sound.generation), (Source::Home, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_segments_lead_to_generations_too() {
    let place = made().await;
    let store = DatabaseStore::open(place.home(), kept(&place, "a")).await.unwrap();
    assert!(store.merge().await.unwrap());
    add(&store, "11").await.unwrap();
    store.close().await.unwrap();
    fs::remove_file(place.home_path().join("head")).unwrap();
    // Only what was merged leads on from the base.
    for name in place.objects("seg") {
        if !name.starts_with(&format!("{:016x}", 11)) {
            fs::remove_file(place.object("seg", &name)).unwrap();
        }
    }
    let found = found(&place).await;
    assert_eq!(found.sound.as_ref().unwrap().generation, 11);
    repaired(&place, found, 12, &expected(11)).await;
}

/// A batch that a crash had left is part of what is sound where its segment had arrived.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_not_acknowledged_is_no_obstacle() {
    let place = made().await;
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), kept(&place, "a")).await.unwrap();
    add(&store, "11").await.unwrap();
    home.fail(1..50, Fault::Before(ErrorKind::Unavailable));
    assert!(matches!(add(&store, "12").await, Err(Error::Unpublished { .. })));
    drop(store);
    assert_eq!(place.objects("seg").len(), 11, "the segment has arrived: {:?}", place.objects("seg"));
    damage(&place.home_path().join("head"));
    let found = found(&place).await;
    assert_eq!(found.sound.as_ref().unwrap().generation, 12);
    repaired(&place, found, 13, &expected(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_is_not_overtaken() {
    let place = made().await;
    let store = DatabaseStore::open(place.home(), place.holding("a")).await.unwrap();
    add(&store, "11").await.unwrap();
    damage(&object(&place, "base", 5));
    let owned = Options { owner: "process 7".to_owned(), ..kept(&place, "empty") };
    let refused = repair(place.home(), owned.clone()).await.unwrap().publish().await.unwrap_err();
    assert!(
        matches!(&refused, Error::LeaseTaken { holder: Some(holder), .. }
        if holder.contains(&std::process::id().to_string())),
        "{refused:?}"
    );
    // Its cache is not to be had either.
    let in_use = repair(place.home(), kept(&place, "a")).await.unwrap_err();
    assert!(matches!(in_use, Error::CacheInUse { .. }), "{in_use}");
    let found = repair(place.home(), owned).await.unwrap();
    add(&store, "12").await.unwrap();
    store.close().await.unwrap();
    let moved = found.publish().await.unwrap_err().to_string();
    assert!(moved.contains("has changed meanwhile"), "{moved}");
    let found = repair(place.home(), kept(&place, "empty")).await.unwrap();
    repaired(&place, found, 13, &expected(12)).await;
}

/// A base alone does not say of which database it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_does_not_know_itself_any_more_is_another_one() {
    let place = made().await;
    fs::remove_file(place.home_path().join("head")).unwrap();
    fs::remove_dir_all(place.home_path().join("seg")).unwrap();
    let found = found(&place).await;
    let sound = found.sound.clone().unwrap();
    assert_eq!((sound.generation, sound.is_proven), (5, false));
    assert_eq!(found.publish().await.unwrap(), 6);
    assert_eq!(rows_in_home(&place).await, expected(5));
    assert!(matches!(place.open("reader").await, Err(Error::Recreated { found: Some(_), .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_to_which_nothing_was_published_has_nothing_to_repair() {
    let place = Place::new();
    let error = repair(place.home(), place.options("a")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported(why) if why.contains("nothing was ever published")),
        "{error}"
    );
    assert!(!place.home_path().join("head").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_outlives_lost_requests_and_lost_answers() {
    let made = made().await;
    damage(&made.home_path().join("head"));
    for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::OutcomeUnknown)] {
        for request in 0..6 {
            let place = Place::new();
            copy_folder(&made.home_path(), &place.home_path());
            let home = place.home();
            let found = repair(home.clone(), kept(&place, "empty")).await.unwrap();
            home.fail([request], fault);
            assert_eq!(found.publish().await.unwrap(), 11, "{fault:?} of request {request}");
            assert_eq!(rows_in_home(&place).await, expected(10));
        }
    }
}

#[cfg(feature = "encryption")]
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_home_is_repaired_with_its_keys_alone() {
    use std::sync::Arc;

    use storage_managed::home::{EncryptedHome, FolderHome, Home, Keys};

    let place = Place::new();
    let keys = Keys::generate("one").unwrap();
    let encrypted = || -> Arc<dyn Home> {
        let folder = Arc::new(FolderHome::new(place.home_path()));
        Arc::new(EncryptedHome::new(folder, Keys::parse(&keys).unwrap()))
    };
    let store = DatabaseStore::open(encrypted(), kept(&place, "a")).await.unwrap();
    for number in 1..=3 {
        add(&store, &number.to_string()).await.unwrap();
    }
    store.close().await.unwrap();
    let head = place.home_path().join("head");
    damage(&head);
    let bytes = fs::read(&head).unwrap();
    let plain = repair(place.home(), kept(&place, "empty")).await.unwrap_err();
    assert!(matches!(plain, Error::Settings(_)), "{plain}");
    let found = repair(encrypted(), kept(&place, "empty")).await.unwrap();
    assert_eq!(found.publish().await.unwrap(), 4);
    let copy = place.objects("damaged").pop().unwrap();
    let copy = encrypted().get(&format!("damaged/{copy}")).await.unwrap().unwrap();
    assert_eq!(copy.bytes, bytes);
    let store = DatabaseStore::open(encrypted(), kept(&place, "a")).await.unwrap();
    assert_eq!((rows(&store).await, store.verify().await.unwrap().generation), (expected(3), 4));
    store.close().await.unwrap();
}

/// A repair that did not know of a cache cannot take from it what was acknowledged to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_lost_generations_keeps_them_when_it_follows_and_the_history_shows_none() {
    let place = Place::new();
    let store = DatabaseStore::open(place.home(), kept(&place, "a")).await.unwrap();
    for body in ["1", "2", "3", "4"] {
        add(&store, body).await.unwrap();
    }
    store.close().await.unwrap();
    fs::remove_file(place.object("seg", &place.objects("seg")[1])).unwrap();
    let found = repair(place.home(), kept(&place, "fresh")).await.unwrap();
    found.publish().await.unwrap();
    let store = DatabaseStore::open(place.home(), kept(&place, "a")).await.unwrap();
    assert_eq!(rows(&store).await, ["1", "2"]);
    assert_eq!(store.rescued().unwrap().len(), 1);
    let history = store.history().await.unwrap();
    let generations: Vec<u64> = history.iter().map(|found| found.generation).collect();
    assert_eq!(generations, [1, 2, store.status().generation]);
}
