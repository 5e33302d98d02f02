//! What a cache is worth after any exit: everything that is published or known opens without a person.

use std::{fs, path::Path, time::Duration};

use rusqlite::Connection;
use storage_managed::{DatabaseStore, Error, Options};

use crate::{Place, add, kills::example, rows, rows_in_home};

/// How a store is left.
#[derive(Debug, Clone, Copy)]
enum Left {
    Closed,
    Dropped,
}

/// What others do to the cache meanwhile.
const FOREIGN: [&[&str]; 5] = [
    &[],
    // Its close writes the log back.
    &["SELECT 1"],
    &["PRAGMA wal_checkpoint(PASSIVE)"],
    &["PRAGMA wal_checkpoint(TRUNCATE)"],
    &["PRAGMA wal_checkpoint(RESTART)", "SELECT count(*) FROM t"],
];

/// As any program opens it; one that is killed does not close, and so does not write back.
fn foreign(path: &Path, sql: &[&str], closes: bool) {
    let db = Connection::open(path).unwrap();
    if !closes {
        storage_managed::prepare(&db).unwrap();
    }
    for sql in sql {
        db.query_row(sql, [], |_| Ok(())).unwrap();
    }
}

async fn leave(store: DatabaseStore, left: Left) {
    match left {
        Left::Closed => store.close().await.unwrap(),
        Left::Dropped => drop(store),
    }
}

/// Opens a cache once the store that was dropped has released it.
async fn reopen(place: &Place, cache: &str) -> DatabaseStore {
    let options = Options { cache_wait: Duration::from_secs(20), ..place.options(cache) };
    DatabaseStore::open(place.home(), options).await.unwrap()
}

