//! A file that is moved, replaced or deleted under a running program.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::{fs, path::PathBuf, time::Duration};

use common::{Place, connected, json};
use rusqlite::Connection;
use storage_core::{Entry, ErrorKind, StorageBackend, SweepConfig};
use storage_sqlite::{SqliteBackend, SqliteConfig};

fn beside(place: &Place, name: &str) -> PathBuf {
    place.folder.path().join(name)
}

/// A backup as the same program would have made it.
async fn backup(place: &Place) {
    let other = connected(SqliteConfig::new(beside(place, "backup.db"))).await;
    other.set("deal:backup", json("1"), None).await.unwrap();
    other.disconnect().await.unwrap();
}

async fn opened(place: &Place) -> SqliteBackend {
    let backend = place.connected().await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    assert!(backend.exists("deal:1").await.unwrap());
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    backend
}

/// Every kind of write is refused at once, every kind of read soon.
async fn assert_unusable(backend: &SqliteBackend) {
    let errors = [
        backend.set("deal:2", json("1"), None).await.unwrap_err(),
        backend.set_many(vec![Entry::new("deal:3", json("1"))]).await.unwrap_err(),
        backend.increment("count", 1, None).await.unwrap_err(),
        backend.delete("deal:1").await.unwrap_err(),
        backend.cleanup().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.hint().unwrap().contains("connect again"), "{error}");
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let errors = [
        backend.get("deal:1").await.unwrap_err(),
        backend.exists("deal:1").await.unwrap_err(),
        backend.keys("*").await.unwrap_err(),
        backend.stats().await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Unavailable), "{errors:?}");
    let health = backend.health().await;
    assert!(!health.reads() && !health.writes(), "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_file_takes_no_write_and_connecting_again_makes_a_new_one() {
    let place = Place::new();
    let backend = opened(&place).await;
    fs::remove_file(place.path()).unwrap();
    assert_unusable(&backend).await;
    assert!(!place.path().exists(), "nobody makes a file by the way");
    backend.disconnect().await.unwrap();
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), [""; 0]);
    backend.set("deal:2", json("2"), None).await.unwrap();
    backend.disconnect().await.unwrap();
    assert_eq!(place.connected().await.keys("*").await.unwrap(), ["deal:2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_replaced_is_left_alone_and_connecting_again_finds_it() {
    let place = Place::new();
    backup(&place).await;
    let backend = opened(&place).await;
    fs::rename(beside(&place, "backup.db"), place.path()).unwrap();
    let bytes = fs::read(place.path()).unwrap();
    assert_unusable(&backend).await;
    backend.disconnect().await.unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), bytes, "neither a write nor a checkpoint has come to it");
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:backup"], "and no log of the old one");
}

