//! Files and folders that may not be written to.
#![cfg(unix)]
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
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Place, connected, json};
use storage_core::{ErrorKind, StorageBackend};
use storage_sqlite::{SqliteBackend, SqliteConfig};

const NAME: &str = "agent ?#%.db";
/// A user without rights of its own, for tests that run as root, which nothing is refused.
const NOBODY: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A closed database with an entry, in a folder of its own that everybody may look into.
async fn database(place: &Place) -> PathBuf {
    set_mode(place.folder.path(), 0o755);
    let folder = place.folder.path().join("data");
    fs::create_dir(&folder).unwrap();
    let file = folder.join(NAME);
    let backend = connected(SqliteConfig::new(&file)).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    backend.disconnect().await.unwrap();
    set_mode(&file, 0o644);
    file
}

/// To run `test` of this file in the folder of `file`, as somebody who is refused what the modes refuse.
fn without_rights(place: &Place, test: &str, file: &Path) -> Command {
    let program = place.folder.path().join("program");
    // By a process of its own: while this one has it open to write, another test may start one that inherits that.
    assert!(
        Command::new("cp").args([&std::env::current_exe().unwrap(), &program]).status().unwrap().success()
    );
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", test]).current_dir(file.parent().unwrap());
    if fs::metadata(file).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn run_without_rights(place: &Place, test: &str, file: &Path) {
    let done = without_rights(place, test, file).output().unwrap();
    // So that it can be removed.
    set_mode(file.parent().unwrap(), 0o755);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by others, as a user without rights"]
async fn reads_and_is_told_why_it_cannot_write() {
    let backend = connected(SqliteConfig::new(NAME)).await;
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")));
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    assert!(backend.get_many(&["deal:1"]).await.unwrap()[0].is_ok());
    for error in [
        backend.set("deal:2", json("1"), None).await.unwrap_err(),
        backend.delete("deal:1").await.unwrap_err(),
        backend.cleanup().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains("can be read and not written to"), "{error}");
        assert!(error.hint().unwrap().contains("check the rights"), "{error}");
    }
    let health = backend.health().await;
    assert!(health.reads() && !health.writes(), "{health:?}");
    backend.disconnect().await.unwrap();
}

#[tokio::test]
#[ignore = "run by others, as a user without rights"]
async fn is_refused() {
    let backend = SqliteBackend::new(SqliteConfig::new(NAME)).unwrap();
    let error = backend.connect().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Unavailable), "{error}");
    assert!(error.hint().is_some(), "{error}");
}

#[tokio::test]
#[ignore = "run by others, as a user without rights"]
async fn is_told_what_is_in_the_way() {
    let backend = SqliteBackend::new(SqliteConfig::new(NAME)).unwrap();
    let error = backend.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains("holds a part of it"), "{error}");
    assert!(error.hint().unwrap().contains("copy both"), "{error}");
}

/// Read without locks, which is right only while nobody writes.
#[tokio::test]
#[ignore = "run by others, as a user without rights"]
async fn is_told_when_somebody_writes() {
    let backend = connected(SqliteConfig::new(NAME)).await;
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    println!("connected");
    let end = Instant::now() + Duration::from_secs(20);
    let error = loop {
        match backend.keys("*").await {
            Ok(keys) => assert!(keys == ["deal:1"] && Instant::now() < end, "{keys:?}"),
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("has appeared") && error.hint().is_some(), "{error}");
    backend.disconnect().await.unwrap();
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1", "deal:2"]);
}

const READS: &str = "reads_and_is_told_why_it_cannot_write";

#[tokio::test]
async fn a_file_in_a_folder_that_takes_no_log_is_read() {
    let place = Place::new();
    let file = database(&place).await;
    set_mode(file.parent().unwrap(), 0o555);
    run_without_rights(&place, READS, &file);
    assert_eq!(names(file.parent().unwrap()).len(), 1, "nothing was made");
}

#[tokio::test]
async fn who_reads_without_locks_is_told_when_somebody_writes() {
    let place = Place::new();
    let file = database(&place).await;
    set_mode(file.parent().unwrap(), 0o555);
    let mut command = without_rights(&place, "is_told_when_somebody_writes", &file);
    let mut child = command.arg("--nocapture").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("connected")));
    set_mode(file.parent().unwrap(), 0o755);
    let writer = connected(SqliteConfig::new(&file)).await;
    writer.set("deal:2", json("1"), None).await.unwrap();
    let said: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
}