/// Waits until nobody has the cache.
async fn released(place: &Place, cache: &str) {
    let lock = fs::File::open(place.cache(cache).join("lock")).unwrap();
    for _ in 0..2_000 {
        if fs4::FileExt::try_lock(&lock).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the cache is still in use");
}

/// So many commits of somebody else, who folds, and removes what was superseded a while ago.
async fn others_commit(place: &Place, commits: usize, grace: Duration) {
    let options = Options { merge_segments: 8, grace, ..place.holding("others") };
    let others = DatabaseStore::open(place.home(), options).await.unwrap();
    for number in 0..commits {
        add(&others, &format!("other {number}")).await.unwrap();
    }
    others.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_a_writer_opens_after_any_exit_whatever_others_did() {
    for left in [Left::Closed, Left::Dropped] {
        for sql in FOREIGN {
            for closes in [true, false] {
                for commits in [0, 3, 80] {
                    let what = format!("{left:?}, {sql:?}, closes: {closes}, {commits} by others");
                    let place = Place::new();
                    let store = place.open("a").await.unwrap();
                    for body in ["one", "two", "three"] {
                        add(&store, body).await.unwrap();
                    }
                    leave(store, left).await;
                    released(&place, "a").await;
                    foreign(&place.cache("a").join("database.db"), sql, closes);
                    others_commit(&place, commits, Duration::ZERO).await;
                    let store = reopen(&place, "a").await;
                    assert_eq!(rows(&store).await.len(), 3 + commits, "{what}");
                    add(&store, "after").await.unwrap();
                    assert_eq!(rows_in_home(&place).await, rows(&store).await, "{what}");
                    assert_eq!(store.rescued().unwrap(), [], "{what}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_a_reader_opens_after_any_exit_whatever_others_did() {
    for left in [Left::Closed, Left::Dropped] {
        for sql in FOREIGN {
            for closes in [true, false] {
                let what = format!("{left:?}, {sql:?}, closes: {closes}");
                let place = Place::new();
                let writer = place.open("w").await.unwrap();
                add(&writer, "one").await.unwrap();
                let reader = place.open("a").await.unwrap();
                for body in ["two", "three"] {
                    add(&writer, body).await.unwrap();
                    reader.ensure_fresh().await.unwrap();
                }
                leave(reader, left).await;
                released(&place, "a").await;
                foreign(&place.cache("a").join("database.db"), sql, closes);
                let reader = reopen(&place, "a").await;
                assert_eq!(rows(&reader).await, ["one", "two", "three"], "{what}");
                add(&writer, "four").await.unwrap();
                reader.ensure_fresh().await.unwrap();
                assert_eq!(rows(&reader).await, rows_in_home(&place).await, "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_to_a_cache_of_a_reader_is_kept_and_the_cache_fetched_anew() {
    let place = Place::new();
    let writer = place.open("w").await.unwrap();
    add(&writer, "one").await.unwrap();
    let reader = place.open("a").await.unwrap();
    add(&writer, "two").await.unwrap();
    reader.ensure_fresh().await.unwrap();
    reader.close().await.unwrap();
    let path = place.cache("a").join("database.db");
    Connection::open(&path).unwrap().execute("INSERT INTO t (body) VALUES ('foreign')", []).unwrap();
    let reader = place.open("a").await.unwrap();
    assert_eq!(rows(&reader).await, ["one", "two"]);
    let kept = reader.rescued().unwrap();
    assert_eq!(kept.len(), 1, "what was there is kept");
    let kept = Connection::open(kept[0].path.join("database.db")).unwrap();
    assert_eq!(crate::rows_of(&kept).unwrap(), ["one", "two", "foreign"]);
    add(&writer, "three").await.unwrap();
    reader.ensure_fresh().await.unwrap();
    add(&reader, "four").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["one", "two", "three", "four"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_a_process_that_died_within_a_publication_opens_where_the_home_has_its_batch() {
    let mut published = 0;
    for (request, sql) in (3..8).flat_map(|request| FOREIGN.map(|sql| (request, sql))) {
        for commits in [0, 3, 80] {
            let what = format!("after request {request}, {sql:?}, {commits} by others");
            let place = Place::new();
            let store = place.open("a").await.unwrap();
            for body in ["1", "2", "3"] {
                add(&store, body).await.unwrap();
            }
            store.close().await.unwrap();
            let mut command = std::process::Command::new(example("writer"));
            command.arg(place.home_path()).arg(place.cache("a")).args(["100", &format!("after:{request}")]);
            let said = command.output().expect("the example is built").stdout;
            let dying = 100 + String::from_utf8(said).unwrap().matches("ok ").count();
            foreign(&place.cache("a").join("database.db"), sql, false);
            let is_published = rows_in_home(&place).await.contains(&dying.to_string());
            others_commit(&place, commits, Duration::from_secs(600)).await;
            match place.open("a").await {
                Ok(store) => {
                    assert_eq!(rows(&store).await, rows_in_home(&place).await, "{what}");
                    store.close().await.unwrap();
                    published += usize::from(is_published);
                }
                Err(Error::Diverged { .. }) if !is_published => {}
                Err(error) => panic!("{what}, published: {is_published}: {error}"),
            }
        }
    }
    assert!(published > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_opens_after_any_number_of_commits_by_others() {
    let place = Place::new();
    let (writer, reader) = (place.open("a").await.unwrap(), place.open("b").await.unwrap());
    add(&writer, "first").await.unwrap();
    reader.ensure_fresh().await.unwrap();
    drop((writer, reader));
    for cache in ["a", "b"] {
        released(&place, cache).await;
        foreign(&place.cache(cache).join("database.db"), &["PRAGMA wal_checkpoint(TRUNCATE)"], false);
    }
    let commits = storage_tests::kills(400);
    others_commit(&place, commits, Duration::ZERO).await;
    for cache in ["a", "b"] {
        let store = reopen(&place, cache).await;
        assert!(rows(&store).await.len() > commits, "{cache}");
        add(&store, "after").await.unwrap();
        assert_eq!(store.rescued().unwrap(), [], "{cache}");
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_has_lost_its_head_is_not_begun_anew() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    for body in ["1", "2", "3"] {
        add(&store, body).await.unwrap();
    }
    store.close().await.unwrap();
    let head = place.home_path().join("head");
    let content = fs::read(&head).unwrap();
    fs::remove_file(&head).unwrap();
    let refused = place.open("fresh").await.unwrap_err();
    assert!(matches!(&refused, Error::Corrupt { object, .. } if object == "head"), "{refused}");
    assert!(storage_managed::exists(place.home()).await.is_err());
    fs::write(&head, content).unwrap();
    assert_eq!(rows_in_home(&place).await, ["1", "2", "3"], "nothing was removed");
    // A first publication that did not come so far is no obstacle.
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    add(&store, "never named").await.unwrap();
    store.close().await.unwrap();
    fs::remove_file(place.home_path().join("head")).unwrap();
    let store = place.open("fresh").await.unwrap();
    add(&store, "1").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["1"]);
}

/// Acknowledged to this cache, and not in the home any more: the last copy is not thrown away.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_keeps_what_a_home_that_was_put_back_and_gone_on_from_has_lost() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    add(&store, "1").await.unwrap();
    let before = place.cache("before");
    crate::copy_folder(&place.home_path(), &before);
    for body in ["2", "3"] {
        add(&store, body).await.unwrap();
    }
    store.close().await.unwrap();
    fs::remove_dir_all(place.home_path()).unwrap();
    crate::copy_folder(&before, &place.home_path());
    let other = place.open("b").await.unwrap();
    for body in ["x", "y", "z"] {
        add(&other, body).await.unwrap();
    }
    let store = place.open("a").await.unwrap();
    assert_eq!(rows(&store).await, ["1", "x", "y", "z"]);
    let rescued = store.rescued().unwrap();
    assert_eq!(rescued.len(), 1);
    let to = place.cache("kept.db");
    storage_managed::export(&rescued[0].path, &to).unwrap();
    assert_eq!(crate::rows_of(&Connection::open(to).unwrap()).unwrap(), ["1", "2", "3"]);
}
