//! Whose commit is whose: ids, heads that were damaged, objects that are there already, and caches that were copied.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options, RetryPolicy, adopt, exists};

use crate::{Place, add, copy_folder, faulty::Fault, kills::example, rows, rows_in_home};

/// Changes the head, as another implementation writes one.
pub(crate) fn edit_head(place: &Place, edit: impl FnOnce(&mut Value)) {
    let path = place.home_path().join("head");
    let mut head: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut head);
    let summed = head.as_object_mut().unwrap().remove("sum").is_some();
    let mut text = head.to_string();
    if summed {
        assert_eq!(text.pop(), Some('}'));
        let sum = u128::from_le_bytes(*blake3::hash(text.as_bytes()).as_bytes().first_chunk().unwrap());
        text.push_str(&format!(",\"sum\":\"{sum:032x}\"}}"));
    }
    fs::write(path, text).unwrap();
}

/// A store with one batch in the home and one that is only here, under the id that is returned.
async fn with_unpublished(place: &Place, lost: u64) -> (DatabaseStore, Arc<crate::Faulty>, String) {
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    home.fail(lost..1_000, Fault::Before(ErrorKind::Unavailable));
    let Error::Unpublished { commit, .. } = add(&store, "only here").await.unwrap_err() else { panic!() };
    (store, home, commit)
}

/// Lets somebody else have the lease, as after a pause longer than its term.
fn lose_lease(place: &Place) {
    fs::remove_file(place.home_path().join(".lease")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_another_generation_has_is_not_taken_for_published() {
    let place = Place::new();
    let (store, home, commit) = with_unpublished(&place, 1).await;
    lose_lease(&place);
    let other = place.open("b").await.unwrap();
    for body in ["two", "three", "four"] {
        add(&other, body).await.unwrap();
    }
    other.close().await.unwrap();
    // Generation 3 has the id, as where a machine was cloned with what it makes ids of.
    edit_head(&place, |head| head["commits"][2][0] = json!(commit));
    home.heal();
    // The batch gives way, and what has another's id is not there under it.
    let error = add(&store, "next").await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { object, .. } if object.contains(&commit)), "{error}");
    assert_eq!(store.status().generation, 1, "nothing was taken for published");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_content_under_the_name_of_a_segment_is_refused_by_name() {
    let place = Place::new();
    let (store, home, commit) = with_unpublished(&place, 1).await;
    let name = format!("{:016x}-{commit}", 2);
    let ours = fs::read(place.object("seg", &name)).unwrap();
    fs::write(place.object("seg", &name), "something else").unwrap();
    home.heal();
    for _ in 0..2 {
        let error = add(&store, "next").await.unwrap_err();
        let named = matches!(&error, Error::Corrupt { object, .. } if *object == format!("seg/{name}"));
        assert!(named, "{error}");
    }
    assert_eq!(fs::read(place.object("seg", &name)).unwrap(), b"something else", "it was not written over");
    assert_eq!(rows_in_home(&place).await, ["first"]);
    // What is there with the same content is what was to be written.
    fs::write(place.object("seg", &name), ours).unwrap();
    add(&store, "next").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["first", "only here", "next"]);
}

