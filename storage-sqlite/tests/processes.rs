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
    process::{Child, Command},
    sync::Arc,
};

use common::Place;
use futures::future::join_all;
use storage_core::{Json, StorageBackend};

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

/// `cargo test` builds the examples beside the tests.
fn start_child(place: &Place) -> Child {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().with_file_name("examples").join("many_processes");
    let mut child = Command::new(example.with_extension(std::env::consts::EXE_EXTENSION));
    child.arg(place.path()).arg(INCREMENTS.to_string()).spawn().unwrap()
}
