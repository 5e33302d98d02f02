//! Servers that die, hang and come back under a running program: calls fail with the right kind within their deadline,
//! then succeed again without a restart.

use std::time::{Duration, Instant};

use storage_core::{Error, ErrorKind, HealthStatus};
use storage_tests::{Postgres, PostgresOptions, Redis, RedisCluster, RedisOptions};

use crate::stores::{Backend, connected, json};

const DEADLINE: Duration = Duration::from_secs(1);
/// What the machine may add on top of a deadline before a call counts as late.
const MARGIN: Duration = Duration::from_secs(2);

fn expect_down(what: &str, started: Instant, answer: Result<(), Error>, write: bool) {
    let took = started.elapsed();
    assert!(took < DEADLINE + MARGIN, "{what} took {took:?}");
    let error = answer.expect_err(what);
    let mut kinds = vec![ErrorKind::Unavailable, ErrorKind::Timeout];
    if write {
        kinds.push(ErrorKind::OutcomeUnknown);
    }
    assert!(kinds.contains(&error.kind()), "{what}: {error}");
}

/// Every kind of call fails in time while the server is away.
async fn fails_in_time(storage: &Backend, key: &str) {
    let started = Instant::now();
    expect_down("get", started, storage.get(key).await.map(drop), false);
    let started = Instant::now();
    expect_down("set", started, storage.set(key, json("2"), None).await, true);
    let started = Instant::now();
    expect_down("increment", started, storage.increment(key, 1, None).await.map(drop), true);
    let started = Instant::now();
    expect_down("keys", started, storage.keys(&format!("{key}*")).await.map(drop), false);
    let health = storage.health().await;
    assert_ne!(health.status(), HealthStatus::Healthy);
}

