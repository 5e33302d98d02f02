//! What is special to the memory backend: expiry by an injected clock, the sweep, messages, and real threads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use futures::{FutureExt, StreamExt};
use storage_core::{
    Batch, Change, Clock, Delivery, Entry, ErrorKind, Expected, Expiry, Json, ManualClock, MemoryBackend,
    MemoryConfig, PubSub, Record, Scan, StorageBackend, StorageExt, SweepConfig,
};

const TTL: Duration = Duration::from_millis(1_500);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A connected backend without a background sweep, and its clock.
async fn with_clock() -> (Arc<MemoryBackend>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
    let config = MemoryConfig { clock: Arc::clone(&clock) as _, sweep: None, ..MemoryConfig::default() };
    let storage = MemoryBackend::with_config(config);
    storage.connect().await.unwrap();
    (Arc::new(storage), clock)
}

/// A backend that holds `k` = 1, with `left` to live.
async fn holding(left: Duration) -> MemoryBackend {
    let (storage, clock) = with_clock().await;
    storage.set("k", Json::from(1), Some(TTL)).await.unwrap();
    clock.advance(TTL - left);
    Arc::into_inner(storage).unwrap()
}

/// Expired a moment ago, to the millisecond.
async fn expired() -> MemoryBackend {
    holding(Duration::ZERO).await
}

/// Expires within the next millisecond.
async fn live() -> MemoryBackend {
    holding(MILLISECOND).await
}

async fn scanned(storage: &MemoryBackend, scan: Scan) -> Vec<Record> {
    storage.records(scan).map(|record| record.unwrap()).collect().await
}

async fn connected() -> Arc<MemoryBackend> {
    let storage = MemoryBackend::new();
    storage.connect().await.unwrap();
    Arc::new(storage)
}

#[tokio::test]
async fn reads_see_an_entry_to_the_millisecond() {
    for (storage, there) in [(live().await, true), (expired().await, false)] {
        let value = there.then(|| Json::from(1));
        let count = usize::from(there);
        assert_eq!(storage.get("k").await.unwrap(), value);
        assert_eq!(storage.exists("k").await.unwrap(), there);
        assert_eq!(storage.keys("*").await.unwrap().len(), count);
        assert_eq!(storage.keys("k").await.unwrap().len(), count);
        assert_eq!(*storage.get_many(&["k"]).await.unwrap()[0].as_ref().unwrap(), value);
        assert_eq!(scanned(&storage, Scan::keys("*").unwrap()).await.len(), count);
        assert_eq!(scanned(&storage, Scan::entries("k").unwrap()).await.len(), count);
        assert_eq!(storage.ttl("k").await.unwrap(), there.then_some(Expiry::After(MILLISECOND)));
        assert_eq!(storage.get_as::<i64>("k").await.unwrap(), there.then_some(1));
        assert_eq!(storage.cleanup().await.unwrap(), u64::from(!there));
    }
}

#[tokio::test]
async fn writes_take_an_expired_entry_for_absent() {
    assert!(live().await.delete("k").await.unwrap());
    assert!(!expired().await.delete("k").await.unwrap());

    assert_eq!(live().await.delete_many(&["k"]).await.unwrap(), 1);
    assert_eq!(expired().await.delete_many(&["k"]).await.unwrap(), 0);

    for (storage, there) in [(live().await, true), (expired().await, false)] {
        assert_eq!(storage.expire("k", TTL).await.unwrap(), there);
        assert_eq!(storage.exists("k").await.unwrap(), there, "an expired entry does not come back");
    }
    for (storage, there) in [(live().await, true), (expired().await, false)] {
        assert_eq!(storage.persist("k").await.unwrap(), there);
        assert_eq!(storage.ttl("k").await.unwrap(), there.then_some(Expiry::Never));
    }
}

