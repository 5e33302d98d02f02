//! Servers and connections that go away and come back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use storage_core::{Delivery, ErrorKind, HealthStatus, PubSub, StorageBackend, StorageExt};
use storage_tests::{Redis, RedisCluster, RedisOptions};
use support::{config, json, open, until};

fn server() -> Redis {
    Redis::start(&RedisOptions::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_and_started_again_is_used_again() {
    let mut server = server();
    let backend = open(config(&server.url())).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    server.kill().unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let read = backend.get("deal:1").await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Unavailable, "{read}");
        let write = backend.set("deal:1", json("2"), None).await.unwrap_err();
        assert!(matches!(write.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown), "{write}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(backend.health().await.status(), HealthStatus::Unhealthy);
    server.restart().unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")));
    backend.set("deal:1", json("3"), None).await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_no_more_than_the_deadline() {
    let server = server();
    let mut config = config(&server.url());
    config.operation_timeout = Duration::from_millis(300);
    let backend = open(config).await;
    backend.increment("n", 1, None).await.unwrap();
    server.pause();
    let start = Instant::now();
    let calls = (0..32).map(|number| {
        let backend = &backend;
        async move {
            match number % 2 {
                0 => backend.get("n").await.unwrap_err().kind(),
                _ => backend.increment("n", 1, None).await.unwrap_err().kind(),
            }
        }
    });
    let mut may_be_applied = 0;
    for (number, kind) in join_all(calls).await.into_iter().enumerate() {
        match kind {
            ErrorKind::OutcomeUnknown if number % 2 == 1 => may_be_applied += 1,
            // A read, or a write that was never sent.
            kind => assert_eq!(kind, ErrorKind::Timeout),
        }
    }
    assert!(may_be_applied > 0, "the first to come were sent");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let next = backend.increment("n", 1, None).await.unwrap_err();
    assert!(matches!(next.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "nothing was sent: {next}");
    server.resume();
    until("the server is used again", async || backend.get("n").await.is_ok()).await;
    let sum: i64 = backend.get_as("n").await.unwrap().unwrap();
    assert!(sum <= 1 + may_be_applied, "{sum}: a write was applied that was said not to be");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_killed_under_load_cost_only_what_was_under_way() {
    let server = Arc::new(server());
    let backend = Arc::new(open(config(&server.url())).await);
    let killer = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || {
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(50));
                server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
            }
        }
    });
    let calls = (0..32).map(|task| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let (mut done, mut unknown) = (0, 0);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(700) {
                match backend.increment(&format!("n:{task}"), 1, None).await {
                    Ok(_) => done += 1,
                    Err(error) if error.kind() == ErrorKind::OutcomeUnknown => unknown += 1,
                    Err(error) => panic!("{error}"),
                }
                backend.get(&format!("n:{task}")).await.unwrap_or_else(|error| {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    None
                });
            }
            (task, done, unknown)
        })
    });
    for outcome in join_all(calls).await {
        let (task, done, unknown) = outcome.unwrap();
        let stored: i64 = backend.get(&format!("n:{task}")).await.unwrap().unwrap().decode().unwrap();
        assert!((done..=done + unknown).contains(&stored), "{stored} of {done} + {unknown}");
    }
    killer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_node_that_comes_back_is_used_again() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let backend = open(config(&cluster.url())).await;
    let keys: Vec<String> = (0..60).map(|number| format!("deal:{number}")).collect();
    for key in &keys {
        backend.set(key, json("1"), None).await.unwrap();
    }
    cluster.nodes_mut()[0].kill().unwrap();
    let mut failed = 0;
    for key in &keys {
        if let Err(error) = backend.get(key).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            failed += 1;
        }
    }
    assert!(failed > 0, "a third of the keys lived there");
    cluster.nodes_mut()[0].restart().unwrap();
    cluster.wait_until_complete().unwrap();
    until("every key is read", async || {
        join_all(keys.iter().map(|key| backend.get(key))).await.iter().all(Result::is_ok)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_is_followed() {
    let cluster = RedisCluster::start(3).unwrap();
    let backend = open(config(&cluster.url())).await;
    let keys: Vec<String> = (0..20).map(|number| format!("{{tag}}:{number}")).collect();
    for key in &keys {
        backend.set(key, json("1"), None).await.unwrap();
    }
    let nodes = cluster.nodes();
    let slot = nodes[0].command(&["CLUSTER", "KEYSLOT", "{tag}"]).unwrap();
    let ids: Vec<String> = nodes.iter().map(|node| node.command(&["CLUSTER", "MYID"]).unwrap()).collect();
    let holds = |node: &Redis| node.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).unwrap() != "0";
    let from = nodes.iter().position(holds).unwrap();
    let to = (from + 1) % nodes.len();
    nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]]).unwrap();
    nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]]).unwrap();

    // Half of the keys are there and half are here: those that are gone answer ASK.
    let port = nodes[to].port().to_string();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let full = |key: &str| {
        let mut raw = nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).unwrap();
        raw.retain(|c| c != '\r');
        raw.lines().find(|line| line.ends_with(key)).map(str::to_owned)
    };
    for key in &keys[..10] {
        if let Some(full) = full(key) {
            nodes[from].command(&["MIGRATE", "127.0.0.1", &port, &full, "0", "5000"]).unwrap();
        }
    }
    for value in backend.get_many(&names).await.unwrap() {
        assert_eq!(value.unwrap(), Some(json("1")));
    }
    assert_eq!(backend.increment(&keys[0], 1, None).await.unwrap(), 2);
    for key in &keys[10..] {
        if let Some(full) = full(key) {
            nodes[from].command(&["MIGRATE", "127.0.0.1", &port, &full, "0", "5000"]).unwrap();
        }
    }
    for node in [&nodes[to], &nodes[from]] {
        node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]]).unwrap();
    }
    assert_eq!(backend.increment(&keys[0], 1, None).await.unwrap(), 3);
    assert_eq!(backend.delete_many(&names).await.unwrap(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_delivers_and_tells_of_a_gap() {
    let server = server();
    let backend = open(config(&server.url())).await;
    let mut deliveries = backend.subscribe("pubsub:deals").await.unwrap();
    let mut other = backend.subscribe("pubsub:*").await.unwrap();
    assert_eq!(backend.publish("pubsub:deals", json("{\"n\":1}")).await.unwrap(), 1);
    assert_eq!(deliveries.next().await, Some(Delivery::Message(json("{\"n\":1}"))));
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    assert_eq!(deliveries.next().await, Some(Delivery::Gap));
    assert_eq!(other.next().await, Some(Delivery::Gap), "a channel's name is no pattern");
    assert_eq!(backend.publish("pubsub:deals", json("2")).await.unwrap(), 1);
    assert_eq!(deliveries.next().await, Some(Delivery::Message(json("2"))));
    drop(deliveries);
    until("the subscription ends", async || backend.publish("pubsub:deals", json("3")).await.unwrap() == 0)
        .await;
    backend.disconnect().await.unwrap();
    assert_eq!(other.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_is_told_of_a_gap() {
    let server = server();
    let backend = open(config(&server.url())).await;
    let mut deliveries = backend.subscribe("pubsub:deals").await.unwrap();
    for number in 0..2_000 {
        backend.publish("pubsub:deals", json(&number.to_string())).await.unwrap();
    }
    let mut seen = Vec::new();
    while let Some(delivery) = deliveries.next().await {
        let last = delivery == Delivery::Message(json("1999"));
        seen.push(delivery);
        if last {
            break;
        }
    }
    assert!(seen.contains(&Delivery::Gap));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_the_nodes_of_a_cluster() {
    let backend = support::cluster().await;
    for number in 0..8 {
        let channel = format!("pubsub:{number}");
        let mut deliveries = backend.subscribe(&channel).await.unwrap();
        backend.publish(&channel, json("1")).await.unwrap();
        assert_eq!(deliveries.next().await, Some(Delivery::Message(json("1"))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_writes_and_changes_nothing() {
    let server = server();
    let backend = open(config(&server.url())).await;
    backend.set("n", json("5.0"), None).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let kinds = [
        backend.set("deal:1", json("1"), None).await.unwrap_err().kind(),
        backend.increment("n", 1, None).await.unwrap_err().kind(),
        backend.set_many(vec![storage_core::Entry::new("a", json("1"))]).await.unwrap_err().kind(),
        backend.apply(storage_core::Batch::new().set("a", json("1"), None)).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Full; 4]);
    assert_eq!(backend.get("n").await.unwrap().unwrap().as_str(), "5.0");
    assert_eq!(backend.keys("*").await.unwrap(), ["n"]);
}
