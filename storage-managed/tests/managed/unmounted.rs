//! A home in a folder whose disk or share is away for a while: an empty folder, or none, is in its place.

use std::{fs, path::PathBuf, time::Duration};

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options};

use crate::{Place, add, rows, rows_in_home};

/// The home's folder, put aside.
struct Away<'a> {
    place: &'a Place,
    aside: PathBuf,
}

impl<'a> Away<'a> {
    /// What a disk is mounted on stays when it goes, unless `bare` is false.
    fn unmount(place: &'a Place, bare: bool) -> Self {
        let aside = place.folder.path().join("aside");
        fs::rename(place.home_path(), &aside).unwrap();
        if bare {
            fs::create_dir(place.home_path()).unwrap();
        }
        Self { place, aside }
    }

    /// Nothing was created in place of the home.
    fn mount(self, bare: bool) {
        if bare {
            fs::remove_dir(self.place.home_path()).unwrap();
        }
        assert!(!self.place.home_path().exists());
        fs::rename(self.aside, self.place.home_path()).unwrap();
    }
}

/// Nobody is sent to repair anything, and the caller learns where to look.
fn is_away(error: Error) {
    let error = storage_core::Error::from(error);
    let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
    assert!(kinds.contains(&error.kind()), "{error}");
    let said = error.to_string();
    let clear = ["the folder of the home is gone", "another folder is in the place of the home's"];
    assert!(clear.iter().any(|words| said.contains(words)), "{said}");
    assert!(said.contains("its disk or share mounted"), "{said}");
}

/// A store that has written and given back the lease.
async fn resting(place: &Place) -> DatabaseStore {
    let options = Options { lease_wait: Duration::from_millis(50), ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    add(&store, "before").await.unwrap();
    while store.holder().await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store
}

async fn goes_on(store: DatabaseStore, place: &Place, expected: &[&str]) {
    store.ensure_fresh().await.unwrap();
    add(&store, "after").await.unwrap();
    let expected = [expected, &["after"]].concat();
    assert_eq!(rows(&store).await, expected);
    assert!(store.rescued().unwrap().is_empty());
    store.close().await.unwrap();
    assert_eq!(rows_in_home(place).await, expected);
    let again = place.open("a").await.unwrap();
    assert_eq!(rows(&again).await, expected);
    again.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_not_mounted_for_a_while_goes_on_where_it_was() {
    for bare in [true, false] {
        let place = Place::new();
        let store = resting(&place).await;
        let away = Away::unmount(&place, bare);
        is_away(store.ensure_fresh().await.unwrap_err());
        is_away(add(&store, "refused").await.unwrap_err());
        is_away(store.check().await.unwrap_err());
        is_away(store.verify().await.unwrap_err());
        is_away(store.fold().await.unwrap_err());
        is_away(store.holds().await.unwrap_err());
        is_away(store.hold("kept", None).await.unwrap_err());
        is_away(store.holder().await.unwrap_err());
        assert_eq!(rows(&store).await, ["before"], "what is here is read");
        away.mount(bare);
        goes_on(store, &place, &["before"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_home_went_while_the_lease_was_held_is_published_once_it_is_back() {
    for bare in [true, false] {
        let place = Place::new();
        let store = DatabaseStore::open(place.home(), place.holding("a")).await.unwrap();
        add(&store, "before").await.unwrap();
        let away = Away::unmount(&place, bare);
        let error = add(&store, "committed here").await.unwrap_err();
        assert!(matches!(error, Error::Unpublished { .. }), "{error}");
        is_away(error);
        is_away(add(&store, "refused").await.unwrap_err());
        away.mount(bare);
        goes_on(store, &place, &["before", "committed here"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gathered_while_the_home_is_not_mounted_is_published_once_it_is_back() {
    let place = Place::new();
    let options = Options { publish_every: Some(Duration::from_millis(20)), ..place.holding("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    add(&store, "before").await.unwrap();
    let away = Away::unmount(&place, true);
    let _ = add(&store, "gathered").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    away.mount(true);
    goes_on(store, &place, &["before", "gathered"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_home_that_is_not_mounted_before_its_first_batch_gets_it_later() {
    let place = Place::new();
    let options = Options { lease_wait: Duration::from_millis(50), ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let away = Away::unmount(&place, true);
    is_away(add(&store, "refused").await.unwrap_err());
    away.mount(true);
    goes_on(store, &place, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_of_a_home_that_is_not_mounted_says_what_to_look_at() {
    for bare in [true, false] {
        let place = Place::new();
        resting(&place).await.close().await.unwrap();
        let away = Away::unmount(&place, bare);
        let found = storage_managed::repair(place.home(), place.options("a")).await.unwrap();
        let [head] = &found.damage[..] else { panic!("{:?}", found.damage) };
        assert!(
            head.object == "head" && head.problem.contains("whether its disk or share is mounted"),
            "{head:?}"
        );
        drop(found);
        away.mount(bare);
        let found = storage_managed::repair(place.home(), place.options("a")).await.unwrap();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
    }
}

/// As where a share is mounted again under another number.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_comes_back_as_another_folder_is_known_by_its_head() {
    let place = Place::new();
    let store = resting(&place).await;
    let copy = place.folder.path().join("copy");
    crate::copy_folder(&place.home_path(), &copy);
    fs::remove_dir_all(place.home_path()).unwrap();
    is_away(add(&store, "refused").await.unwrap_err());
    fs::rename(copy, place.home_path()).unwrap();
    goes_on(store, &place, &["before"]).await;
}