#[tokio::test]
async fn atomic_steps_take_an_expired_entry_for_absent() {
    let (one, two) = (Json::from(1), Json::from(2));
    let expecting = || Expected::Value(one.clone());
    assert!(live().await.compare_and_set("k", expecting(), Some(two.clone()), None).await.unwrap());
    assert!(!expired().await.compare_and_set("k", expecting(), Some(two.clone()), None).await.unwrap());
    assert!(!expired().await.compare_and_set("k", expecting(), None, None).await.unwrap());
    assert!(!live().await.set_if_absent("k", two.clone(), None).await.unwrap());
    assert!(expired().await.set_if_absent("k", two.clone(), None).await.unwrap());

    assert_eq!(live().await.increment("k", 5, None).await.unwrap(), 6);
    assert_eq!(expired().await.increment("k", 5, None).await.unwrap(), 5);

    let seen = |storage: MemoryBackend| async move {
        let mut seen = None;
        let update = storage.update("k", None, |found| {
            seen = found.cloned();
            Ok(Change::Keep)
        });
        update.await.unwrap();
        seen
    };
    assert_eq!(seen(live().await).await, Some(one.clone()));
    assert_eq!(seen(expired().await).await, None);

    let storage = expired().await;
    storage.apply(Batch::new().delete("k").set("other", two.clone(), None)).await.unwrap();
    assert_eq!(storage.keys("*").await.unwrap(), ["other"]);
}

#[tokio::test]
async fn every_write_sets_an_expiry_of_its_own() {
    type Write = fn(Arc<MemoryBackend>, Option<Duration>) -> futures::future::BoxFuture<'static, ()>;
    let writes: [(&str, Write); 4] = [
        ("set", |s, ttl| async move { s.set("k", Json::from(1), ttl).await.unwrap() }.boxed()),
        ("set_many", |s, ttl| {
            let entry = Entry { key: "k".into(), value: Json::from(1), ttl };
            async move { s.set_many(vec![entry]).await.unwrap() }.boxed()
        }),
        ("apply", |s, ttl| {
            let batch = Batch::new().set("k", Json::from(1), ttl);
            async move { s.apply(batch).await.unwrap() }.boxed()
        }),
        ("compare_and_set", |s, ttl| {
            let write = async move {
                let expected = Expected::from_read(s.get("k").await.unwrap());
                assert!(s.compare_and_set("k", expected, Some(Json::from(1)), ttl).await.unwrap());
            };
            write.boxed()
        }),
    ];
    for (name, write) in writes {
        let (storage, clock) = with_clock().await;
        write(Arc::clone(&storage), Some(TTL)).await;
        assert_eq!(storage.ttl("k").await.unwrap(), Some(Expiry::After(TTL)), "{name}");
        write(Arc::clone(&storage), Some(2 * TTL)).await;
        clock.advance(TTL);
        assert!(storage.exists("k").await.unwrap(), "{name}: the first expiry counts no more");
        write(Arc::clone(&storage), None).await;
        clock.advance(100 * TTL);
        assert_eq!(storage.ttl("k").await.unwrap(), Some(Expiry::Never), "{name}: the expiry is removed");
    }
}

#[tokio::test]
async fn increment_sets_an_expiry_only_when_it_creates() {
    let (storage, clock) = with_clock().await;
    storage.increment("k", 1, Some(TTL)).await.unwrap();
    clock.advance(MILLISECOND);
    storage.increment("k", 1, Some(10 * TTL)).await.unwrap();
    storage.increment("k", 1, None).await.unwrap();
    assert_eq!(storage.ttl("k").await.unwrap(), Some(Expiry::After(TTL - MILLISECOND)));
    clock.advance(TTL - MILLISECOND);
    assert_eq!(storage.increment("k", 1, None).await.unwrap(), 1, "it starts again from nothing");
    assert_eq!(storage.ttl("k").await.unwrap(), Some(Expiry::Never));
}

#[tokio::test]
async fn an_expiry_of_a_part_of_a_millisecond_is_rounded_up() {
    let (storage, clock) = with_clock().await;
    storage.set("k", Json::from(1), Some(Duration::from_nanos(1))).await.unwrap();
    clock.advance(Duration::from_nanos(999_999));
    assert!(storage.exists("k").await.unwrap());
    clock.advance(Duration::from_nanos(1));
    assert!(!storage.exists("k").await.unwrap());
}

#[tokio::test]
async fn a_scan_tells_expiries_when_asked() {
    let (storage, clock) = with_clock().await;
    storage.set("a", Json::from(1), Some(TTL)).await.unwrap();
    storage.set("b", Json::from(1), None).await.unwrap();
    let told = scanned(&storage, Scan::keys("*").unwrap().with_expiry()).await;
    assert_eq!(told.iter().map(|r| r.expires_at).collect::<Vec<_>>(), [Some(clock.now() + TTL), None]);
    let untold = scanned(&storage, Scan::keys("*").unwrap()).await;
    assert!(untold.iter().all(|record| record.expires_at.is_none()));
}

