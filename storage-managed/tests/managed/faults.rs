//! Every request of a publication fails once, before its effect or after it; what was acknowledged is never lost.

use std::time::Duration;

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options, export};

use crate::{Place, add, faulty::Fault, rows, rows_in_home, stopped::Stoppable};

/// Batches under faults: what was acknowledged, what was refused, what is not known.
#[derive(Default)]
struct Model {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
}

impl Model {
    async fn add(&mut self, store: &DatabaseStore, body: String) {
        match add(store, &body).await {
            Ok(()) => self.acknowledged.push(body),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => self.unknown.push(body),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
                "nothing was applied: {error}"
            ),
        }
    }

    fn check(&self, found: &[String], situation: &str) {
        for body in &self.acknowledged {
            assert!(found.contains(body), "{situation}: {body} was acknowledged and is lost: {found:?}");
        }
        for body in found {
            let known = self.acknowledged.contains(body) || self.unknown.contains(body);
            assert!(known, "{situation}: {body} was refused and is there");
        }
    }
}

/// Fails the requests of a few publications, one after the other and for a while, and looks after each.
async fn every_request_fails(fault: impl Fn(ErrorKind) -> Fault, lasting: u64) {
    for kind in [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown] {
        for index in 0..14 {
            let situation = format!("{:?} from request {index}", fault(kind));
            let place = Place::new();
            let home = place.home();
            let store = DatabaseStore::open(home.clone(), place.options("a")).await.unwrap();
            let mut model = Model::default();
            // From the first publication on, with its base, to the next ones.
            home.fail(index..index + lasting, fault(kind));
            for number in 0..4 {
                model.add(&store, format!("{index} {number}")).await;
            }
            home.heal();
            if index % 2 == 0 {
                model.add(&store, "healed".to_owned()).await;
                assert!(!store.status().dirty, "{situation}");
            }
            drop(store);
            let again = reopen(&place).await;
            model.check(&rows(&again).await, &situation);
            assert_eq!(rows_in_home(&place).await, rows(&again).await, "{situation}");
        }
    }
}

