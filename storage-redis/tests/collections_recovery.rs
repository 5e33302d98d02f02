//! Partitions when servers die, fill up or move, and connections break: never half a commit, no acknowledged one lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use storage_core::{
    CollectionStore, Commit, ErrorKind, Json, Operation, Partition, PutMode, Query, sequence_key,
};
use storage_redis::RedisBackend;
use storage_tests::{Redis, RedisCluster, RedisOptions};
use support::{config, json, open, until};

fn partition() -> Partition {
    Partition::new("conversation", &["s-1"]).unwrap()
}

/// A commit of several parts: a number in the sequence, an item of its own, a count.
fn commit(name: &str) -> Commit {
    Commit::new(partition())
        .with(Operation::append("m:", json("null"), name.to_owned()))
        .with(Operation::put(format!("w:{name}"), json("null"), vec![0; 200], PutMode::Insert))
        .with(Operation::Increment { sort: "count".into(), by: 1 })
}

async fn sorts(backend: &RedisBackend, prefix: &str) -> BTreeSet<String> {
    let mut next = Some(Query::prefix(partition(), prefix, 10_000).without_bodies());
    let mut found = BTreeSet::new();
    while let Some(query) = next {
        let page = backend.query(query.clone()).await.unwrap();
        found.extend(page.items.iter().map(|item| item.sort.clone()));
        next = query.after(&page);
    }
    found
}

/// Each commit is there with all its parts or with none; the acknowledged ones are.
async fn assert_whole(backend: &RedisBackend, acknowledged: &BTreeSet<String>, unknown: usize) {
    let Some(info) = backend.partition(&partition()).await.unwrap() else {
        assert!(acknowledged.is_empty());
        return;
    };
    let (messages, items) = (sorts(backend, "m:").await, sorts(backend, "w:").await);
    let found = backend.items(&partition(), &["count", &sequence_key("m:", 1)]).await.unwrap();
    let [Some(count), Some(first)] = &found[..] else { panic!("{found:?}") };
    let commits = info.version - first.version + 1;
    let numbers = [info.sequence, messages.len() as u64, items.len() as u64, info.items / 2];
    assert_eq!(numbers, [commits; 4]);
    assert_eq!(count.attributes, Json::from(commits.cast_signed()));
    assert!(
        acknowledged.iter().all(|name| items.contains(&format!("w:{name}"))),
        "an acknowledged one is missing"
    );
    let bounds = acknowledged.len()..=acknowledged.len() + unknown;
    assert!(bounds.contains(&items.len()), "{} of {bounds:?}", items.len());
}

