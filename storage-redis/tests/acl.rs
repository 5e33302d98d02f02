//! The least rights that README lists are enough for everything, and what is beyond a user's rights is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt;
use storage_core::{
    Batch, CollectionStore, Commit, Delivery, Entry, ErrorKind, Expected, HealthStatus, Operation, Partition,
    PubSub, PutMode, StorageBackend,
};
use storage_redis::{RedisBackend, RedisConfig};
use storage_tests::{Redis, RedisCluster, RedisOptions, SentinelOptions, Sentinels};
use support::{config, json, open};

/// The rights of README.
fn documented(beginning: &str) -> String {
    let readme = include_str!("../README.md");
    let line = readme.lines().find_map(|line| line.strip_prefix(beginning)).expect("a line in README");
    line.replace(">password", ">secret")
}

/// The rights of README, for a namespace.
fn rights(namespace: &str) -> String {
    documented("ACL SETUSER agent on ").replace("ad_buyer:", namespace)
}

/// Gives a user rights on a server that runs.
fn grant(server: &Redis, user: &str, rights: &str) {
    let words: Vec<&str> = ["ACL", "SETUSER", user, "on"].into_iter().chain(rights.split(' ')).collect();
    server.command(&words).unwrap();
}

/// A server whose user `agent` has these rights.
fn server(rights: &str) -> Redis {
    let settings = vec![format!("user agent on {rights}")];
    Redis::start(&RedisOptions { settings, ..RedisOptions::default() }).unwrap()
}

fn url(server: &Redis) -> String {
    server.url().replace("redis://", "redis://agent:secret@")
}

/// All operations, as somebody who has the least rights.
mod least {
    use super::*;

    fn open(namespace: &str) -> Arc<dyn StorageBackend> {
        static SERVER: OnceLock<Redis> = OnceLock::new();
        let server = SERVER.get_or_init(|| server(&rights("acl_")));
        let mut config = config(&url(server));
        config.namespace = format!("acl_{namespace}:");
        Arc::new(RedisBackend::new(config).unwrap())
    }

    storage_conformance::full!(open);
    storage_conformance::shared!(open);
    storage_conformance::collections!(open);

    #[tokio::test]
    async fn health_and_stats_work() {
        let backend = open("health");
        backend.connect().await.unwrap();
        assert_eq!(backend.health().await.status(), HealthStatus::Healthy);
        assert!(backend.stats().await.unwrap().entries.is_some());
    }
}

/// A backend whose user has the least rights but one.
async fn without(command: &str) -> (Redis, RedisBackend) {
    let server = server(&format!("{} -{command}", rights("")));
    let backend = open(config(&url(&server))).await;
    (server, backend)
}

fn names(error: &storage_core::Error, command: &str) {
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains(command), "{error}");
}

#[tokio::test]
async fn a_command_that_the_user_may_not_run_is_named() {
    let (_server, backend) = without("get").await;
    names(&backend.get("deal:1").await.unwrap_err(), "GET");
    names(&backend.get_many(&["deal:1"]).await.unwrap_err(), "GET");
    let health = backend.health().await;
    assert!(health.stores[0].read_error.as_ref().unwrap().contains("GET"), "{health:?}");
    let (_server, backend) = without("set").await;
    names(&backend.set("deal:1", json("1"), None).await.unwrap_err(), "SET");
    let health = backend.health().await;
    assert!(health.stores[0].reads());
    assert!(health.stores[0].write_error.as_ref().unwrap().contains("SET"), "{health:?}");
    let (_server, backend) = without("evalsha").await;
    let swapped = backend.compare_and_set("deal:1", Expected::Value(json("1")), None, None).await;
    names(&swapped.unwrap_err(), "EVALSHA");
    let (_server, backend) = without("scan").await;
    names(&backend.keys("*").await.unwrap_err(), "SCAN");
}

