//! Several processes on one file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::{
    io::{BufRead, Write, stdin},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use common::{Place, connected};
use futures::future::join_all;
use storage_core::{Json, StorageBackend};
use storage_sqlite::SqliteConfig;

const PROCESSES: i64 = 4;
const HANDLES: i64 = 8;
const INCREMENTS: i64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_of_many_handles_lose_none() {
    let place = Arc::new(Place::new());
    let handles = (0..HANDLES).map(|_| {
        let place = Arc::clone(&place);
        tokio::spawn(async move {
            let backend = place.connected().await;
            for _ in 0..INCREMENTS {
                backend.increment("seen:1", 1, None).await.unwrap();
            }
        })
    });
    join_all(handles.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    let sum = place.connected().await.get("seen:1").await.unwrap();
    assert_eq!(sum, Some(Json::from(HANDLES * INCREMENTS)));
}

#[tokio::test]
async fn increments_of_many_processes_lose_none() {
    let place = Place::new();
    let children: Vec<Child> = (0..PROCESSES).map(|_| start_child(&place)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let sum = place.connected().await.get("seen:1").await.unwrap();
    assert_eq!(sum, Some(Json::from(PROCESSES * INCREMENTS)));
}

fn start_child(place: &Place) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", place.path().display()).unwrap();
    child
}

/// What each process of [`increments_of_many_processes_lose_none`] does, on the file that it reads from its input.
#[tokio::test]
#[ignore = "started by another test as a process of its own"]
async fn the_other_process() {
    let mut path = String::new();
    stdin().lock().read_line(&mut path).unwrap();
    let backend = connected(SqliteConfig::new(path.trim_end())).await;
    for _ in 0..INCREMENTS {
        backend.increment("seen:1", 1, None).await.unwrap();
    }
    backend.disconnect().await.unwrap();
}
