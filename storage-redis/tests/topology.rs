//! A cluster that changes: slots that move under a walk, nodes that join, primaries that are replaced.

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

use futures::{StreamExt, TryStreamExt, future::join_all};
use storage_core::{
    CollectionStore, Commit, Delivery, Error, ErrorKind, Operation, Partition, PubSub, PutMode, Scan,
    StorageBackend, StorageExt,
};
use storage_redis::RedisBackend;
use storage_tests::{Redis, RedisCluster, RedisOptions, failovers, kills};
use support::{config, json, open, until};

/// What a failover may take from the promotion. Two seconds where the machine has time; this is for one that has not, and the time
/// is printed.
const SOON: Duration = Duration::from_secs(10);
/// Enough that every primary has many.
const ENTRIES: usize = 300;

async fn filled(url: &str) -> Arc<RedisBackend> {
    let backend = Arc::new(open(config(url)).await);
    for number in 0..ENTRIES {
        backend.set(&format!("deal:{number}"), json("1"), None).await.unwrap();
    }
    backend
}

/// Tells what runs beside a test to end, also where the test fails.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Does blocking work beside the tests' calls.
fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_joined_is_listed_though_nobody_has_called_by_key() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let backend = filled(&cluster.url()).await;
    let joined = cluster.join().unwrap();
    for from in 0..3 {
        // A third of what each has: 4,096 slots together.
        for slot in (from * 5461..from * 5461 + 1365).step_by(1) {
            cluster.move_slot(slot.try_into().unwrap(), from, joined).unwrap();
        }
    }
    cluster.wait_until_complete().unwrap();
    assert_eq!(backend.keys("deal:*").await.unwrap().len(), ENTRIES);
    let health = backend.health().await;
    assert!(health.reads() && health.stores.len() == 4, "{health:?}");
}

/// One listing of each kind, whole or an error.
async fn walk(backend: &Arc<RedisBackend>, number: usize) -> Result<usize, Error> {
    match number % 3 {
        0 => Ok(backend.keys("deal:*").await?.len()),
        1 => {
            let scan = Scan::entries("deal:*")?;
            let records: Vec<_> = backend.scan(scan).try_collect().await?;
            let keys: BTreeSet<&String> = records.iter().map(|record| &record.key).collect();
            assert_eq!(keys.len(), records.len(), "each is there once");
            Ok(keys.len())
        }
        _ => {
            let found: Vec<_> = backend.partitions("log", &[]).try_collect().await?;
            Ok(found.len())
        }
    }
}

/// How many walks were whole, and how many an error.
async fn walks(backend: &Arc<RedisBackend>) -> (usize, usize) {
    let (mut whole, mut failed) = (0, 0);
    for number in 0..kills(30) {
        match walk(backend, number).await {
            Ok(found) => {
                assert_eq!(found, ENTRIES, "walk {number}");
                whole += 1;
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
                failed += 1;
            }
        }
    }
    (whole, failed)
}

