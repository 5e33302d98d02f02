//! The master of a service that Sentinels watch.

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

use futures::StreamExt;
use storage_core::{Delivery, ErrorKind, HealthStatus, PubSub, StorageBackend};
use storage_redis::{Protocol, RedisBackend, RedisConfig};
use storage_tests::{Redis, SentinelOptions, Sentinels, failovers};
use support::{callers::Callers, config, json, namespace, open, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What a failover may take from the moment that a replica is the master, or that a Sentinel knows.
/// Two seconds where the machine has time; this is for one that has not, and the time is printed.
const SOON: Duration = Duration::from_secs(10);

fn group() -> Sentinels {
    Sentinels::start(&SentinelOptions::default()).unwrap()
}

async fn failure(config: RedisConfig) -> storage_core::Error {
    RedisBackend::new(config).unwrap().connect().await.unwrap_err()
}

async fn works(config: RedisConfig) {
    let backend = open(config).await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("1")));
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    let mut deliveries = backend.subscribe("pubsub:deals").await.unwrap();
    backend.publish("pubsub:deals", json("2")).await.unwrap();
    assert_eq!(deliveries.next().await, Some(Delivery::Message(json("2"))));
    assert_eq!(backend.health().await.status(), HealthStatus::Healthy);
    backend.disconnect().await.unwrap();
}

/// Where the servers are, as the master of the moment and the others.
async fn until_master_is(group: &Sentinels, before: Option<usize>) -> (usize, Instant) {
    let start = Instant::now();
    loop {
        match group.master() {
            Some(master) if Some(master) != before => return (master, Instant::now()),
            _ => assert!(start.elapsed() < Duration::from_secs(30), "a replica is promoted"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The port of what a Sentinel calls the master.
fn names(sentinel: &Redis) -> String {
    let address = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Sentinels::NAME]).unwrap();
    address.lines().last().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_is_followed_by_the_one_that_the_sentinels_choose() {
    let mut group = group();
    let backend = Arc::new(open(config(&group.url())).await);
    for round in 0..failovers(1) {
        let master = group.master().unwrap();
        let callers = Callers::start(&backend, 64, &format!("killed:{round}"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        group.servers_mut()[master].kill().unwrap();
        let (_, moved) = until_master_is(&group, Some(master)).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        // What a master that dies had not passed on is gone, and Redis promises nothing else.
        let took = callers.end(moved, false).await;
        println!("failover {round}: writes work again after {took:?}");
        assert!(took < SOON, "{took:?}");
        group.rejoin(master).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_well_is_left_at_once_when_another_is_chosen() {
    let group = group();
    let backend = Arc::new(open(config(&group.url())).await);
    let mut deliveries = backend.subscribe("pubsub:deals").await.unwrap();
    for round in 0..failovers(1) {
        let before = group.master().unwrap();
        let callers = Callers::start(&backend, 64, &format!("chosen:{round}"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::task::block_in_place(|| group.fail_over()).unwrap();
        let old = group.servers()[before].port().to_string();
        // A Sentinel looks at its servers once in a second, and nobody knows before.
        until("a Sentinel knows", async || group.sentinels().iter().any(|sentinel| names(sentinel) != old))
            .await;
        let moved = Instant::now();
        // Both say that they are the master until the Sentinels tell the old one.
        let marker = format!("marker:{round}");
        until("the new master serves", async || {
            let written = backend.set(&marker, json("1"), None).await.is_ok();
            let mut others = group.servers().iter().enumerate().filter(|(place, _)| *place != before);
            written
                && others
                    .any(|(_, server)| !server.command(&["KEYS", &format!("*{marker}")]).unwrap().is_empty())
        })
        .await;
        let served = moved.elapsed();
        let took = callers.end(moved, false).await;
        // Long before the Sentinels cut off those who listen to the old master.
        let gap = tokio::time::timeout(SOON, deliveries.next()).await;
        assert_eq!(gap.expect("subscriptions move, too"), Some(Delivery::Gap));
        backend.publish("pubsub:deals", json("2")).await.unwrap();
        assert_eq!(deliveries.next().await, Some(Delivery::Message(json("2"))));
        println!("failover {round}: the new master serves after {served:?}, every caller after {took:?}");
        assert!(served < SOON && took < SOON, "{served:?} {took:?}");
        group.wait_until_whole().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_sentinels_have_passwords_and_tls_of_their_own() {
    let group = Sentinels::start(&SentinelOptions {
        tls: true,
        password: Some("right".to_owned()),
        sentinel_password: Some("se:cret".to_owned()),
        ..SentinelOptions::default()
    });
    let group = group.unwrap();
    let trusting = |mut config: RedisConfig| {
        config.tls_ca = Some(group.ca());
        config
    };
    works(trusting(config(&group.url()))).await;
    let nodes = || group.sentinels().iter().map(|node| ("localhost", node.port()));
    let mut built = RedisConfig::sentinel(Sentinels::NAME, nodes()).tls().password("right");
    built.namespace = namespace();
    works(trusting(built.clone().sentinel_password("se:cret"))).await;
    let mut old = trusting(built.clone().sentinel_password("se:cret"));
    old.protocol = Protocol::Resp2;
    works(old).await;
    for wrong in [
        built.clone(),
        built.clone().sentinel_password("s3cret"),
        built.clone().password("s3cret").sentinel_password("se:cret"),
        built.clone().sentinel_user("nobody").sentinel_password("s3cret"),
    ] {
        let error = failure(trusting(wrong.clone())).await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(!format!("{error} {error:?} {wrong:?}").contains("s3cret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_a_sentinel_and_a_service_are_not_taken_for_each_other() {
    let mut group = group();
    let port = group.sentinels()[0].port();
    for protocol in ["", "?protocol=2"] {
        let error = failure(config(&format!("redis://127.0.0.1:{port}{protocol}"))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("redis+sentinel://")), "{error}");
    }
    let error = failure(config(&group.url().replace("/cache", "/cash"))).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("cache")), "{error}");
    let server = group.servers()[0].port();
    let error = failure(config(&format!("redis+sentinel://127.0.0.1:{server}/cache"))).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("redis://")), "{error}");
    // One that is down and one that hangs keep nobody waiting.
    let url = group.url();
    group.sentinels_mut()[0].kill().unwrap();
    group.sentinels()[1].pause();
    let start = Instant::now();
    works(config(&url)).await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    group.sentinels()[1].resume();
}

/// Something that answers like an old Sentinel, and says that the master is where it is not.
async fn liar(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut arrived = vec![0; 4096];
                while let Ok(length @ 1..) = client.read(&mut arrived).await {
                    let text = String::from_utf8_lossy(&arrived[..length]).into_owned();
                    let mut answer = String::new();
                    for command in text.split('*').skip(1) {
                        let port = port.to_string();
                        answer += &match command {
                            command if command.contains("PING") => "+PONG\r\n".to_owned(),
                            command if command.contains("ADDR") => {
                                format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
                            }
                            _ => "-ERR unknown command\r\n".to_owned(),
                        };
                    }
                    client.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_has_not_heard_yet_is_not_believed() {
    let group = group();
    let master = group.master().unwrap();
    let liar = liar(group.servers()[1 - master].port()).await;
    let good = group.sentinels()[0].port();
    works(config(&format!("redis+sentinel://127.0.0.1:{liar},127.0.0.1:{good}/cache"))).await;
    let error = failure(config(&format!("redis+sentinel://127.0.0.1:{liar}/cache"))).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
