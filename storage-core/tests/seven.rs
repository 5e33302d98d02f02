//! A backend that implements the seven required methods alone: what it gets with them, and what it does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::{Value, json};
use storage_core::{
    Batch, Capabilities, Entry, Error, ErrorKind, Expected, Health, HealthStatus, Json, MemoryBackend,
    Record, Result, Scan, StorageBackend, StorageExt, StoreHealth,
    domain::{AdBuyer, AdSeller},
};

/// Seven methods over a memory backend. What is under `CORRUPT` cannot be read, as if another program had written it.
#[derive(Debug, Default)]
struct Seven(MemoryBackend);

const CORRUPT: [&str; 2] = ["deal:corrupt", "session_index:buyer:corrupt"];

#[async_trait]
impl StorageBackend for Seven {
    async fn connect(&self) -> Result<()> {
        self.0.connect().await
    }

    async fn disconnect(&self) -> Result<()> {
        self.0.disconnect().await
    }

    async fn get(&self, key: &str) -> Result<Option<Json>> {
        match self.0.get(key).await? {
            Some(_) if CORRUPT.contains(&key) => {
                Err(Error::corrupt("it is not JSON").at("custom", "get").with_key(key))
            }
            // Gives the other readers of one call a chance to come in between.
            found => {
                tokio::task::yield_now().await;
                Ok(found)
            }
        }
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        self.0.set(key, value, ttl).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.0.delete(key).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key).await
    }

    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        self.0.keys(pattern).await
    }
}

async fn seven() -> Seven {
    let storage = Seven::default();
    storage.connect().await.unwrap();
    storage
}

/// `deal:0000` and so on, each with its number, every third of them active.
async fn with_deals(count: u64) -> Seven {
    let storage = seven().await;
    for n in 0..count {
        let status = if n % 3 == 0 { "active" } else { "booked" };
        storage.set_deal(&format!("{n:04}"), &json!({"n": n, "status": status})).await.unwrap();
    }
    storage
}

async fn scanned(storage: &Seven, scan: Scan) -> Vec<Result<Record>> {
    storage.records(scan).collect().await
}

#[tokio::test]
async fn every_entity_keeps_its_key_and_value() {
    support::every_entity_keeps_its_key_and_value(&seven().await).await;
}

#[tokio::test]
async fn deletes_say_whether_the_entry_was_there() {
    support::deletes_say_whether_the_entry_was_there(&seven().await).await;
}

#[tokio::test]
async fn lists_with_two_filters() {
    support::lists_with_two_filters(&seven().await).await;
}

#[tokio::test]
async fn lists_with_one_filter_or_none() {
    support::lists_with_one_filter_or_none(&seven().await).await;
}

#[tokio::test]
async fn a_list_puts_entries_of_another_shape_apart() {
    support::a_list_puts_entries_of_another_shape_apart(&seven().await).await;
}

#[tokio::test]
async fn the_sessions_of_a_buyer_come_in_one_call() {
    support::the_sessions_of_a_buyer_come_in_one_call(&seven().await).await;
}

#[tokio::test]
async fn the_buyer_index_keeps_the_order_without_duplicates() {
    support::the_buyer_index_keeps_the_order_without_duplicates(&seven().await).await;
}

#[tokio::test]
async fn an_index_of_another_shape_is_never_overwritten() {
    support::an_index_of_another_shape_is_never_overwritten(&seven().await).await;
}

#[tokio::test]
async fn indexes_refuse_ids_that_cannot_be() {
    support::indexes_refuse_ids_that_cannot_be(&seven().await).await;
}