async fn with_partitions(backend: &RedisBackend) {
    for number in 0..ENTRIES {
        let partition = Partition::new("log", &[&number.to_string()]).unwrap();
        let put = Operation::put("a", json("1"), "", PutMode::Upsert);
        backend.commit(Commit::new(partition).with(put)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_under_failovers_is_whole_or_an_error() {
    let cluster = beside(|| RedisCluster::start_with_replicas(3).unwrap()).await.unwrap();
    let backend = filled(&cluster.url()).await;
    with_partitions(&backend).await;
    let stop = Stop::default();
    let (stopped, running) = (stop.clone(), stop.on_drop());
    let failing_over = beside(move || {
        let mut done = 0;
        for place in [3, 4, 5, 0, 1, 2].into_iter().cycle() {
            if stopped.is_set() {
                break;
            }
            done += u32::from(cluster.fail_over_to(place).is_ok());
        }
        done
    });
    let (whole, failed) = walks(&backend).await;
    drop(running);
    let done = failing_over.await.unwrap();
    println!("{whole} walks whole, {failed} errors, while {done} failovers");
    assert!(whole > failed && done > 0, "{whole} whole, {failed} errors, {done} failovers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_under_resharding_is_whole_or_an_error() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let backend = filled(&cluster.url()).await;
    with_partitions(&backend).await;
    cluster.join().unwrap();
    let stop = Stop::default();
    let (stopped, running) = (stop.clone(), stop.on_drop());
    let moving = beside(move || {
        // Where each slot is; slots go round over the four.
        let mut owners: Vec<usize> = (0..16_384).map(|slot| (slot * 3 / 16_384).min(2)).collect();
        let mut moved = 0;
        for slot in (0..16_384_usize).cycle().step_by(13) {
            if stopped.is_set() {
                break;
            }
            let (from, to) = (owners[slot], (owners[slot] + 1) % 4);
            if cluster.move_slot(slot.try_into().unwrap(), from, to).is_ok() {
                owners[slot] = to;
                moved += 1;
            }
        }
        moved
    });
    let (whole, failed) = walks(&backend).await;
    drop(running);
    let moved = moving.await.unwrap();
    println!("{whole} walks whole, {failed} errors, while {moved} slots moved");
    assert!(whole > 10 * failed && moved > 10, "{whole} whole, {failed} errors, {moved} slots moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_begun_before_a_restart_is_whole_after_it() {
    let mut server = Redis::start(&RedisOptions::default()).unwrap();
    let backend = Arc::new(open(config(&server.url())).await);
    for number in 0..2_000 {
        backend.set(&format!("deal:{number}"), json("1"), None).await.unwrap();
    }
    let scan = Scan::keys("deal:*").unwrap();
    let first = backend.scan_page(&scan, None, 100).await.unwrap();
    let mut keys: BTreeSet<String> = first.items.into_iter().map(|record| record.unwrap().key).collect();
    let mut after = first.next;
    // Another process hashes its keys differently: the place in the first one means nothing there.
    server.stop().unwrap();
    server.restart().unwrap();
    while let Some(cursor) = &after {
        match backend.scan_page(&scan, Some(cursor), 100).await {
            Ok(page) => {
                keys.extend(page.items.into_iter().map(|record| record.unwrap().key));
                after = page.next;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    assert_eq!(keys.len(), 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_primary_heals_listings_health_and_messages_without_a_call_by_key() {
    let mut cluster = beside(|| RedisCluster::start_with_replicas(3).unwrap()).await.unwrap();
    let backend = filled(&cluster.url()).await;
    // On the first primary, which is asked first.
    let mut deliveries = backend.subscribe("pubsub:deals").await.unwrap();
    cluster.nodes_mut()[0].kill().unwrap();
    let mut errors = 0;
    let start = Instant::now();
    loop {
        match backend.keys("deal:*").await {
            Ok(keys) => break assert_eq!(keys.len(), ENTRIES),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
                errors += 1;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{errors} errors");
    }
    assert!(cluster.is_primary(3).unwrap());
    until("health is well", async || {
        let health = backend.health().await;
        health.reads() && health.stores.len() == 3
    })
    .await;
    assert!(matches!(deliveries.next().await, Some(Delivery::Gap)));
    backend.publish("pubsub:deals", json("1")).await.unwrap();
    assert!(matches!(deliveries.next().await, Some(Delivery::Message(_))));
    // The first one comes back, as a replica of the one that replaced it.
    cluster.nodes_mut()[0].restart().unwrap();
    assert_eq!(backend.keys("deal:*").await.unwrap().len(), ENTRIES);
}

#[tokio::test(flavor = "multi_thread")]
async fn failovers_under_load_lose_nothing_and_heal() {
    let cluster = beside(|| RedisCluster::start_with_replicas(3).unwrap()).await.unwrap();
    let backend = filled(&cluster.url()).await;
    let stop = Stop::default();
    let running = stop.on_drop();
    let writers = (0..64).map(|writer| {
        let (backend, stop) = (Arc::clone(&backend), stop.clone());
        tokio::spawn(async move {
            let (mut kept, mut number) = (0_u64, 0_u64);
            while !stop.is_set() {
                number += 1;
                match backend.set(&format!("count:{writer}"), number.into(), None).await {
                    Ok(()) => kept = number,
                    Err(error) => assert!(error.retry() != storage_core::Retry::Never, "{error}"),
                }
                tokio::task::yield_now().await;
            }
            (writer, kept, number)
        })
    });
    let writers: Vec<_> = writers.collect();
    let cluster = Arc::new(cluster);
    for round in 0..failovers(3) {
        let place = if round % 2 == 0 { 3 } else { 0 };
        let own = Arc::clone(&cluster);
        beside(move || own.fail_over_to(place).unwrap()).await.unwrap();
        let promoted = Instant::now();
        loop {
            let health = backend.health().await;
            let keys: Vec<String> = (0..32).map(|number| format!("probe:{number}")).collect();
            let writes = join_all(keys.iter().map(|key| backend.set(key, json("1"), None))).await;
            if health.writes() && writes.iter().all(Result::is_ok) {
                println!("failover {round}: all works again after {:?}", promoted.elapsed());
                break;
            }
            assert!(promoted.elapsed() < SOON, "{health:?} {writes:?}");
        }
        assert_eq!(backend.keys("deal:*").await.unwrap().len(), ENTRIES, "round {round}");
        let own = Arc::clone(&cluster);
        beside(move || own.wait_until_complete().unwrap()).await.unwrap();
    }
    drop(running);
    for writer in writers {
        let (writer, kept, number) = writer.await.unwrap();
        let found: u64 = backend.get_as(&format!("count:{writer}")).await.unwrap().unwrap();
        assert!(
            (kept..=number).contains(&found),
            "writer {writer}: {kept} was acknowledged, {found} is there"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_serves_makes_a_listing_an_error_and_health_tell() {
    let cluster = RedisCluster::start(3).unwrap();
    let everywhere = |words: &[&str]| cluster.nodes().iter().for_each(|node| drop(node.command(words)));
    everywhere(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    let mut config = config(&cluster.url());
    config.operation_timeout = Duration::from_secs(3);
    let backend = open(config.clone()).await;
    for number in 0..300 {
        backend.set(&format!("deal:{number}"), json("1"), None).await.unwrap();
    }
    everywhere(&["CLUSTER", "DELSLOTS", "77"]);
    let backend = open(config).await;
    let error = backend.keys("*").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("would not be whole"), "{error}");
    let health = backend.health().await;
    assert!(!health.writes() && !health.reads(), "{health:?}");
    let slots = health.stores.last().unwrap();
    assert!(slots.write_error.as_ref().unwrap().contains("slots 77 to 77"), "{health:?}");
    cluster.nodes()[0].command(&["CLUSTER", "ADDSLOTS", "77"]).unwrap();
    until("the slot is served again", async || backend.health().await.writes()).await;
    until("it is listed again", async || backend.keys("*").await.is_ok_and(|keys| keys.len() == 300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_blames_the_primary_that_is_silent_and_no_other() {
    let cluster = RedisCluster::start_with_replicas(3).unwrap();
    let backend = open(config(&cluster.url())).await;
    let silent = &cluster.nodes()[0];
    silent.pause();
    let port = silent.port().to_string();
    until("a replica has taken over, and is written to", async || {
        let health = backend.health().await;
        for store in health.stores.iter().filter(|store| !store.writes()) {
            assert!(store.store.ends_with(&port), "{health:?}");
        }
        health.writes() && cluster.is_primary(3).unwrap()
    })
    .await;
    silent.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_needs_most_primaries_and_names_those_that_are_missing() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let url = cluster.url();
    cluster.nodes_mut()[0].kill().unwrap();
    let backend = open(config(&url)).await;
    assert!(!backend.health().await.reads(), "one of three is down");
    cluster.nodes_mut()[1].kill().unwrap();
    let missing: Vec<String> = [0, 1].map(|place| cluster.nodes()[place].port().to_string()).into();
    let error = RedisBackend::new(config(&url)).unwrap().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(missing.iter().all(|port| error.to_string().contains(port)), "{error}");
}