#[tokio::test]
async fn another_program_finds_the_new_file_without_the_log_of_the_old_one() {
    let place = Place::new();
    backup(&place).await;
    let backend = opened(&place).await;
    fs::rename(place.path(), beside(&place, "old.db")).unwrap();
    fs::rename(beside(&place, "backup.db"), place.path()).unwrap();
    let error = backend.set("deal:2", json("1"), None).await.unwrap_err();
    assert!(error.hint().unwrap().contains("agent.db-wal.replaced-"), "{error}");
    let keys = |path: PathBuf| -> String {
        let db = Connection::open(path).unwrap();
        db.query_row("SELECT group_concat(key) FROM kv_store", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(keys(place.path()), "deal:backup");
    // What was acknowledged is there, for whoever brings it together again.
    drop(backend);
    let names = fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let log = names.map(|name| name.into_string().unwrap()).find(|name| name.contains("-wal.replaced-"));
    fs::rename(beside(&place, &log.unwrap()), beside(&place, "old.db-wal")).unwrap();
    assert_eq!(keys(beside(&place, "old.db")), "deal:1");
}

#[tokio::test]
async fn a_file_that_comes_back_goes_on_with_all_that_it_had() {
    let place = Place::new();
    let backend = opened(&place).await;
    fs::rename(place.path(), beside(&place, "elsewhere.db")).unwrap();
    assert_unusable(&backend).await;
    fs::rename(beside(&place, "elsewhere.db"), place.path()).unwrap();
    backend.set("deal:2", json("1"), None).await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1", "deal:2"]);
    assert!(backend.health().await.writes());
}

#[tokio::test]
async fn a_log_that_was_deleted_is_noticed_and_disconnecting_saves_what_it_held() {
    let place = Place::new();
    let backend = opened(&place).await;
    fs::remove_file(beside(&place, "agent.db-wal")).unwrap();
    assert_unusable(&backend).await;
    backend.disconnect().await.unwrap();
    assert_eq!(place.connected().await.keys("*").await.unwrap(), ["deal:1"]);
}

#[tokio::test]
async fn a_folder_that_was_moved_is_noticed() {
    let place = Place::new();
    let folder = beside(&place, "data");
    let backend = connected(SqliteConfig::new(folder.join("agent.db"))).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    fs::rename(&folder, beside(&place, "moved")).unwrap();
    assert_unusable(&backend).await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_symbolic_link_that_leads_elsewhere_is_noticed() {
    let place = Place::new();
    backup(&place).await;
    let real = beside(&place, "real.db");
    connected(SqliteConfig::new(&real)).await.disconnect().await.unwrap();
    std::os::unix::fs::symlink(&real, place.path()).unwrap();
    let backend = opened(&place).await;
    fs::remove_file(place.path()).unwrap();
    std::os::unix::fs::symlink(beside(&place, "backup.db"), place.path()).unwrap();
    assert_unusable(&backend).await;
}

#[tokio::test]
async fn what_a_link_led_to_keeps_its_log_and_its_other_users() {
    let place = Place::new();
    let (one, two) = (beside(&place, "one"), beside(&place, "two"));
    for folder in [&one, &two] {
        fs::create_dir(folder).unwrap();
        connected(SqliteConfig::new(folder.join("x.db"))).await.disconnect().await.unwrap();
    }
    let link = beside(&place, "current");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let by_link = connected(SqliteConfig::new(link.join("x.db"))).await;
    let direct = connected(SqliteConfig::new(one.join("x.db"))).await;
    by_link.set("deal:1", json("1"), None).await.unwrap();
    direct.set("deal:2", json("1"), None).await.unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&two, &link).unwrap();
    let error = by_link.set("deal:3", json("1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    direct.set("deal:4", json("1"), None).await.unwrap();
    assert!(direct.health().await.writes());
    let here: u32 = Connection::open(one.join("x.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM kv_store", [], |row| row.get(0))
        .unwrap();
    assert_eq!(here, 3, "what was acknowledged is in the file that the link led to");
}

#[tokio::test]
async fn the_sweep_keeps_off_a_file_that_was_replaced() {
    let place = Place::new();
    let sweep = Some(SweepConfig { interval: Duration::from_millis(20), ..SweepConfig::default() });
    let backend = connected(SqliteConfig { sweep, ..place.config() }).await;
    backend.set("quote:1", json("1"), Some(Duration::from_millis(50))).await.unwrap();
    let other =
        connected(SqliteConfig { sweep: None, ..SqliteConfig::new(beside(&place, "backup.db")) }).await;
    other.set("quote:2", json("1"), Some(Duration::from_millis(50))).await.unwrap();
    other.disconnect().await.unwrap();
    fs::rename(beside(&place, "backup.db"), place.path()).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rows = "SELECT count(*) FROM kv_store";
    let rows: i64 = place.outside().query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_that_is_not_there_while_files_are_replaced() {
    let place = Place::new();
    let backend = place.connected().await;
    let mut wrong = Vec::new();
    for round in 0..10 {
        let mut acknowledged = Vec::new();
        let mover = tokio::task::spawn_blocking({
            let (from, to) = (place.path(), beside(&place, &format!("old-{round}.db")));
            move || {
                std::thread::sleep(Duration::from_millis(20));
                fs::rename(from, to).unwrap();
            }
        });
        for number in 0.. {
            let key = format!("deal:{round}:{number}");
            match backend.set(&key, json("1"), None).await {
                Ok(()) => acknowledged.push(key),
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::OutcomeUnknown), "{error}");
                    break;
                }
            }
        }
        mover.await.unwrap();
        fs::rename(beside(&place, &format!("old-{round}.db")), place.path()).unwrap();
        for key in acknowledged {
            if !backend.exists(&key).await.unwrap() {
                wrong.push(key);
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}
