//! Collections and processes: several on one file, and one that is killed in the middle of its commits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write, stdin},
    ops::Range,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{Place, connected, json};
use futures::future::join_all;
use storage_core::{
    CollectionStore, Commit, Operation, Partition, Precondition, Query, StorageBackend, sequence_key,
};
use storage_sqlite::{SqliteBackend, SqliteConfig};

const KILLS: u32 = 50;
/// Tasks of one process, so that some commits share a transaction.
const TASKS: usize = 4;
const PROCESSES: u64 = 4;
const COMMITS: u64 = 50;

fn partition(id: &str) -> Partition {
    Partition::new("conversation", &[id]).unwrap()
}

/// Three items and a sum that must stand or fall together.
fn triple(of: &Partition) -> Commit {
    let message = || Operation::append("m:", json(r#"{"role": "user"}"#), "x".repeat(1_100));
    let count = Operation::Increment { sort: "count".into(), by: 3 };
    Commit::new(of.clone()).with(message()).with(message()).with(count).with(message())
}

/// Starts a test of this file as a process of its own, on the file of `place`.
fn start(place: &Place, test: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", place.path().display()).unwrap();
    child
}

/// The backend of a started process.
async fn backend_of_the_test() -> Arc<SqliteBackend> {
    let mut path = String::new();
    stdin().lock().read_line(&mut path).unwrap();
    Arc::new(connected(SqliteConfig::new(path.trim_end())).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_no_half_commit_and_loses_no_acknowledged_one() {
    let place = Place::new();
    let mut acknowledged = [0; TASKS];
    for kill in 0..KILLS {
        let mut child = start(&place, "the_process_that_is_killed");
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reading = thread::spawn(move || versions(lines));
        // The first ones end while the process still starts, the later ones in the middle of its commits.
        let start = if kill < 5 { 0 } else { 60 };
        tokio::time::sleep(Duration::from_millis(start) + Duration::from_micros(kill_moment(kill))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let printed = reading.join().unwrap();
        let backend = place.connected().await;
        for (task, acknowledged) in acknowledged.iter_mut().enumerate() {
            let versions = assert_whole(&backend, &partition(&task.to_string())).await;
            if let Some(version) = printed.get(&task) {
                assert!(versions.contains(version), "{version} is not in {versions:?}");
                *acknowledged = version - versions.start + 1;
            }
            let stored = versions.end - versions.start;
            // One commit may have been under way.
            assert!((*acknowledged..=*acknowledged + 1).contains(&stored), "{acknowledged}: {stored}");
            *acknowledged = stored;
        }
        backend.disconnect().await.unwrap();
    }
    let sound: String =
        place.outside().pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let total: u64 = acknowledged.iter().sum();
    assert!(total > u64::from(KILLS), "the processes did commit: {total}");
}

/// Moments that differ from kill to kill, up to 60 ms.
fn kill_moment(kill: u32) -> u64 {
    let spread = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), kill);
    spread % 60_000
}

/// The last version that each task printed.
fn versions(lines: BufReader<ChildStdout>) -> BTreeMap<usize, u64> {
    let mut last = BTreeMap::new();
    // The line that the kill cut has no end: its commit was not acknowledged to anybody.
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8(line).unwrap();
        let Some(numbers) = line.split("committed ").nth(1).and_then(|rest| rest.strip_suffix('.')) else {
            continue;
        };
        let (task, version) = numbers.split_once(' ').unwrap();
        last.insert(task.parse().unwrap(), version.parse().unwrap());
    }
    last
}

/// Checks that a partition holds whole triples alone, and returns the versions that its commits had.
async fn assert_whole(backend: &SqliteBackend, of: &Partition) -> Range<u64> {
    let Some(info) = backend.partition(of).await.unwrap() else { return 0..0 };
    let first = backend.items(of, &[&sequence_key("m:", 1)]).await.unwrap().remove(0).unwrap();
    let versions = first.version..info.version + 1;
    let commits = versions.end - versions.start;
    assert_eq!((info.sequence, info.items), (commits * 3, commits * 3 + 1));
    let mut next = Some(Query::all(of.clone(), 10_000).without_bodies());
    let (mut sorts, mut bytes) = (Vec::new(), 0);
    while let Some(query) = next {
        let page = backend.query(query.clone()).await.unwrap();
        bytes += page
            .items
            .iter()
            .map(|item| (item.sort.len() + item.attributes.len()) as u64 + item.body_bytes)
            .sum::<u64>();
        sorts.extend(page.items.iter().map(|item| item.sort.clone()));
        next = query.after(&page);
    }
    let expected = (1..=info.sequence).map(|number| sequence_key("m:", number));
    assert_eq!(sorts, [vec!["count".to_owned()], expected.collect()].concat());
    assert_eq!(bytes, info.bytes);
    let count = backend.items(of, &["count"]).await.unwrap().remove(0).unwrap();
    assert_eq!(count.attributes, json(&info.sequence.to_string()));
    versions
}

/// What is killed by [`a_killed_process_leaves_no_half_commit_and_loses_no_acknowledged_one`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by another test as a process of its own"]
async fn the_process_that_is_killed() {
    let backend = backend_of_the_test().await;
    let tasks = (0..TASKS).map(|task| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let of = partition(&task.to_string());
            loop {
                let version = backend.commit(triple(&of)).await.unwrap().version;
                println!("committed {task} {version}.");
            }
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn processes_that_start_on_an_empty_file_append_without_losing_or_repeating() {
    let place = Place::new();
    let children: Vec<Child> =
        (0..PROCESSES).map(|_| start(&place, "one_of_the_processes_that_append")).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let backend = place.connected().await;
    let shared = assert_whole(&backend, &partition("shared")).await;
    assert_eq!(shared.end - shared.start, PROCESSES * 2 * COMMITS);
    let raced = assert_whole(&backend, &partition("raced")).await;
    assert_eq!(raced.end - raced.start, 1, "of all who expected no partition one committed");
}

/// What each process of [`processes_that_start_on_an_empty_file_append_without_losing_or_repeating`] does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by another test as a process of its own"]
async fn one_of_the_processes_that_append() {
    let backend = backend_of_the_test().await;
    let raced = triple(&partition("raced")).only_if(Precondition::Version(0));
    let _ = backend.commit(raced).await;
    let tasks = (0..2).map(|_| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            for _ in 0..COMMITS {
                backend.commit(triple(&partition("shared"))).await.unwrap();
            }
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    backend.disconnect().await.unwrap();
}
