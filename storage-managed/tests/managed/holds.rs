//! Generations that are kept under a name, where the rest of the home is damaged.

use std::{fs, path::PathBuf};

use storage_managed::{Error, Hold, holds, repair, restore_hold};

use crate::{Place, add, rows_of};

/// A home with two generations, of which each is kept, and no store.
async fn kept() -> Place {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    for name in ["one", "two"] {
        add(&store, name).await.unwrap();
        store.hold(name, None).await.unwrap();
    }
    store.close().await.unwrap();
    place
}

fn names(holds: &[Hold]) -> Vec<&str> {
    holds.iter().map(|hold| hold.name.as_str()).collect()
}

fn object_of(place: &Place, name: &str) -> PathBuf {
    let object = place.objects("hold").into_iter().find(|object| object.ends_with(name)).unwrap();
    place.object("hold", &object)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_whose_head_is_damaged_or_gone_gives_what_is_kept() {
    let place = kept().await;
    let (head, to) = (place.home_path().join("head"), place.cache("two.db"));
    fs::write(&head, "{}").unwrap();
    for gone in [false, true] {
        if gone {
            fs::remove_file(&head).unwrap();
        }
        let found = holds(place.home(), place.options("unused")).await.unwrap();
        assert_eq!(names(&found), ["one", "two"]);
        assert!(found[1].made.is_some() && found[1].generation == 2);
        let options = place.options("unused");
        let restored = restore_hold(place.home(), options, "two", None, &to).await.unwrap();
        assert_eq!(restored.generation, 2);
        assert_eq!(rows_of(&rusqlite::Connection::open(&to).unwrap()).unwrap(), ["one", "two"]);
        fs::remove_file(&to).unwrap();
        let refused = restore_hold(place.home(), place.options("unused"), "three", None, &to).await;
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
        assert!(!place.cache("unused").exists(), "a cache is made");
        let left = fs::read_dir(place.folder.path()).unwrap().count();
        assert_eq!(left, 2, "home and cache: nothing is left beside the file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_names_what_is_kept_also_where_nothing_else_is_sound() {
    let place = kept().await;
    fs::remove_file(place.home_path().join("head")).unwrap();
    let found = repair(place.home(), place.options("b")).await.unwrap();
    assert_eq!(found.sound.as_ref().map(|sound| sound.generation), Some(2));
    assert_eq!(names(&found.holds), ["one", "two"]);
    for kind in ["base", "seg"] {
        let _ = fs::remove_dir_all(place.home_path().join(kind));
    }
    let found = repair(place.home(), place.options("c")).await.unwrap();
    assert!(found.sound.is_none(), "{:?}", found.sound);
    assert_eq!(names(&found.holds), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hold_is_verified_by_itself() {
    let place = kept().await;
    let path = object_of(&place, "-one");
    let mut content = fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&path, content).unwrap();
    let store = place.open("a").await.unwrap();
    store.verify().await.unwrap();
    let verified = store.verify_holds().await.unwrap();
    let [one, two] = &verified[..] else { panic!("{verified:?}") };
    assert!(matches!(&one.found, Err(Error::Corrupt { object, .. }) if object.ends_with("-one")), "{one:?}");
    assert_eq!(two.found.as_ref().unwrap().generation, 2);
    assert_eq!((one.hold.name.as_str(), two.hold.name.as_str()), ("one", "two"));
    store.close().await.unwrap();
    let left: Vec<_> =
        fs::read_dir(place.cache("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}