/// Opens the cache again once the store that was dropped has released it.
async fn reopen(place: &Place) -> DatabaseStore {
    let options = Options { cache_wait: Duration::from_secs(5), ..place.options("a") };
    DatabaseStore::open(place.home(), options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_lost_once_loses_nothing() {
    every_request_fails(Fault::Before, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_once_loses_nothing() {
    every_request_fails(Fault::After, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_lost_for_a_while_lose_nothing() {
    every_request_fails(Fault::Before, 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_for_a_while_lose_nothing() {
    every_request_fails(Fault::After, 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_answer_is_settled_and_nobody_notices() {
    let place = Place::new();
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    for (number, fault) in
        [Fault::After(ErrorKind::OutcomeUnknown), Fault::Before(ErrorKind::Timeout)].iter().enumerate()
    {
        // The segment, then the head.
        for request in 0..2 {
            home.fail([request], *fault);
            add(&store, &format!("{number} {request}")).await.unwrap();
        }
    }
    assert_eq!(rows_in_home(&place).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpublished_batch_is_published_under_its_id_before_the_next() {
    let place = Place::new();
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    home.fail(1..100, Fault::Before(ErrorKind::Unavailable));
    let Error::Unpublished { commit, .. } = add(&store, "doubtful").await.unwrap_err() else { panic!() };
    assert!(store.status().dirty);
    let error = add(&store, "not begun").await.unwrap_err();
    assert!(matches!(&error, Error::Pending { commit: pending, .. } if *pending == commit), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    home.heal();
    store.vacuum().await.unwrap();
    let names = place.objects("seg").join(" ");
    assert!(names.contains(&commit), "{names}");
    assert_eq!(rows_in_home(&place).await, ["first", "doubtful"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_publishes_what_is_left_or_leaves_it_to_the_next_open() {
    for healed in [true, false] {
        let place = Place::new();
        let home = place.home();
        let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
        add(&store, "first").await.unwrap();
        home.fail(1..100, Fault::Before(ErrorKind::Unavailable));
        assert_eq!(add(&store, "doubtful").await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        if healed {
            home.heal();
            store.close().await.unwrap();
        } else {
            assert!(matches!(store.close().await, Err(Error::Pending { .. })));
            assert_eq!(rows_in_home(&place).await, ["first"]);
            home.heal();
            place.open("a").await.unwrap().close().await.unwrap();
        }
        assert_eq!(rows_in_home(&place).await, ["first", "doubtful"], "{healed}");
    }
}

/// A store whose batch is only here, while another has published in its place.
async fn overtaken(place: &Place) -> (DatabaseStore, DatabaseStore) {
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    add(&store, "second").await.unwrap();
    home.fail(1..1_000, Fault::Before(ErrorKind::Unavailable));
    assert_eq!(add(&store, "only here").await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    // As after a pause longer than the term: somebody else has the lease.
    std::fs::remove_file(lock_of(place)).unwrap();
    let other = place.open("b").await.unwrap();
    add(&other, "elsewhere").await.unwrap();
    home.heal();
    (store, other)
}

fn lock_of(place: &Place) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(place.home_path()).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.to_string_lossy().contains("lease")).expect("the folder's lease is a file")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_was_lost_and_on_which_others_built_is_published_and_they_are_followed() {
    let place = Place::new();
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    // The segment, then the head, and no answer from there on.
    home.fail(1..1_000, Fault::After(ErrorKind::Unavailable));
    assert_eq!(add(&store, "lost answer").await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    std::fs::remove_file(lock_of(&place)).unwrap();
    let other = place.open("b").await.unwrap();
    add(&other, "elsewhere").await.unwrap();
    other.close().await.unwrap();
    home.heal();
    add(&store, "next").await.unwrap();
    let expected = ["first", "lost answer", "elsewhere", "next"];
    assert_eq!(rows(&store).await, expected);
    assert_eq!(rows_in_home(&place).await, expected);
    assert!(store.rescued().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_gives_way_and_its_batch_is_kept() {
    let place = Place::new();
    let (zombie, _other) = overtaken(&place).await;
    add(&zombie, "next").await.unwrap();
    let expected = ["first", "second", "elsewhere", "next"];
    assert_eq!(rows(&zombie).await, expected);
    assert_eq!(rows_in_home(&place).await, expected);
    assert_eq!(zombie.status().diverged, None);
    let said = zombie.status().last_error.unwrap_or_default();
    is_kept(&place, &zombie, &said);
}

/// The batch that was only here is kept, once, in the folder that a text names.
fn is_kept(place: &Place, store: &DatabaseStore, said: &str) {
    let [rescued] = &store.rescued().unwrap()[..] else { panic!("one is kept") };
    assert!(said.contains(&*rescued.path.to_string_lossy()), "{said}");
    let exported = place.cache("exported.db");
    export(&rescued.path, &exported).unwrap();
    let kept = crate::rows_of(&rusqlite::Connection::open(exported).unwrap()).unwrap();
    assert_eq!(kept, ["first", "second", "only here"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_overtaken_while_it_was_published_is_rolled_back_and_answered_as_a_conflict() {
    let place = Place::new();
    let home = Stoppable::new(place.home());
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    add(&store, "second").await.unwrap();
    // As where a machine is suspended once the batch is committed there, and before it is published.
    home.stop();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { add(&store, "only here").await }
    });
    while !rows(&store).await.contains(&"only here".to_owned()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::remove_file(lock_of(&place)).unwrap();
    let other = place.open("b").await.unwrap();
    add(&other, "elsewhere").await.unwrap();
    home.go_on();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Overtaken { is_lost: true, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(rows(&store).await, ["first", "second", "elsewhere"], "it was rolled back");
    is_kept(&place, &store, &error.to_string());
    drop(other);
    add(&store, "after").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["first", "second", "elsewhere", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_whose_batch_was_overtaken_opens_and_keeps_it() {
    for by_others in [0, 200] {
        let place = Place::new();
        let (zombie, other) = overtaken(&place).await;
        for number in 0..by_others {
            add(&other, &number.to_string()).await.unwrap();
        }
        other.fold().await.unwrap();
        other.close().await.unwrap();
        drop(zombie);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let store = place.open("a").await.unwrap();
        add(&store, "after").await.unwrap();
        let found = rows(&store).await;
        assert_eq!(found[..3], ["first", "second", "elsewhere"]);
        assert_eq!((found.len(), &found[found.len() - 1][..]), (by_others + 4, "after"));
        assert_eq!(rows_in_home(&place).await, found);
        let path = store.rescued().unwrap()[0].path.to_string_lossy().into_owned();
        is_kept(&place, &store, &path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_refused_where_the_home_is_no_later_state_of_what_was_published() {
    let place = Place::new();
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    let before = std::fs::read(place.home_path().join("head")).unwrap();
    add(&store, "second").await.unwrap();
    home.fail(1..1_000, Fault::Before(ErrorKind::Unavailable));
    add(&store, "only here").await.unwrap_err();
    // As by a backup of the home that was brought back.
    std::fs::write(place.home_path().join("head"), before).unwrap();
    home.heal();
    let Error::Diverged { path } = add(&store, "next").await.unwrap_err() else { panic!() };
    for _ in 0..2 {
        let again = add(&store, "next").await.unwrap_err();
        assert!(matches!(again, Error::Diverged { path: same } if same == path));
    }
    assert_eq!(store.status().diverged, Some(path.clone()));
    drop(store);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(matches!(place.open("a").await, Err(Error::Diverged { path: same }) if same == path));
    let options = Options { discard_after_rescue: true, ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    assert_eq!(rows(&store).await, ["first"]);
    assert!(path.join("database.db-wal").exists());
}