/// The server is used again soon after it is back.
async fn recovers(storage: &Backend, key: &str) {
    let started = Instant::now();
    loop {
        match storage.set(key, json("3"), None).await {
            Ok(()) => break,
            Err(error) if started.elapsed() > Duration::from_secs(10) => {
                panic!("it does not come back: {error}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    // From the first success on, all succeed: no broken connection lies in wait.
    for _ in 0..50 {
        assert_eq!(storage.get(key).await.unwrap(), Some(json("3")));
    }
    assert_eq!(storage.health().await.status(), HealthStatus::Healthy);
}

/// A server that can be killed, paused and brought back.
trait Server {
    fn kill(&mut self);
    fn restart(&mut self);
    fn pause(&self);
    fn resume(&self);
}

impl Server for Redis {
    fn kill(&mut self) {
        Self::kill(self).unwrap();
    }
    fn restart(&mut self) {
        Self::restart(self).unwrap();
    }
    fn pause(&self) {
        Self::pause(self);
    }
    fn resume(&self) {
        Self::resume(self);
    }
}

impl Server for Postgres {
    fn kill(&mut self) {
        Self::kill(self).unwrap();
    }
    fn restart(&mut self) {
        Self::restart(self).unwrap();
    }
    fn pause(&self) {
        Self::pause(self);
    }
    fn resume(&self) {
        Self::resume(self);
    }
}

async fn outage(storage: Backend, server: &mut impl Server) {
    storage.set("deal:1", json("1"), None).await.unwrap();
    server.kill();
    fails_in_time(&storage, "deal:1").await;
    server.restart();
    recovers(&storage, "deal:1").await;
    server.pause();
    fails_in_time(&storage, "deal:1").await;
    server.resume();
    recovers(&storage, "deal:1").await;
    storage.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_and_paused_under_a_running_program() {
    let mut server = Redis::start(&RedisOptions::default()).unwrap();
    let storage = connected(&[("REDIS_URL", &server.url()), ("STORAGE_OPERATION_TIMEOUT", "1s")]).await;
    outage(storage, &mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_and_paused_under_a_running_program() {
    let mut server = Postgres::start(&PostgresOptions::default()).unwrap();
    let storage = connected(&[("DATABASE_URL", &server.url()), ("STORAGE_OPERATION_TIMEOUT", "1s")]).await;
    outage(storage, &mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_node_killed_under_a_running_program() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let storage = connected(&[("REDIS_URL", &cluster.url()), ("STORAGE_OPERATION_TIMEOUT", "1s")]).await;
    let keys: Vec<String> = (0..30).map(|number| format!("deal:{number}")).collect();
    for key in &keys {
        storage.set(key, json("1"), None).await.unwrap();
    }
    cluster.nodes_mut()[0].kill().unwrap();
    for key in &keys {
        let started = Instant::now();
        if let Err(error) = storage.get(key).await {
            assert!([ErrorKind::Unavailable, ErrorKind::Timeout].contains(&error.kind()), "{error}");
        }
        assert!(started.elapsed() < DEADLINE + MARGIN);
    }
    cluster.nodes_mut()[0].restart().unwrap();
    cluster.wait_until_complete().unwrap();
    for key in &keys {
        recovers(&storage, key).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hybrid_goes_on_with_the_store_that_is_up_and_says_which_is_down() {
    let mut redis = Redis::start(&RedisOptions::default()).unwrap();
    let mut postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let storage = connected(&[
        ("STORAGE_TYPE", "hybrid"),
        ("DATABASE_URL", &postgres.url()),
        ("REDIS_URL", &redis.url()),
        ("STORAGE_OPERATION_TIMEOUT", "1s"),
    ])
    .await;
    redis.kill().unwrap();
    storage.set("deal:1", json("1"), None).await.unwrap();
    assert_eq!(storage.keys("deal:*").await.unwrap(), ["deal:1"]);
    fails_in_time(&storage, "session:1").await;
    let health = storage.health().await;
    assert_eq!(health.status(), HealthStatus::Degraded);
    let down: Vec<&str> =
        health.stores.iter().filter(|store| !store.writes()).map(|store| store.store.as_str()).collect();
    assert_eq!(down, ["redis"]);
    redis.restart().unwrap();
    recovers(&storage, "session:1").await;
    postgres.kill().unwrap();
    storage.set("session:1", json("1"), None).await.unwrap();
    fails_in_time(&storage, "deal:1").await;
    postgres.restart().unwrap();
    recovers(&storage, "deal:1").await;
}

/// `connect` connects both or neither, and can be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn hybrid_connects_both_or_neither() {
    let mut redis = Redis::start(&RedisOptions::default()).unwrap();
    let postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let storage = crate::stores::build(&[
        ("STORAGE_TYPE", "hybrid"),
        ("DATABASE_URL", &postgres.url()),
        ("REDIS_URL", &redis.url()),
        ("STORAGE_OPERATION_TIMEOUT", "1s"),
    ]);
    redis.stop().unwrap();
    let error = storage.connect().await.unwrap_err();
    assert!([ErrorKind::Unavailable, ErrorKind::Timeout].contains(&error.kind()), "{error}");
    assert_eq!(storage.get("deal:1").await.unwrap_err().kind(), ErrorKind::NotConnected);
    redis.restart().unwrap();
    storage.connect().await.unwrap();
    storage.set("deal:1", json("1"), None).await.unwrap();
    storage.set("session:1", json("1"), None).await.unwrap();
}

/// 64 tasks write while the server is killed and comes back: what was acknowledged is there.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_under_load_loses_nothing_that_it_acknowledged() {
    let mut server = Postgres::start(&PostgresOptions::default()).unwrap();
    let storage = connected(&[("DATABASE_URL", &server.url()), ("STORAGE_OPERATION_TIMEOUT", "1s")]).await;
    let writers: Vec<_> = (0..64)
        .map(|task| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0..200 {
                    let key = format!("deal:{task}:{number}");
                    match storage.set(&key, json("1"), None).await {
                        Ok(()) => acknowledged.push(key),
                        Err(error) => {
                            let kinds =
                                [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::OutcomeUnknown];
                            assert!(kinds.contains(&error.kind()), "{error}");
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
                acknowledged
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.kill().unwrap();
    server.restart().unwrap();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    recovers(&storage, "deal:after").await;
    let names: Vec<&str> = acknowledged.iter().map(String::as_str).collect();
    let found = storage.get_many(&names).await.unwrap();
    let missing = found.into_iter().filter(|one| one.as_ref().unwrap().is_none()).count();
    assert_eq!(missing, 0, "of {} acknowledged writes", acknowledged.len());
    assert!(!acknowledged.is_empty());
}