#[tokio::test]
async fn a_file_that_may_not_be_written_to_is_read() {
    let place = Place::new();
    let file = database(&place).await;
    set_mode(&file, 0o444);
    set_mode(file.parent().unwrap(), 0o777);
    run_without_rights(&place, READS, &file);
}

#[tokio::test]
async fn a_file_that_somebody_else_writes_to_is_read_with_its_log() {
    let place = Place::new();
    let file = database(&place).await;
    let writer = connected(SqliteConfig::new(&file)).await;
    writer.set("deal:0", json("1"), None).await.unwrap();
    writer.delete("deal:0").await.unwrap();
    for name in names(file.parent().unwrap()) {
        set_mode(&file.with_file_name(name), 0o444);
    }
    set_mode(file.parent().unwrap(), 0o555);
    run_without_rights(&place, READS, &file);
}

#[tokio::test]
async fn a_file_of_the_python_agents_is_read() {
    let place = Place::new();
    let file = database(&place).await;
    let outside = rusqlite::Connection::open(&file).unwrap();
    outside.pragma_update(None, "journal_mode", "DELETE").unwrap();
    outside
        .execute_batch("DROP TABLE storage_item; DROP TABLE storage_partition; DROP TABLE storage_meta;")
        .unwrap();
    drop(outside);
    set_mode(file.parent().unwrap(), 0o555);
    run_without_rights(&place, READS, &file);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_not_passed_over() {
    let place = Place::new();
    let file = database(&place).await;
    let writer = connected(SqliteConfig::new(&file)).await;
    writer.set("deal:2", json("1"), None).await.unwrap();
    let copy = place.folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let to = copy.join(NAME);
    fs::copy(&file, &to).unwrap();
    fs::copy(file.with_file_name(format!("{NAME}-wal")), copy.join(format!("{NAME}-wal"))).unwrap();
    set_mode(&copy, 0o555);
    run_without_rights(&place, "is_told_what_is_in_the_way", &to);
}

/// A file in the middle of a transaction is none that is read as it is.
#[tokio::test]
async fn a_journal_that_cannot_be_undone_is_not_passed_over() {
    let place = Place::new();
    let file = database(&place).await;
    let outside = rusqlite::Connection::open(&file).unwrap();
    outside.pragma_update(None, "journal_mode", "DELETE").unwrap();
    outside.pragma_update(None, "cache_size", 1).unwrap();
    let fill = "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
        INSERT INTO kv_store SELECT 'k' || i, hex(randomblob(2000)), NULL FROM n";
    outside.execute_batch(fill).unwrap();
    let copy = place.folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let to = copy.join(NAME);
    // By a process of its own: closing the file in this one would end the transaction's locks.
    for suffix in ["", "-journal"] {
        let from = file.with_file_name(format!("{NAME}{suffix}"));
        let copied = Command::new("cp").args([from, copy.join(format!("{NAME}{suffix}"))]).status().unwrap();
        assert!(copied.success());
    }
    set_mode(&copy, 0o555);
    run_without_rights(&place, "is_told_what_is_in_the_way", &to);
}

#[tokio::test]
async fn what_cannot_be_looked_into_is_refused() {
    let place = Place::new();
    let file = database(&place).await;
    set_mode(&file, 0o000);
    run_without_rights(&place, "is_refused", &file);
}