#[tokio::test]
async fn cleanup_removes_the_expired_alone_however_many() {
    let (storage, clock) = with_clock().await;
    for n in 0..2_500 {
        let ttl = (n % 2 == 0).then_some(TTL);
        storage.set(&format!("k:{n:04}"), Json::from(n), ttl).await.unwrap();
    }
    assert_eq!(storage.cleanup().await.unwrap(), 0);
    clock.advance(TTL);
    assert_eq!(storage.stats().await.unwrap().entries, Some(2_500), "expired entries wait for a sweep");
    assert_eq!(storage.cleanup().await.unwrap(), 1_250);
    assert_eq!(storage.stats().await.unwrap().entries, Some(1_250));
    assert_eq!(storage.keys("*").await.unwrap().len(), 1_250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cleanup_never_removes_a_value_written_since() {
    let (storage, clock) = with_clock().await;
    let keys: Arc<Vec<String>> = Arc::new((0..4_000).map(|n| format!("k:{n:04}")).collect());
    for round in 1..=5 {
        for key in keys.iter() {
            storage.set(key, Json::from(0), Some(MILLISECOND)).await.unwrap();
        }
        clock.advance(MILLISECOND);
        let writer = tokio::spawn({
            let (storage, keys) = (Arc::clone(&storage), Arc::clone(&keys));
            async move {
                for key in keys.iter().rev() {
                    storage.set(key, Json::from(round), None).await.unwrap();
                }
            }
        });
        while !writer.is_finished() {
            storage.cleanup().await.unwrap();
        }
        writer.await.unwrap();
        storage.cleanup().await.unwrap();
        for key in keys.iter() {
            assert_eq!(storage.get(key).await.unwrap(), Some(Json::from(round)), "{key}");
        }
    }
}

#[tokio::test]
async fn the_background_sweep_removes_expired_entries_by_itself() {
    let sweep = Some(SweepConfig { interval: Duration::from_millis(10), batch: 10 });
    let storage = MemoryBackend::with_config(MemoryConfig { sweep, ..MemoryConfig::default() });
    storage.connect().await.unwrap();
    storage.set("stays", Json::from(1), None).await.unwrap();
    for n in 0..100 {
        storage.set(&format!("goes:{n}"), Json::from(1), Some(MILLISECOND)).await.unwrap();
    }
    let swept = async {
        while storage.stats().await.unwrap().entries != Some(1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), swept).await.expect("the sweep runs");
    assert!(storage.exists("stays").await.unwrap());
}

#[tokio::test]
async fn entries_live_through_disconnect_and_connect() {
    let storage = connected().await;
    storage.set("k", Json::from(1), None).await.unwrap();
    storage.disconnect().await.unwrap();
    storage.disconnect().await.unwrap();
    assert_eq!(storage.get("k").await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(storage.cleanup().await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(storage.publish("c", Json::from(1)).await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(storage.subscribe("c").await.is_err());
    storage.connect().await.unwrap();
    storage.connect().await.unwrap();
    assert_eq!(storage.get("k").await.unwrap(), Some(Json::from(1)));
    let other = connected().await;
    assert!(!other.exists("k").await.unwrap(), "nothing is shared between two backends");
}

#[tokio::test]
async fn a_message_reaches_who_listens_now_in_order() {
    let storage = connected().await;
    let bus = storage.pub_sub().unwrap();
    assert_eq!(bus.publish("deals", Json::from(0)).await.unwrap(), 0, "nobody listens yet");
    let mut first = bus.subscribe("deals").await.unwrap();
    let second = bus.subscribe("deals").await.unwrap();
    let mut other = bus.subscribe("deals:1").await.unwrap();
    for n in 1..=3 {
        assert_eq!(bus.publish("deals", Json::from(n)).await.unwrap(), 2);
    }
    drop(second);
    assert_eq!(bus.publish("deals", Json::from(4)).await.unwrap(), 1, "a dropped stream listens no more");
    for n in 1..=4 {
        assert_eq!(first.next().await, Some(Delivery::Message(Json::from(n))));
    }
    assert!(first.next().now_or_never().is_none(), "each message comes once");
    assert!(other.next().now_or_never().is_none(), "a channel is no pattern");
    for wrong in ["", "a\0", &"c".repeat(1_025)] {
        assert_eq!(bus.publish(wrong, Json::from(1)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(bus.subscribe(wrong).await.is_err());
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_of_the_gap() {
    let storage = connected().await;
    let mut slow = storage.subscribe("deals").await.unwrap();
    let last = 2_000;
    for n in 0..=last {
        storage.publish("deals", Json::from(n)).await.unwrap();
    }
    assert_eq!(slow.next().await, Some(Delivery::Gap));
    let mut numbers: Vec<i64> = Vec::new();
    while numbers.last() != Some(&last) {
        match slow.next().await.unwrap() {
            Delivery::Message(message) => numbers.push(message.decode().unwrap()),
            Delivery::Gap => panic!("one gap is told once"),
        }
    }
    assert_eq!(numbers, (numbers[0]..=last).collect::<Vec<_>>(), "after the gap nothing is missing");
    storage.publish("deals", Json::from(last + 1)).await.unwrap();
    assert_eq!(slow.next().await, Some(Delivery::Message(Json::from(last + 1))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn increments_racing_on_eight_threads_are_all_counted() {
    let storage = connected().await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let mut sums = Vec::with_capacity(2_000);
                for _ in 0..2_000 {
                    sums.push(storage.increment("n", 1, None).await.unwrap());
                }
                sums
            })
        })
        .collect();
    let mut sums = BTreeSet::new();
    for task in tasks {
        let own = task.await.unwrap();
        assert!(own.is_sorted());
        sums.extend(own);
    }
    assert_eq!(sums.into_iter().collect::<Vec<_>>(), (1..=16_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_scan_sees_lasting_keys_once_while_others_write() {
    let storage = connected().await;
    let lasting: Vec<String> = (0..1_500).map(|n| format!("k:{n:04}")).collect();
    for key in &lasting {
        storage.set(key, Json::from(0), None).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (storage, stop, lasting) = (Arc::clone(&storage), Arc::clone(&stop), lasting.clone());
            tokio::spawn(async move {
                for (n, key) in (1..).zip(lasting.iter().cycle()) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    storage.set(key, Json::from(n), None).await.unwrap();
                    let passing = format!("{key}:{writer}");
                    storage.set(&passing, Json::from(n), None).await.unwrap();
                    storage.delete(&passing).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let records = scanned(&storage, Scan::entries("k:*").unwrap()).await;
        let keys: Vec<String> = records.into_iter().map(|record| record.key).collect();
        assert!(keys.is_sorted_by(|left, right| left < right), "in byte order, none twice");
        let seen: Vec<&String> = keys.iter().filter(|key| key.len() == "k:0000".len()).collect();
        assert!(seen.into_iter().eq(&lasting));
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_refused_by_every_write() {
    let config = MemoryConfig { max_value_bytes: 4, ..MemoryConfig::default() };
    let storage = MemoryBackend::with_config(config);
    storage.connect().await.unwrap();
    let (fits, beyond) = (Json::from(1_234), Json::from(12_345));
    storage.set("k", fits.clone(), None).await.unwrap();
    let batch = Batch::new().set("other", fits.clone(), None).set("k", beyond.clone(), None);
    let entries = vec![Entry::new("other", fits.clone()), Entry::new("k", beyond.clone())];
    let refused = [
        storage.set("k", beyond.clone(), None).await.err(),
        storage.set_many(entries).await.err(),
        storage.apply(batch).await.err(),
        storage.compare_and_set("k", Expected::Absent, Some(beyond), None).await.err(),
    ];
    for error in refused {
        let error = error.unwrap();
        assert_eq!((error.kind(), error.key()), (ErrorKind::InvalidInput, Some("k")));
    }
    assert_eq!(storage.keys("*").await.unwrap(), ["k"]);
    assert_eq!(storage.get("k").await.unwrap(), Some(fits));
}

#[tokio::test]
async fn a_clock_that_is_put_back_revives_nothing() {
    let (storage, clock) = with_clock().await;
    let start = clock.now();
    storage.set("lock:1", Json::from(1), Some(TTL)).await.unwrap();
    clock.advance(2 * TTL);
    assert!(!storage.exists("lock:1").await.unwrap());
    clock.set(start);
    assert!(!storage.exists("lock:1").await.unwrap());
    assert!(storage.keys("*").await.unwrap().is_empty());
    storage.set("lock:2", Json::from(1), Some(TTL)).await.unwrap();
    clock.advance(TTL);
    assert!(!storage.exists("lock:2").await.unwrap(), "time goes on from where it stood");
}
