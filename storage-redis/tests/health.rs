//! What health says of servers that take no writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::time::{Duration, Instant};

use storage_core::{HEALTH_KEY, HealthStatus, StorageBackend};
use storage_redis::RedisBackend;
use storage_tests::{Redis, RedisOptions, processes};
use support::{config, open, raw, until, variable};

fn server(settings: &[&str]) -> Redis {
    let settings = settings.iter().map(|line| (*line).to_owned()).collect();
    Redis::start(&RedisOptions { settings, ..RedisOptions::default() }).unwrap()
}

/// Reads work, and writes do not for a reason that names the server's word.
async fn takes_no_writes(backend: &RedisBackend, word: &str) {
    let start = Instant::now();
    let health = backend.health().await;
    assert!(start.elapsed() < Duration::from_secs(2), "it says what is, and tries nothing again");
    assert_ne!(health.status(), HealthStatus::Healthy);
    let store = &health.stores[0];
    assert_eq!(store.read_error, None);
    assert!(store.write_error.as_ref().is_some_and(|error| error.contains(word)), "{store:?}");
}

async fn works(backend: &RedisBackend) {
    let health = backend.health().await;
    assert_eq!(health.status(), HealthStatus::Healthy, "{health:?}");
}

#[tokio::test]
async fn a_replica_reads_and_does_not_write() {
    let (master, replica) = (server(&[]), server(&[]));
    replica.command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).unwrap();
    until("it follows", async || {
        replica.command(&["INFO", "replication"]).unwrap().contains("master_link_status:up")
    })
    .await;
    let backend = open(config(&replica.url())).await;
    takes_no_writes(&backend, "READONLY").await;
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    works(&backend).await;
}

#[tokio::test]
async fn a_server_without_memory_reads_and_does_not_write() {
    let server = server(&["maxmemory 100kb", "maxmemory-policy noeviction"]);
    let backend = open(config(&server.url())).await;
    takes_no_writes(&backend, "OOM").await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    works(&backend).await;
}

#[tokio::test]
async fn a_server_with_too_few_replicas_reads_and_does_not_write() {
    let server = server(&["min-replicas-to-write 1"]);
    let backend = open(config(&server.url())).await;
    takes_no_writes(&backend, "NOREPLICAS").await;
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    works(&backend).await;
}

#[tokio::test]
async fn a_server_that_cannot_save_its_snapshots_reads_and_does_not_write() {
    let server = server(&["save 3600 1", "rdb-key-save-delay 100000"]);
    let backend = open(config(&server.url())).await;
    let mut raw = raw(&server.url()).await;
    for key in 0..100 {
        redis::cmd("SET").arg(key).arg(1).query_async::<()>(&mut raw).await.unwrap();
    }
    works(&backend).await;
    server.command(&["BGSAVE"]).unwrap();
    // As where the system takes its memory away.
    for child in processes::children(server.process().unwrap()) {
        std::process::Command::new("kill").args(["-9", &child.to_string()]).status().unwrap();
    }
    until("it knows", async || {
        server.command(&["INFO", "persistence"]).unwrap().contains("rdb_last_bgsave_status:err")
    })
    .await;
    takes_no_writes(&backend, "MISCONF").await;
}

#[tokio::test]
async fn a_check_changes_nothing_whatever_is_there() {
    let config = config(&variable("STORAGE_TEST_REDIS_URL"));
    let key = format!("{}{HEALTH_KEY}", config.namespace);
    let backend = open(config).await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    works(&backend).await;
    assert!(!redis::cmd("EXISTS").arg(&key).query_async::<bool>(&mut raw).await.unwrap());
    redis::cmd("SET").arg(&key).arg("some text").query_async::<()>(&mut raw).await.unwrap();
    works(&backend).await;
    assert_eq!(redis::cmd("GET").arg(&key).query_async::<String>(&mut raw).await.unwrap(), "some text");
    redis::cmd("DEL").arg(&key).query_async::<()>(&mut raw).await.unwrap();
    redis::cmd("LPUSH").arg(&key).arg("a").query_async::<()>(&mut raw).await.unwrap();
    works(&backend).await;
    assert_eq!(redis::cmd("LLEN").arg(&key).query_async::<i64>(&mut raw).await.unwrap(), 1);
    redis::cmd("DEL").arg(&key).query_async::<()>(&mut raw).await.unwrap();
}

#[tokio::test]
async fn each_primary_of_a_cluster_is_asked_about_a_slot_of_its_own() {
    let backend = support::cluster().await;
    let health = backend.health().await;
    assert_eq!((health.status(), health.stores.len()), (HealthStatus::Healthy, 3), "{health:?}");
}
