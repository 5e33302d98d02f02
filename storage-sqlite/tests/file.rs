//! The file: how it is made, what it may be, who may read it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
    time::Duration,
};

use common::{Place, connected, json};
use futures::future::join_all;
use storage_core::{Error, ErrorKind, MAX_TIMEOUT, StorageBackend, SweepConfig};
use storage_sqlite::{SqliteBackend, SqliteConfig, Synchronous};

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn refused(config: SqliteConfig) -> Error {
    let backend = match SqliteBackend::new(config) {
        Ok(backend) => backend,
        Err(error) => return error,
    };
    let error = backend.connect().await.unwrap_err();
    assert_eq!(error.backend(), Some("sqlite"));
    assert_eq!(backend.get("deal:1").await.unwrap_err().kind(), ErrorKind::NotConnected);
    error
}

#[tokio::test]
async fn constructing_makes_no_file() {
    let place = Place::new();
    drop(SqliteBackend::new(place.config()).unwrap());
    assert!(!place.path().exists());
}

#[tokio::test]
async fn file_logs_and_folder_are_for_this_user_alone() {
    let place = Place::new();
    let folder = place.folder.path().join("a/b");
    let path = folder.join("agent.db");
    let backend = connected(SqliteConfig::new(&path)).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    for name in ["agent.db", "agent.db-wal", "agent.db-shm"] {
        assert_eq!(mode(folder.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn modes_of_what_is_there_stay() {
    let place = Place::new();
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place.outside().execute_batch("CREATE TABLE other (x)").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o640)).unwrap();
    place.connected().await.set("deal:1", json("1"), None).await.unwrap();
    assert_eq!((mode(place.path()), mode(place.folder.path())), (0o640, 0o755));
}

#[tokio::test]
async fn the_schema_is_the_stated_one_and_the_file_is_in_wal() {
    let place = Place::new();
    let backend = place.connected().await;
    let outside = place.outside();
    let mut columns =
        outside.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info('kv_store')").unwrap();
    let columns: Vec<(String, String, bool, bool)> = columns
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let column = |name: &str, kind: &str, required, key| (name.to_owned(), kind.to_owned(), required, key);
    assert_eq!(
        columns,
        [
            column("key", "TEXT", false, true),
            column("value", "TEXT", true, false),
            column("expires_at", "REAL", false, false)
        ]
    );
    let index: String = outside
        .query_row("SELECT name FROM pragma_index_info('idx_expires_at')", [], |row| row.get(0))
        .unwrap();
    assert_eq!(index, "expires_at");
    assert_eq!(backend.stats().await.unwrap().details["journal_mode"], "wal");
}

#[tokio::test]
async fn a_file_of_the_python_agents_opens_as_it_is() {
    let place = Place::new();
    let outside = place.outside();
    outside
        .execute_batch(
            "CREATE TABLE kv_store (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at REAL);
             CREATE INDEX idx_expires_at ON kv_store (expires_at);
             INSERT INTO kv_store VALUES ('deal:1', '{\"status\": \"active\"}', NULL);
             INSERT INTO kv_store VALUES ('quote:old', '1', 1700000000.25);
             INSERT INTO kv_store VALUES ('quote:new', '2', 32500000000);",
        )
        .unwrap();
    let backend = place.connected().await;
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1", "quote:new"]);
    assert_eq!(backend.get("deal:1").await.unwrap().unwrap().as_str(), "{\"status\": \"active\"}");
    assert!(!backend.exists("quote:old").await.unwrap());
    backend.set("deal:2", json("2"), None).await.unwrap();
    let seen: String =
        outside.query_row("SELECT value FROM kv_store WHERE key = 'deal:2'", [], |row| row.get(0)).unwrap();
    assert_eq!(seen, "2");
}

#[tokio::test]
async fn a_table_of_another_shape_is_a_config_error() {
    let place = Place::new();
    place.outside().execute_batch("CREATE TABLE kv_store (k TEXT, v TEXT, expires_at REAL)").unwrap();
    assert_eq!(refused(place.config()).await.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_a_config_error() {
    let place = Place::new();
    fs::write(place.path(), "not a database at all ".repeat(100)).unwrap();
    let error = refused(place.config()).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("not a SQLite database"), "{error}");
    assert!(fs::read_to_string(place.path()).unwrap().starts_with("not a database"), "it is left alone");
}

#[tokio::test]
async fn places_where_no_file_can_be_are_named() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    symlink("loop", place.folder.path().join("loop")).unwrap();
    for (path, said) in [
        (place.folder.path().to_owned(), "is a folder"),
        (place.path().join("below/agent.db"), "cannot create"),
        (place.folder.path().join("loop/agent.db"), "cannot create"),
        (Path::new("/proc/agent.db").to_owned(), "cannot create"),
    ] {
        let error = refused(SqliteConfig::new(&path)).await;
        assert!(error.to_string().contains(said), "{}: {error}", path.display());
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn settings_that_cannot_be_are_named() {
    let place = Place::new();
    let base = || place.config();
    for (config, name) in [
        (SqliteConfig::new(""), "names no file"),
        (SqliteConfig::new(":memory:"), "memory"),
        (SqliteConfig { readers: 0, ..base() }, "`readers`"),
        (SqliteConfig { operation_timeout: Duration::ZERO, ..base() }, "`operation_timeout`"),
        (SqliteConfig { operation_timeout: Duration::MAX, ..base() }, "operation_timeout"),
        (SqliteConfig { busy_timeout: Duration::MAX, ..base() }, "busy_timeout"),
        (
            SqliteConfig { sweep: Some(SweepConfig { batch: 0, ..SweepConfig::default() }), ..base() },
            "`sweep.batch`",
        ),
    ] {
        let error = refused(config).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn settings_at_the_extremes_work() {
    let place = Place::new();
    let config = SqliteConfig {
        operation_timeout: MAX_TIMEOUT,
        busy_timeout: MAX_TIMEOUT,
        readers: 1,
        synchronous: Synchronous::Normal,
        sweep: None,
        ..place.config()
    };
    let backend = connected(config).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    assert!(backend.exists("deal:1").await.unwrap());
    backend.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_path_that_looks_like_a_uri_is_a_path() {
    let place = Place::new();
    let path = place.folder.path().join("file:a?mode=memory #%41.db");
    connected(SqliteConfig::new(&path)).await.set("deal:1", json("1"), None).await.unwrap();
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_handles_make_the_file_at_once() {
    for _ in 0..10 {
        let place = Arc::new(Place::new());
        let writes = (0..12).map(|number| {
            let place = Arc::clone(&place);
            tokio::spawn(async move {
                let backend = place.connected().await;
                backend.set(&format!("deal:{number}"), json("1"), None).await.unwrap();
                backend.disconnect().await.unwrap();
            })
        });
        join_all(writes.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
        assert_eq!(place.connected().await.keys("*").await.unwrap().len(), 12);
    }
}

#[tokio::test]
async fn disconnect_leaves_one_file_and_no_logs() {
    let place = Place::new();
    let backend = place.connected().await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    backend.disconnect().await.unwrap();
    let names: Vec<_> =
        fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["agent.db"]);
}

/// A disk that fails under a mapped page is a signal, not an error.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_not_mapped_into_memory() {
    let place = Place::new();
    let backend = place.connected().await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    // What is still in the WAL is not read from the database file.
    place.outside().query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).unwrap();
    for _ in 0..3 {
        assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")));
    }
    let (maps, path) = (fs::read_to_string("/proc/self/maps").unwrap(), place.path().canonicalize().unwrap());
    assert!(!maps.lines().any(|line| line.ends_with(path.to_str().unwrap())), "{maps}");
}