/// Commits until told to stop; the names of those that were acknowledged, and how many may have happened.
async fn write(backend: &RedisBackend, round: usize, stop: &AtomicBool) -> (BTreeSet<String>, usize) {
    let writers = (0..8).map(|writer| async move {
        let (mut acknowledged, mut unknown) = (Vec::new(), 0);
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("{round}:{writer}:{number}");
            match backend.commit(commit(&name)).await {
                Ok(_) => acknowledged.push(name),
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => unknown += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
        (acknowledged, unknown)
    });
    let done = join_all(writers).await;
    let unknown = done.iter().map(|(_, unknown)| unknown).sum();
    (done.into_iter().flat_map(|(acknowledged, _)| acknowledged).collect(), unknown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_of_commits_keeps_whole_ones_and_every_acknowledged_one() {
    let settings = vec!["appendfsync always".to_owned()];
    let mut server = Redis::start(&RedisOptions { settings, ..RedisOptions::default() }).unwrap();
    let backend = Arc::new(open(config(&server.url())).await);
    let (mut acknowledged, mut unknown) = (BTreeSet::new(), 0);
    for round in 0..15 {
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn({
            let (backend, stop) = (Arc::clone(&backend), Arc::clone(&stop));
            async move { write(&backend, round, &stop).await }
        });
        tokio::time::sleep(Duration::from_millis(40 + 13 * round as u64 % 60)).await;
        server.kill().unwrap();
        stop.store(true, Ordering::Relaxed);
        let (names, open) = writing.await.unwrap();
        acknowledged.extend(names);
        unknown += open;
        server.restart().unwrap();
        until("the server is back", async || backend.partition(&partition()).await.is_ok()).await;
        assert_whole(&backend, &acknowledged, unknown).await;
    }
    eprintln!("{} acknowledged, {unknown} unknown", acknowledged.len());
    assert!(acknowledged.len() > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_killed_in_the_middle_of_commits_cost_only_what_was_under_way() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let backend = Arc::new(open(config(&server.url())).await);
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (backend, stop) = (Arc::clone(&backend), Arc::clone(&stop));
        async move { write(&backend, 0, &stop).await }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(800) {
        tokio::time::sleep(Duration::from_millis(40)).await;
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, unknown) = writing.await.unwrap();
    until("the server is used again", async || backend.partition(&partition()).await.is_ok()).await;
    assert_whole(&backend, &acknowledged, unknown).await;
    assert!(!acknowledged.is_empty());
}

#[tokio::test]
async fn a_full_server_takes_commits_whole_or_not_at_all() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let backend = open(config(&server.url())).await;
    let first = backend.commit(commit("first")).await.unwrap().version;
    let limit = |bytes: &str| server.command(&["CONFIG", "SET", "maxmemory", bytes]).unwrap();
    limit("1");
    let error = backend.commit(commit("refused")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    // What overwrites items alone adds none to the index: refused too.
    let over = Operation::put("w:first", json("1"), vec![1; 300], PutMode::Upsert);
    let error = backend.commit(Commit::new(partition()).with(over)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert_whole(&backend, &["first".to_owned()].into(), 0).await;
    let delete = Operation::Delete { sort: "nothing".into() };
    assert_eq!(backend.query(Query::all(partition(), 5)).await.unwrap().items.len(), 3);
    let error = backend.commit(Commit::new(partition()).with(delete)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert_eq!(backend.partition(&partition()).await.unwrap().unwrap().version, first);
    // Deleting makes room, so it is done.
    let room = Commit::new(partition()).with(Operation::DeleteRange { from: String::new(), to: None });
    backend.commit(room).await.unwrap();
    assert_eq!(backend.partition(&partition()).await.unwrap().unwrap().items, 0);
    limit("0");
    assert!(backend.delete_partition(&partition()).await.unwrap());

    // The limit is reached somewhere in the middle of a commit of about 2 MB.
    let (mut whole, mut none) = (0, 0);
    for step in 0..24_u64 {
        let info = server.command(&["INFO", "memory"]).unwrap();
        let used: u64 =
            info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap();
        limit(&(used + step * 300_000).to_string());
        let names: Vec<String> = (0..1_000).map(|number| format!("{step}:{number}")).collect();
        let large = names.iter().fold(Commit::new(partition()), |large, name| {
            large.with(Operation::put(format!("w:{name}"), json("null"), vec![0; 2_000], PutMode::Insert))
        });
        let before = sorts(&backend, "w:").await.len();
        let expected = match backend.commit(large).await {
            Ok(_) => before + names.len(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                before
            }
        };
        limit("0");
        let found = sorts(&backend, "w:").await.len();
        assert_eq!(found, expected);
        if found > before { whole += 1 } else { none += 1 }
    }
    assert!(whole > 0 && none > 0, "{whole} whole, {none} refused");
}

#[tokio::test]
async fn a_frozen_server_costs_no_more_than_the_deadline() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let mut config = config(&server.url());
    config.operation_timeout = Duration::from_millis(300);
    let backend = open(config).await;
    backend.commit(commit("first")).await.unwrap();
    server.pause();
    let start = Instant::now();
    let of = partition();
    let (written, read, listed) = tokio::join!(
        backend.commit(commit("second")),
        backend.query(Query::all(partition(), 5)),
        backend.partition(&of),
    );
    assert_eq!(written.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    server.resume();
    until("the server is used again", async || backend.partition(&partition()).await.is_ok()).await;
    assert_whole(&backend, &["first".to_owned()].into(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_slot_moves_is_followed() {
    let cluster = RedisCluster::start(3).unwrap();
    let config = config(&cluster.url());
    let [hash, index] =
        ["h", "s"].map(|end| format!("{}{{{}}}\0{end}", config.namespace, partition().as_str()));
    let backend = Arc::new(open(config).await);
    backend.commit(commit("first")).await.unwrap();
    let nodes = cluster.nodes();
    let slot = nodes[0].command(&["CLUSTER", "KEYSLOT", &hash]).unwrap();
    let ids: Vec<String> = nodes.iter().map(|node| node.command(&["CLUSTER", "MYID"]).unwrap()).collect();
    let holds = |node: &Redis| node.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).unwrap() != "0";
    let from = nodes.iter().position(holds).unwrap();
    let to = (from + 1) % nodes.len();
    nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]]).unwrap();
    nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]]).unwrap();
    let port = nodes[to].port().to_string();
    let migrate =
        |key: &str| nodes[from].command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).unwrap();
    backend.commit(commit("second")).await.unwrap();
    migrate(&index);
    let under_way = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.commit(commit("third")).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!under_way.is_finished(), "no node has both keys");
    migrate(&hash);
    under_way.await.unwrap().unwrap();
    for node in [&nodes[to], &nodes[from]] {
        node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]]).unwrap();
    }
    backend.commit(commit("fourth")).await.unwrap();
    let names = ["first", "second", "third", "fourth"].map(str::to_owned);
    assert_whole(&backend, &names.into(), 0).await;
}
