//! A server behind a name that comes to mean another one, and lines that go silent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{
    io::{Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use storage_core::{Batch, ErrorKind, Expected, HealthStatus, StorageBackend};
use storage_redis::RedisConfig;
use storage_tests::{Redis, RedisOptions, TcpProxy, failovers};
use support::{callers::Callers, config, json, open, until};

/// What a failover may take from the moment that there is a new master and the name leads to it.
/// Two seconds where the machine has time; this is for one that has not, and the time is printed.
const SOON: Duration = Duration::from_secs(10);

fn server(settings: &[&str]) -> Redis {
    let settings = settings.iter().map(|line| (*line).to_owned()).collect();
    Redis::start(&RedisOptions { settings, ..RedisOptions::default() }).unwrap()
}

/// A master and its replica.
fn pair() -> [Redis; 2] {
    let master = server(&["repl-diskless-sync-delay 0"]);
    let replica = server(&["repl-diskless-sync-delay 0", &format!("replicaof 127.0.0.1 {}", master.port())]);
    let start = Instant::now();
    while !master.command(&["INFO", "replication"]).unwrap().contains("state=online") {
        assert!(start.elapsed() < Duration::from_secs(20), "the replica follows");
        std::thread::sleep(Duration::from_millis(10));
    }
    [master, replica]
}

fn through(proxy: &TcpProxy) -> RedisConfig {
    config(&format!("redis://127.0.0.1:{}", proxy.port()))
}

fn role(server: &Redis) -> String {
    server.command(&["ROLE"]).unwrap().lines().next().unwrap_or_default().to_owned()
}

/// Makes the other server the master, in the way in which nothing is lost: Redis pauses its clients meanwhile.
fn switch(from: &Redis, to: &Redis) {
    let port = to.port().to_string();
    from.command(&["FAILOVER", "TO", "127.0.0.1", &port, "TIMEOUT", "10000"]).unwrap();
    let start = Instant::now();
    while role(to) != "master" || role(from) == "master" {
        assert!(start.elapsed() < Duration::from_secs(20), "the replica takes over");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_comes_to_mean_another_server_is_followed_and_nothing_acknowledged_is_missing() {
    let servers = pair();
    let proxy = TcpProxy::start(servers[0].port()).unwrap();
    let backend = Arc::new(open(through(&proxy)).await);
    for round in 0..failovers(2) {
        let (from, to) = (&servers[round % 2], &servers[(round + 1) % 2]);
        let callers = Callers::start(&backend, 64, &format!("round:{round}"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        switch(from, to);
        // The old master goes on as a replica for a while, under the same name.
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.retarget(to.port());
        let moved = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let took = callers.end(moved, true).await;
        println!("failover {round}: writes work again after {took:?}");
        assert!(took < SOON, "{took:?}");
        until("the replica follows", async || {
            to.command(&["INFO", "replication"]).unwrap().contains("state=online")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_refuses_all_kinds_of_writes_until_the_deadline_and_reads_go_on() {
    let servers = pair();
    let mut config = config(&servers[1].url());
    config.operation_timeout = Duration::from_millis(300);
    let backend = open(config).await;
    let error = backend.set("deal:1", json("1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("replica"), "{error}");
    let one = Expected::Value(json("1"));
    let kinds = [
        backend.increment("n", 1, None).await.map(drop).unwrap_err().kind(),
        backend.increment("n", 1, Some(Duration::from_secs(9))).await.map(drop).unwrap_err().kind(),
        backend
            .compare_and_set("n", Expected::Absent, Some(json("1")), None)
            .await
            .map(drop)
            .unwrap_err()
            .kind(),
        backend.apply(Batch::new().set("a", json("1"), None)).await.unwrap_err().kind(),
        backend
            .apply(Batch::new().require("a", Expected::Absent).set("a", json("1"), None))
            .await
            .unwrap_err()
            .kind(),
        backend.set_many(vec![storage_core::Entry::new("a", json("1"))]).await.unwrap_err().kind(),
        backend.delete_many(&["a", "b"]).await.map(drop).unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Unavailable; 7]);
    assert!(
        !backend.compare_and_set("n", one, Some(json("2")), None).await.unwrap(),
        "there is nothing to swap"
    );
    assert_eq!(backend.get("n").await.unwrap(), None);
    // The same calls go through where the replica becomes the master meanwhile.
    let servers = Arc::new(servers);
    let promoted = tokio::task::spawn_blocking({
        let servers = Arc::clone(&servers);
        move || {
            std::thread::sleep(Duration::from_millis(100));
            servers[1].command(&["REPLICAOF", "NO", "ONE"]).unwrap();
        }
    });
    let (batch, many, sum) = tokio::join!(
        backend.apply(Batch::new().set("a", json("1"), None).set("b", json("1"), None)),
        backend.set_many(vec![
            storage_core::Entry::new("c", json("1")),
            storage_core::Entry::new("d", json("1")),
        ]),
        backend.increment("n", 1, Some(Duration::from_secs(9))),
    );
    (batch.unwrap(), many.unwrap(), assert_eq!(sum.unwrap(), 1));
    promoted.await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["a", "b", "c", "d", "n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_reads_its_data_is_waited_for() {
    // It looks up after each 1,024 commands.
    let mut server = server(&["key-load-delay 1000"]);
    let (backend, port) = (open(config(&server.url())).await, server.port());
    let entries = (0..20_000).map(|number| storage_core::Entry::new(format!("deal:{number}"), json("0")));
    backend.set_many(entries.collect()).await.unwrap();
    server.kill().unwrap();
    let restarted = tokio::task::spawn_blocking(move || {
        server.restart().unwrap();
        server
    });
    until("it reads its data", async || {
        let health = backend.health().await;
        health.stores[0].write_error.as_ref().is_some_and(|error| error.contains("LOADING"))
    })
    .await;
    let (written, hastened) = tokio::join!(
        backend.set("deal:1", json("1"), None),
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(200));
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"CONFIG SET key-load-delay 0\r\n").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }),
    );
    hastened.unwrap();
    written.unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")));
    restarted.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_master_is_left_when_the_name_moves() {
    let mut servers = pair();
    let proxy = TcpProxy::start(servers[1].port()).unwrap();
    servers[1].command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).unwrap();
    let backend = open(through(&proxy)).await;
    assert_eq!(backend.get("n").await.unwrap(), None);
    let other = server(&[]);
    servers[0].kill().unwrap();
    until("the replica misses its master", async || {
        servers[1].command(&["GET", "n"]).is_err_and(|error| error.to_string().contains("MASTERDOWN"))
    })
    .await;
    assert_eq!(backend.health().await.status(), HealthStatus::Unhealthy);
    proxy.retarget(other.port());
    assert_eq!(backend.get("n").await.unwrap(), None);
    backend.set("n", json("1"), None).await.unwrap();
    assert_eq!(backend.health().await.status(), HealthStatus::Healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_went_silent_while_it_was_idle_is_noticed_before_the_next_request() {
    let server = server(&[]);
    let proxy = TcpProxy::start(server.port()).unwrap();
    let mut config = through(&proxy);
    config.idle_check = Duration::from_millis(200);
    let backend = Arc::new(open(config).await);
    backend.set("deal:1", json("1"), None).await.unwrap();
    let elsewhere = Arc::clone(&backend);
    std::thread::spawn(move || futures::executor::block_on(elsewhere.set("deal:1", json("1"), None)))
        .join()
        .unwrap()
        .unwrap();
    for round in 2..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        proxy.silence();
        let value = json(&round.to_string());
        let start = Instant::now();
        backend.set("deal:1", value.clone(), None).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        let elsewhere = Arc::clone(&backend);
        let read = std::thread::spawn(move || futures::executor::block_on(elsewhere.get("deal:1")));
        assert_eq!(read.join().unwrap().unwrap(), Some(value));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_line_that_falls_silent_costs_the_calls_under_way_and_no_later_ones() {
    let server = server(&[]);
    let proxy = TcpProxy::start(server.port()).unwrap();
    let mut config = through(&proxy);
    (config.operation_timeout, config.connections) = (Duration::from_secs(1), 1);
    let backend = Arc::new(open(config).await);
    proxy.delay(Duration::from_millis(120));
    let (mut calls, start) = (tokio::task::JoinSet::new(), Instant::now());
    while start.elapsed() < Duration::from_secs(5) {
        if calls.len() == 50 {
            proxy.silence();
        }
        let backend = Arc::clone(&backend);
        calls.spawn(async move {
            let begun = Instant::now();
            (begun, backend.set("deal:1", json("1"), None).await)
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let late = start + Duration::from_secs(4);
    for (begun, answer) in calls.join_all().await {
        match answer {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
                assert!(begun < late, "{error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_still_is_one_is_used_again() {
    let server = server(&[]);
    let proxy = TcpProxy::start(server.port()).unwrap();
    let mut config = through(&proxy);
    (config.idle_check, config.connections) = (Duration::from_millis(100), 1);
    let backend = open(config).await;
    let opened = proxy.opened();
    for number in 0..5 {
        backend.set("deal:1", json(&number.to_string()), None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(proxy.opened(), opened);
    // One that was cut meanwhile is not.
    proxy.cut();
    backend.set("deal:1", json("1"), None).await.unwrap();
    backend.disconnect().await.unwrap();
}