/// All objects but the head.
fn all_objects(place: &Place) -> BTreeSet<String> {
    let names = |kind: &str| place.objects(kind).into_iter().map(|name| format!("{kind}/{name}")).collect();
    let all: [Vec<String>; 2] = ["base", "seg"].map(names);
    all.concat().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_with_any_damaged_byte_is_refused_or_harmless_and_nothing_is_deleted() {
    let place = Place::new();
    let options = |cache: &str| Options {
        merge_segments: 2,
        merge_fan_out: 2,
        fold_share: 0.0,
        fold_bytes: 5_000,
        grace: Duration::ZERO,
        ..place.holding(cache)
    };
    let store = DatabaseStore::open(place.home(), options("a")).await.unwrap();
    for body in ["1", "2", "3", "4"] {
        add(&store, body).await.unwrap();
    }
    store.fold().await.unwrap();
    add(&store, "5").await.unwrap();
    store.close().await.unwrap();
    let (whole, path) = (place.cache("whole"), place.home_path().join("head"));
    copy_folder(&place.home_path(), &whole);
    let (head, objects) = (fs::read(&path).unwrap(), all_objects(&place));
    let mut accepted = 0;
    for at in 0..head.len() {
        for damage in [head[at] ^ 1, b'9', b'0', b' '] {
            let mut damaged = head.clone();
            damaged[at] = damage;
            if damaged == head {
                continue;
            }
            fs::write(&path, &damaged).unwrap();
            let what = format!("byte {at}: {}", String::from_utf8_lossy(&damaged));
            match DatabaseStore::open(place.home(), options("a")).await {
                Ok(store) => {
                    accepted += 1;
                    if add(&store, "harmless").await.is_ok() {
                        let _ = store.fold().await;
                    }
                    let _ = store.close().await;
                    assert!(rows_in_home(&place).await.len() >= 5, "{what}");
                }
                Err(error) => {
                    assert_eq!(all_objects(&place), objects, "{what}");
                    assert!(
                        matches!(error, Error::Corrupt { .. } | Error::Unsupported(_)),
                        "{what}: {error}"
                    );
                    continue;
                }
            }
            fs::remove_dir_all(place.home_path()).unwrap();
            copy_folder(&whole, &place.home_path());
        }
    }
    assert_eq!(accepted, 0, "the checksum is over every byte");
    fs::write(&path, head).unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3", "4", "5"]);
}

/// A head as the first format has it: without a checksum, so that a number in it can be wrong unnoticed.
fn of_the_first_format(head: &mut Value) {
    head["format"] = json!(1);
    head.as_object_mut().unwrap().remove("sum");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_the_first_format_is_read_and_replaced_and_its_folds_delete_nothing_that_is_needed() {
    let place = Place::new();
    let options = Options { grace: Duration::ZERO, ..place.holding("a") };
    let store = DatabaseStore::open(place.home(), options.clone()).await.unwrap();
    for body in ["1", "2", "3"] {
        add(&store, body).await.unwrap();
    }
    store.close().await.unwrap();
    edit_head(&place, |head| {
        of_the_first_format(head);
        head["folds"] = json!([[99, 1]]);
    });
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    assert_eq!(rows(&store).await, ["1", "2", "3"]);
    add(&store, "4").await.unwrap();
    store.fold().await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3", "4"], "the fold deleted what is needed");
    add(&store, "5").await.unwrap();
    store.fold().await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3", "4", "5"]);
    let head: Value = serde_json::from_slice(&fs::read(place.home_path().join("head")).unwrap()).unwrap();
    assert_eq!(head["format"], 3);
}

/// A home as the release before this one has left it: without merged segments, with times of folds in its head.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_of_the_second_format_is_read_and_gone_on_with() {
    let place = Place::new();
    let before = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/home-of-format-2");
    copy_folder(std::path::Path::new(before), &place.home_path());
    let options = Options { merge_segments: 2, grace: Duration::ZERO, ..place.holding("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    let keys = |db: &rusqlite::Connection| {
        db.query_row("SELECT count(*) FROM kv_store", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!((store.status().generation, store.read(keys).await.unwrap()), (8, 7));
    assert_eq!(store.history().await.unwrap().len(), 3, "from the base on");
    for body in ["1", "2", "3", "4"] {
        add(&store, body).await.unwrap();
    }
    store.merge().await.unwrap();
    assert_eq!(store.read(keys).await.unwrap(), 7);
    store.verify().await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3", "4"]);
    store.close().await.unwrap();
}

/// Runs the program that writes numbered batches on a cache for a while, and kills it; what was acknowledged.
fn write_and_kill(place: &Place, cache: &str, first: usize) -> BTreeSet<usize> {
    let mut command = Command::new(example("writer"));
    command.arg(place.home_path()).arg(place.cache(cache)).arg(first.to_string()).arg("never");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the example is built");
    let killer = child.id();
    let waiting = std::thread::spawn(move || child.wait_with_output().unwrap());
    std::thread::sleep(Duration::from_millis(700));
    let killed = Command::new("kill").arg("-9").arg(killer.to_string()).status().unwrap();
    let output = waiting.join().unwrap();
    assert!(
        killed.success() && output.status.code().is_none(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8(output.stdout).unwrap();
    let numbers = said.lines().filter_map(|line| line.strip_prefix("ok "));
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_was_copied_writes_beside_the_one_it_was_copied_from() {
    let place = Place::new();
    let mut acknowledged = write_and_kill(&place, "a", 0);
    for round in 1..4 {
        // As of a machine that is cloned at any moment: with a batch that may be published or not.
        let _ = fs::remove_dir_all(place.cache("b"));
        copy_folder(&place.cache("a"), &place.cache("b"));
        let writers: Vec<BTreeSet<usize>> = std::thread::scope(|scope| {
            let (place, first) = (&place, round * 20_000);
            let writers = [("a", first), ("b", first + 10_000)]
                .map(|(cache, first)| scope.spawn(move || write_and_kill(place, cache, first)));
            writers.map(|writer| writer.join().unwrap()).to_vec()
        });
        acknowledged.extend(writers.into_iter().flatten());
        let found = rows_in_home(&place).await;
        for number in &acknowledged {
            let times = found.iter().filter(|body| **body == number.to_string()).count();
            assert_eq!(times, 2, "{number} was acknowledged: each batch writes it twice, and once only");
        }
    }
    assert!(acknowledged.len() > 5, "{acknowledged:?}");
}

/// The head is asked for first, and a listing later may show what others have published since.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_begins_while_it_is_opened_has_not_lost_its_head() {
    let place = Place::new();
    let (slow, adopting) = (place.home(), place.home());
    for home in [&slow, &adopting] {
        home.stall("list");
    }
    let opening = tokio::spawn(DatabaseStore::open(slow.clone(), place.options("b")));
    let existing = tokio::spawn(exists(slow.clone()));
    let file = place.cache("other.db");
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let adopted = {
        let (home, options, file) = (adopting.clone(), place.options("c"), file.clone());
        tokio::spawn(async move { adopt(home, options, &file).await })
    };
    while !(slow.has_stalled() && adopting.has_stalled()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let store = place.open("a").await.unwrap();
    for body in ["one", "two"] {
        add(&store, body).await.unwrap();
    }
    store.close().await.unwrap();
    for home in [&slow, &slow, &adopting] {
        home.go_on();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let store = opening.await.unwrap().unwrap();
    assert_eq!(rows(&store).await, ["one", "two"]);
    assert!(existing.await.unwrap().unwrap());
    let refused = adopted.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("generation 2"), "{refused}");
}

/// A head that names another base is refused for its version once, and not each time, also where each call tries once.
#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_lease_and_knows_an_old_head_goes_on() {
    let place = Place::new();
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let store = DatabaseStore::open(place.home(), Options { retry, ..place.holding("a") }).await.unwrap();
    for body in ["one", "two"] {
        add(&store, body).await.unwrap();
    }
    lose_lease(&place);
    let other = place.open("b").await.unwrap();
    assert!(other.fold().await.unwrap());
    other.close().await.unwrap();
    let mut refused = 0;
    while let Err(error) = add(&store, "three").await {
        assert!(
            error.kind() == ErrorKind::OutcomeUnknown || error.kind() == ErrorKind::Unavailable,
            "{error}"
        );
        refused += 1;
        assert!(refused < 5, "{error}");
    }
    assert_eq!(rows_in_home(&place).await.last().unwrap(), "three");
    store.close().await.unwrap();
}

/// Its head names an index that others have replaced and removed: that is no damage.
#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_lease_while_it_folded_does_not_take_an_old_index_for_a_lost_one() {
    let place = Place::new();
    let (home, options) = (place.home(), place.holding("a"));
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    let other = place.open("b").await.unwrap();
    for body in ["one", "two", "three"] {
        add(&other, body).await.unwrap();
    }
    store.ensure_fresh().await.unwrap();
    assert!(other.merge().await.unwrap());
    let old = place.objects("index");
    home.stall("put base");
    let folding = tokio::spawn({
        let store = store.clone();
        async move { store.fold().await }
    });
    while !home.has_stalled() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    lose_lease(&place);
    for body in ["four", "five"] {
        add(&other, body).await.unwrap();
    }
    assert!(other.merge().await.unwrap());
    for name in old {
        fs::remove_file(place.object("index", &name)).unwrap();
    }
    home.go_on();
    assert!(!folding.await.unwrap().unwrap(), "others went on without it");
    store.close().await.unwrap();
    other.verify().await.unwrap();
    other.close().await.unwrap();
    assert_eq!(rows_in_home(&place).await.len(), 5);
}
