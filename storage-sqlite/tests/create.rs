//! Connecting where there is no store, with and without making one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::fs;

use common::{Place, connected, json};
use storage_core::{Error, ErrorKind, StorageBackend};
use storage_sqlite::{SqliteBackend, SqliteConfig};

fn existing(config: SqliteConfig) -> SqliteBackend {
    SqliteBackend::new(SqliteConfig { create: false, ..config }).unwrap()
}

async fn refused(config: SqliteConfig) -> Error {
    let error = existing(config).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.hint().unwrap().contains("storage init"), "{error}");
    error
}

#[tokio::test]
async fn where_there_is_no_store_none_is_made() {
    let place = Place::new();
    let folder = place.folder.path().join("a");
    let error = refused(SqliteConfig::new(folder.join("agent.db"))).await;
    assert!(error.to_string().contains("there is no store: no file"), "{error}");
    assert!(!folder.exists());
    refused(place.config()).await;
    assert!(!place.path().exists());

    fs::write(place.path(), "").unwrap();
    let error = refused(place.config()).await;
    assert!(error.to_string().contains("holds no store"), "{error}");
    assert_eq!(fs::metadata(place.path()).unwrap().len(), 0);

    place.outside().execute_batch("CREATE TABLE other (x)").unwrap();
    let bytes = fs::read(place.path()).unwrap();
    refused(place.config()).await;
    assert_eq!(fs::read(place.path()).unwrap(), bytes, "another program's database stays as it is");
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_store_that_is_there_works_as_ever() {
    let place = Place::new();
    place.connected().await.set("deal:1", json("1"), None).await.unwrap();
    let backend = existing(place.config());
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    backend.set("deal:2", json("1"), None).await.unwrap();
    assert!(backend.health().await.writes());
}

#[tokio::test]
async fn a_file_of_the_python_agents_stays_as_it_is() {
    let place = Place::new();
    let table = "CREATE TABLE kv_store (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at REAL);
        INSERT INTO kv_store VALUES ('deal:1', '1', NULL);";
    place.outside().execute_batch(table).unwrap();
    let bytes = fs::read(place.path()).unwrap();
    let backend = existing(place.config());
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    backend.disconnect().await.unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), bytes);
}

async fn not_made(path: &std::path::Path) -> Error {
    let error = SqliteBackend::new(SqliteConfig::new(path)).unwrap().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error
}

#[tokio::test]
async fn a_path_that_can_be_no_file_is_named_with_what_it_is() {
    let place = Place::new();
    place.connected().await;
    let below = not_made(&place.path().join("x.db")).await;
    assert!(below.to_string().contains("and no folder"), "{below}");
    let link = place.folder.path().join("link.db");
    std::os::unix::fs::symlink(place.folder.path().join("nothing.db"), &link).unwrap();
    let dangling = not_made(&link).await;
    assert!(dangling.to_string().contains("symbolic link to nothing"), "{dangling}");
}

#[tokio::test]
async fn a_relative_path_is_one_of_the_folder_in_which_the_backend_was_made() {
    let (there, elsewhere) = (Place::new(), Place::new());
    std::env::set_current_dir(there.folder.path()).unwrap();
    let backend = connected(SqliteConfig::new("agent.db")).await;
    std::env::set_current_dir(elsewhere.folder.path()).unwrap();
    backend.set("deal:1", json("1"), None).await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    assert!(there.path().exists() && !elsewhere.path().exists());
}