#[tokio::test]
async fn a_key_beyond_the_namespace_is_unauthorized() {
    let server = server(&rights("ad_buyer:"));
    let mut config = config(&url(&server));
    config.namespace = "ad_seller:".to_owned();
    let backend = open(config).await;
    for error in [
        backend.get("deal:1").await.map(drop).unwrap_err(),
        backend.set("deal:1", json("1"), None).await.unwrap_err(),
        backend
            .compare_and_set("deal:1", Expected::Value(json("1")), None, None)
            .await
            .map(drop)
            .unwrap_err(),
        backend.apply(Batch::new().set("deal:1", json("1"), None)).await.unwrap_err(),
    ] {
        names(&error, "least rights");
    }
}

#[tokio::test]
async fn what_is_refused_inside_a_script_is_unauthorized() {
    let commit = || {
        let partition = Partition::new("conversation", &["s-1"]).unwrap();
        Commit::new(partition).with(Operation::put("1", json("{}"), "text", PutMode::Upsert))
    };
    for missing in ["time", "hset", "zadd"] {
        let (_server, backend) = without(missing).await;
        let error = backend.commit(commit()).await.unwrap_err();
        // Redis 7.2 and later name the command; before, the list of rights is all that can be named.
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        let text = error.to_string();
        assert!(text.contains("least rights") || text.contains(&missing.to_ascii_uppercase()), "{error}");
    }
    let (_server, backend) = without("get").await;
    let ttl = Some(Duration::from_secs(9));
    let swapped = backend.compare_and_set("deal:1", Expected::Value(json("1")), Some(json("2")), ttl).await;
    assert_eq!(swapped.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_batch_of_a_user_without_transactions_is_never_said_to_have_changed_nothing() {
    let (server, backend) = without("multi").await;
    let error =
        backend.apply(Batch::new().set("a", json("1"), None).set("b", json("1"), None)).await.unwrap_err();
    let applied = server.command(&["DBSIZE"]).unwrap() != "0";
    assert!(error.kind() == ErrorKind::OutcomeUnknown || !applied, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_needs_two_rights_more() {
    let cluster = RedisCluster::start(3).unwrap();
    for node in cluster.nodes() {
        grant(node, "agent", &format!("{} +cluster|slots +cluster|nodes +asking", rights("ad_buyer:")));
    }
    let mut config = config(&cluster.url().replace("://", "://agent:secret@"));
    config.namespace = "ad_buyer:".to_owned();
    let backend = open(config).await;
    let entries = (0..20).map(|number| Entry::new(format!("deal:{number}"), json("1"))).collect();
    backend.set_many(entries).await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap().len(), 20);
    assert_eq!(backend.increment("deal:1", 1, None).await.unwrap(), 2);
    assert_eq!(backend.health().await.status(), HealthStatus::Healthy);
    let mut deliveries = backend.subscribe("pubsub:deals").await.unwrap();
    backend.publish("pubsub:deals", json("2")).await.unwrap();
    assert_eq!(deliveries.next().await, Some(Delivery::Message(json("2"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_need_few_rights() {
    let group = Sentinels::start(&SentinelOptions::default()).unwrap();
    for sentinel in group.sentinels() {
        grant(sentinel, "watcher", &documented("ACL SETUSER watcher on "));
    }
    for server in group.servers() {
        grant(server, "agent", &rights("ad_buyer:"));
    }
    let nodes = || group.sentinels().iter().map(|node| ("127.0.0.1", node.port()));
    let built = RedisConfig::sentinel(Sentinels::NAME, nodes()).user("agent").password("secret");
    let mut config = built.sentinel_user("watcher").sentinel_password("secret");
    config.namespace = "ad_buyer:".to_owned();
    let backend = open(config).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    let mut deliveries = backend.subscribe("pubsub:deals").await.unwrap();
    tokio::task::block_in_place(|| group.fail_over()).unwrap();
    // Told by what the user may hear of the Sentinels.
    let gap = tokio::time::timeout(Duration::from_secs(5), deliveries.next()).await;
    assert_eq!(gap.expect("sooner than they cut off who listens to the old master"), Some(Delivery::Gap));
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")));
}