#[tokio::test]
async fn the_url_index_holds_an_agent_id() {
    support::the_url_index_holds_an_agent_id(&seven().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_lose_no_session_without_compare_and_set() {
    support::sixty_four_tasks_lose_no_session(Arc::new(seven().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn adding_and_removing_at_once_loses_nothing_without_compare_and_set() {
    support::adding_and_removing_at_once_loses_nothing(Arc::new(seven().await)).await;
}

#[tokio::test]
async fn an_index_that_is_not_json_is_never_overwritten() {
    let storage = seven().await;
    let key = "session_index:buyer:corrupt";
    storage.set(key, Json::from(1), None).await.unwrap();
    let added = storage.add_session_to_buyer_index("s-1", "corrupt").await;
    support::assert_refused(added, ErrorKind::Corrupt, key);
    assert_eq!(storage.0.get(key).await.unwrap(), Some(Json::from(1)));
}

#[tokio::test]
async fn what_would_race_is_unsupported_and_changes_nothing() {
    let storage = seven().await;
    storage.set("k", Json::from(1), None).await.unwrap();
    let second = Duration::from_secs(1);
    let new = Some(Json::from(2));
    let refused = [
        ("compare_and_set", storage.compare_and_set("k", Expected::Absent, new, None).await.err()),
        ("compare_and_set", storage.set_if_absent("absent", Json::from(2), None).await.err()),
        ("update", storage.update("k", None, |_| Ok(storage_core::Change::Delete)).await.err()),
        ("increment", storage.increment("k", 1, None).await.err()),
        ("apply", storage.apply(Batch::new().delete("k")).await.err()),
        ("ttl", storage.ttl("k").await.err()),
        ("expire", storage.expire("k", second).await.err()),
        ("persist", storage.persist("k").await.err()),
        ("cleanup", storage.cleanup().await.err()),
        ("stats", storage.stats().await.err()),
    ];
    for (operation, error) in refused {
        let error = error.expect(operation);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{operation}");
        assert_eq!((error.backend(), error.operation()), (Some("custom"), Some(operation)));
    }
    assert_eq!(storage.keys("*").await.unwrap(), ["k"]);
    assert_eq!(storage.get("k").await.unwrap(), Some(Json::from(1)));
    assert_eq!(storage.capabilities(), Capabilities::BASIC);
    assert!(storage.pub_sub().is_none());
}

#[tokio::test]
async fn health_says_whether_the_store_answers() {
    let storage = seven().await;
    assert_eq!(storage.health().await.status(), HealthStatus::Healthy);
    storage.disconnect().await.unwrap();
    let health = storage.health().await;
    assert_eq!(health.status(), HealthStatus::Unhealthy);
    assert!(health.stores[0].write_error.as_ref().unwrap().contains("not connected"));
}

#[test]
fn a_store_that_takes_no_writes_is_degraded_and_not_ready() {
    let refused = Error::new(ErrorKind::Unavailable, "the server is a replica");
    let store = |reads: bool, writes: bool| {
        let error = |works: bool| (!works).then_some(&refused);
        StoreHealth::new("store", Duration::ZERO, error(reads), error(writes))
    };
    for (stores, status, reads, writes) in [
        (vec![store(true, true)], HealthStatus::Healthy, true, true),
        (vec![store(true, false)], HealthStatus::Degraded, true, false),
        (vec![store(false, true)], HealthStatus::Degraded, false, true),
        (vec![store(false, false)], HealthStatus::Unhealthy, false, false),
        (vec![store(true, true), store(false, false)], HealthStatus::Degraded, false, false),
    ] {
        let health = Health { stores };
        assert_eq!((health.status(), health.reads(), health.writes()), (status, reads, writes));
    }
}

#[tokio::test]
async fn get_many_keeps_the_order_and_spares_all_but_the_corrupt() {
    let storage = with_deals(40).await;
    storage.set("deal:corrupt", Json::from(1), None).await.unwrap();
    let mut keys: Vec<String> = (0..40).rev().map(|n| format!("deal:{n:04}")).collect();
    keys.extend(["deal:none", "deal:corrupt", "deal:0007", "deal:0007"].map(String::from));
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();

    let found = storage.get_many(&names).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (key, found) in keys.iter().zip(found) {
        match key.as_str() {
            "deal:corrupt" => support::assert_refused(found, ErrorKind::Corrupt, key),
            "deal:none" => assert_eq!(found.unwrap(), None),
            _ => {
                let value: Value = found.unwrap().unwrap().decode().unwrap();
                assert_eq!(format!("deal:{:04}", value["n"].as_u64().unwrap()), *key);
            }
        }
    }
    assert!(storage.get_many(&[]).await.unwrap().is_empty());
    let wrong = storage.get_many(&["deal:0001", ""]).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn set_many_keeps_the_last_of_a_key_and_writes_nothing_where_one_is_wrong() {
    let storage = seven().await;
    let entries = ["a", "b", "a"].into_iter().zip(1..).map(|(key, n)| Entry::new(key, Json::from(n)));
    storage.set_many(entries.collect()).await.unwrap();
    assert_eq!(storage.get("a").await.unwrap(), Some(Json::from(3)));
    assert_eq!(storage.get("b").await.unwrap(), Some(Json::from(2)));

    let zero = Entry::new("d", Json::from(1)).with_ttl(Duration::ZERO);
    for wrong in [Entry::new("", Json::from(1)), zero] {
        let answer = storage.set_many(vec![Entry::new("c", Json::from(1)), wrong]).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(storage.keys("*").await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn delete_many_counts_each_key_once_and_deletes_nothing_where_one_is_wrong() {
    let storage = with_deals(3).await;
    let wrong = storage.delete_many(&["deal:0000", "deal:\0"]).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
    let deleted = storage.delete_many(&["deal:0000", "deal:none", "deal:0000", "deal:0002"]).await;
    assert_eq!(deleted.unwrap(), 2);
    assert_eq!(storage.keys("*").await.unwrap(), ["deal:0001"]);
    assert_eq!(storage.delete_many(&[]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_scan_lists_every_match_once_in_byte_order() {
    let storage = with_deals(600).await;
    storage.set("order:1", Json::from(1), None).await.unwrap();
    let expected: Vec<String> = (0..600).map(|n| format!("deal:{n:04}")).collect();
    for (scan, with_value) in [(Scan::keys("deal:*"), false), (Scan::entries("deal:*"), true)] {
        let records: Vec<Record> =
            scanned(&storage, scan.unwrap()).await.into_iter().map(Result::unwrap).collect();
        assert!(records.iter().all(|record| record.value.is_some() == with_value));
        assert_eq!(records.into_iter().map(|record| record.key).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_scan_filters_and_names_the_corrupt_without_ending() {
    let storage = with_deals(600).await;
    storage.set("deal:corrupt", Json::from(1), None).await.unwrap();
    storage.set_deal("zzz", &json!({"n": 600, "status": "active"})).await.unwrap();
    for scan in [Scan::entries("deal:*"), Scan::keys("deal:*")] {
        let records = scanned(&storage, scan.unwrap().filter("status", "active")).await;
        let (found, corrupt): (Vec<_>, Vec<_>) = records.into_iter().partition(Result::is_ok);
        assert_eq!(found.len(), 201);
        assert_eq!(found.last().unwrap().as_ref().unwrap().key, "deal:zzz");
        let errors: Vec<_> = corrupt.into_iter().map(Result::unwrap_err).collect();
        assert_eq!(
            errors.iter().map(|e| (e.kind(), e.key().unwrap())).collect::<Vec<_>>(),
            [(ErrorKind::Corrupt, "deal:corrupt")]
        );
    }
    let listing = storage.list_deals::<Value>(Some("booked"), None).await.unwrap();
    assert_eq!((listing.len(), listing.corrupt.len()), (400, 1));
}

#[tokio::test]
async fn a_scan_of_an_unconnected_backend_is_one_error() {
    let storage = Seven::default();
    let records = scanned(&storage, Scan::entries("*").unwrap()).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].as_ref().unwrap_err().kind(), ErrorKind::NotConnected);
}

#[tokio::test]
async fn updates_within_a_process_exclude_each_other_without_compare_and_set() {
    let storage = Arc::new(seven().await);
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let added = storage.update_unguarded("counter", None, |found| {
                    let sum = found.map_or(Ok(0), Json::decode::<i64>)? + 1;
                    Ok(storage_core::Change::Set(Json::from(sum)))
                });
                added.await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(storage.get("counter").await.unwrap(), Some(Json::from(32)));
}
