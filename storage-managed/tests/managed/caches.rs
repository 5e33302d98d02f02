//! What is found in a cache: damage, foreign hands, and what the home can mend.

use std::{fs, os::unix::fs::FileExt, path::Path};

use rusqlite::Connection;
use storage_managed::{DatabaseStore, Error, Options};

use crate::{Place, add, copy_folder, rows, rows_in_home};

const EXPECTED: [&str; 3] = ["one", "two", "three"];

/// A cache with a log, closed.
pub(crate) async fn filled() -> Place {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    for body in EXPECTED {
        add(&store, body).await.unwrap();
    }
    store.close().await.unwrap();
    assert!(fs::metadata(place.cache("a").join("database.db-wal")).unwrap().len() > 0);
    place
}

async fn opens(place: &Place) {
    let store = place.open("a").await.unwrap();
    assert_eq!(rows(&store).await, EXPECTED);
    assert_eq!(store.status().generation, 3);
    add(&store, "four").await.unwrap();
    store.close().await.unwrap();
    assert_eq!(rows_in_home(place).await.len(), 4);
}

pub(crate) async fn is_refused(place: &Place) {
    let Err(Error::Diverged { path }) = place.open("a").await else { panic!("it opens") };
    assert!(path.join("database.db").exists());
    assert_eq!(rows_in_home(place).await, EXPECTED, "the home is as it was");
    let options = Options { discard_after_rescue: true, ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    assert_eq!(rows(&store).await, EXPECTED);
    assert_eq!(store.rescued().unwrap().len(), 1);
    store.close().await.unwrap();
    opens(place).await;
}

fn foreign(path: &Path, sql: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_checkpoint_changes_nothing() {
    let place = filled().await;
    let database = place.cache("a").join("database.db");
    foreign(&database, "SELECT count(*) FROM t");
    assert!(!place.cache("a").join("database.db-wal").exists(), "it was written back on close");
    opens(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_write_is_kept_and_refused() {
    let place = filled().await;
    foreign(&place.cache("a").join("database.db"), "INSERT INTO t (body) VALUES ('foreign')");
    is_refused(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_an_intent_are_kept_and_refused() {
    let place = filled().await;
    let db = Connection::open(place.cache("a").join("database.db")).unwrap();
    storage_managed::prepare(&db).unwrap();
    db.execute_batch("INSERT INTO t (body) VALUES ('foreign')").unwrap();
    drop(db);
    is_refused(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_record_is_refused_where_the_home_does_not_know_the_cache_and_a_lost_cache_is_fetched() {
    let place = filled().await;
    let state = place.cache("a").join("state");
    fs::write(&state, vec![b'x'; 48 * 1024]).unwrap();
    opens(&place).await;
    let place = filled().await;
    fs::write(place.cache("a").join("state"), vec![b'x'; 48 * 1024]).unwrap();
    foreign(&place.cache("a").join("database.db"), "INSERT INTO t (body) VALUES ('foreign')");
    is_refused(&place).await;
    // A write that was cut short leaves the record before it.
    for slot in 0..3 {
        let place = filled().await;
        let file = fs::OpenOptions::new().write(true).open(place.cache("a").join("state")).unwrap();
        file.write_all_at(b"torn", slot * 16 * 1024 + 60).unwrap();
        opens(&place).await;
    }
    let place = filled().await;
    fs::remove_dir_all(place.cache("a")).unwrap();
    opens(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_log_is_fetched_again_where_nothing_unpublished_was_in_it() {
    let place = filled().await;
    let log = fs::OpenOptions::new().write(true).open(place.cache("a").join("database.db-wal")).unwrap();
    log.set_len(log.metadata().unwrap().len() - 100).unwrap();
    opens(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_noticed() {
    let place = filled().await;
    let database = place.cache("a").join("database.db");
    foreign(&database, "SELECT count(*) FROM t");
    let file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    file.write_all_at(b"damage", 5_000).unwrap();
    is_refused(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_missing_objects_are_refused_by_name() {
    let place = filled().await;
    let whole = place.cache("whole");
    copy_folder(&place.home_path(), &whole);
    let segments = place.objects("seg");
    for (kind, name) in
        [("seg", segments[0].as_str()), ("seg", segments[1].as_str()), ("base", &place.objects("base")[0])]
    {
        for damage in ["flip", "cut", "remove"] {
            let path = place.object(kind, name);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "flip" => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    fs::write(&path, bytes).unwrap();
                }
                "cut" => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
            let error = place.open("fresh").await.unwrap_err();
            let expected = format!("{kind}/{name}");
            match error {
                Error::Corrupt { object, .. } => {
                    assert!(
                        object == expected || (damage == "remove" && object == "head"),
                        "{damage} {object}"
                    );
                }
                error => panic!("{damage} {expected}: {error}"),
            }
            let _ = fs::remove_dir_all(place.home_path());
            copy_folder(&whole, &place.home_path());
        }
    }
    assert_eq!(rows_in_home(&place).await, EXPECTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_were_swapped_are_refused() {
    let place = filled().await;
    let segments = place.objects("seg");
    fs::copy(place.object("seg", &segments[0]), place.object("seg", &segments[1])).unwrap();
    let error = place.open("fresh").await.unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { object, .. } if *object == format!("seg/{}", segments[1])),
        "{error}"
    );
}
