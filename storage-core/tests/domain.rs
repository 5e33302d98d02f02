//! The helpers of the ad domain on the memory backend.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use storage_core::{
    Cursor, ErrorKind, Expiry, Json, ManualClock, MemoryBackend, MemoryConfig, Record, Result, Scan,
    ScanPage, StorageBackend,
    domain::{AdBuyer, AdSeller, QUOTE_TTL},
};

async fn memory() -> MemoryBackend {
    let storage = MemoryBackend::new();
    storage.connect().await.unwrap();
    storage
}

#[tokio::test]
async fn every_entity_keeps_its_key_and_value() {
    support::every_entity_keeps_its_key_and_value(&memory().await).await;
}

#[tokio::test]
async fn deletes_say_whether_the_entry_was_there() {
    support::deletes_say_whether_the_entry_was_there(&memory().await).await;
}

#[tokio::test]
async fn lists_with_two_filters() {
    support::lists_with_two_filters(&memory().await).await;
}

#[tokio::test]
async fn lists_with_one_filter_or_none() {
    support::lists_with_one_filter_or_none(&memory().await).await;
}

#[tokio::test]
async fn a_list_puts_entries_of_another_shape_apart() {
    support::a_list_puts_entries_of_another_shape_apart(&memory().await).await;
}

#[tokio::test]
async fn the_sessions_of_a_buyer_come_in_one_call() {
    support::the_sessions_of_a_buyer_come_in_one_call(&memory().await).await;
}

#[tokio::test]
async fn the_buyer_index_keeps_the_order_without_duplicates() {
    support::the_buyer_index_keeps_the_order_without_duplicates(&memory().await).await;
}

#[tokio::test]
async fn an_index_of_another_shape_is_never_overwritten() {
    support::an_index_of_another_shape_is_never_overwritten(&memory().await).await;
}

#[tokio::test]
async fn indexes_refuse_ids_that_cannot_be() {
    support::indexes_refuse_ids_that_cannot_be(&memory().await).await;
}

#[tokio::test]
async fn the_url_index_holds_an_agent_id() {
    support::the_url_index_holds_an_agent_id(&memory().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_lose_no_session() {
    support::sixty_four_tasks_lose_no_session(Arc::new(memory().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn adding_and_removing_at_once_loses_nothing() {
    support::adding_and_removing_at_once_loses_nothing(Arc::new(memory().await)).await;
}

#[tokio::test]
async fn quotes_and_sessions_expire_when_they_should() {
    let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
    let config = MemoryConfig { clock: Arc::clone(&clock) as _, sweep: None, ..MemoryConfig::default() };
    let storage = MemoryBackend::with_config(config);
    storage.connect().await.unwrap();
    let minute = Duration::from_secs(60);

    storage.set_quote("day", &json!({"status": "available"})).await.unwrap();
    storage.set_quote_with_ttl("minute", &1, minute).await.unwrap();
    storage.set_session("minute", &1, Some(minute)).await.unwrap();
    storage.set_session("for-good", &1, None).await.unwrap();
    assert_eq!(storage.ttl("quote:day").await.unwrap(), Some(Expiry::After(Duration::from_secs(86_400))));
    let zero = storage.set_quote_with_ttl("zero", &1, Duration::ZERO).await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);

    clock.advance(minute - Duration::from_millis(1));
    assert_eq!(storage.list_quotes::<Value>(None, None).await.unwrap().len(), 2);
    clock.advance(Duration::from_millis(1));
    assert_eq!(storage.get_quote::<Value>("minute").await.unwrap(), None);
    assert_eq!(storage.list_sessions::<Value>().await.unwrap().len(), 1);
    clock.advance(QUOTE_TTL - minute - Duration::from_millis(1));
    assert_eq!(storage.list_quotes::<Value>(Some("available"), None).await.unwrap().len(), 1);
    clock.advance(Duration::from_millis(1));
    assert_eq!(storage.get_quote::<Value>("day").await.unwrap(), None);
    assert!(storage.list_quotes::<Value>(None, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn helpers_work_behind_every_kind_of_pointer() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Deal {
        cpm: f64,
    }
    async fn generic<B: StorageBackend>(storage: &B, deal: &Deal) -> Result<Option<Deal>> {
        storage.set_deal("d-1", deal).await?;
        storage.get_deal("d-1").await
    }

    let deal = Deal { cpm: 15.0 };
    let concrete = memory().await;
    assert_eq!(generic(&concrete, &deal).await.unwrap(), Some(deal.clone()));
    let plain: &dyn StorageBackend = &concrete;
    assert_eq!(plain.get_deal("d-1").await.unwrap(), Some(deal.clone()));
    let shared: Arc<dyn StorageBackend> = Arc::new(concrete);
    let spawned = Arc::clone(&shared);
    let listed = tokio::spawn(async move { spawned.list_deals::<Deal>(None, None).await });
    assert_eq!(listed.await.unwrap().unwrap().all().unwrap(), [deal]);
    shared.set_deal("d-2", &Json::parse(r#"{"cpm": 1e0}"#).unwrap()).await.unwrap();
    assert_eq!(shared.get_deal("d-2").await.unwrap(), Some(Deal { cpm: 1.0 }));
    assert!(shared.get_buyer_session_ids("acme").await.unwrap().is_empty());
}

/// Answers scans alone, and notes them.
#[derive(Debug)]
struct ScansAlone {
    memory: MemoryBackend,
    scans: Mutex<Vec<Scan>>,
}

#[async_trait]
impl StorageBackend for ScansAlone {
    async fn connect(&self) -> Result<()> {
        self.memory.connect().await
    }
    async fn disconnect(&self) -> Result<()> {
        self.memory.disconnect().await
    }
    async fn get(&self, _: &str) -> Result<Option<Json>> {
        panic!("a listing reads no single key")
    }
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        self.memory.set(key, value, ttl).await
    }
    async fn delete(&self, _: &str) -> Result<bool> {
        panic!("a listing deletes nothing")
    }
    async fn exists(&self, _: &str) -> Result<bool> {
        panic!("a listing asks for no single key")
    }
    async fn keys(&self, _: &str) -> Result<Vec<String>> {
        panic!("a listing lists no keys")
    }
    async fn scan_page(&self, scan: &Scan, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<Record>> {
        if after.is_none() {
            self.scans.lock().unwrap().push(scan.clone());
        }
        self.memory.scan_page(scan, after, limit).await
    }
}

#[tokio::test]
async fn a_list_is_one_scan_that_carries_the_filters() {
    let storage = ScansAlone { memory: memory().await, scans: Mutex::default() };
    for n in 0..600 {
        storage.set_quote(&n.to_string(), &json!({"product": {"product_id": n % 2}})).await.unwrap();
    }
    let quotes = storage.list_quotes::<Value>(None, Some("p-1")).await.unwrap();
    assert!(quotes.is_empty());
    assert_eq!(storage.list_quotes::<Value>(None, None).await.unwrap().len(), 600);

    let scans = storage.scans.into_inner().unwrap();
    let paths: Vec<_> = scans.iter().map(|scan| scan.filters().first().map(|f| f.path().join("."))).collect();
    assert_eq!(paths, [Some("product.product_id".to_owned()), None]);
    assert!(scans.iter().all(|scan| scan.glob().as_str() == "quote:*" && !scan.wants_expiry()));
}
