//! What only a backend on two stores can get wrong.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use storage_core::{
    Batch, Entry, Error, ErrorKind, HealthStatus, Json, MemoryBackend, MemoryConfig, Result, Scan,
    StorageBackend, StorageExt,
};
use storage_hybrid::{HybridBackend, Routes};

fn one() -> Json {
    Json::from(1)
}

fn two_stores() -> (Arc<MemoryBackend>, Arc<MemoryBackend>, HybridBackend) {
    let (durable, ephemeral) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryBackend::new()));
    let hybrid = HybridBackend::new(durable.clone(), ephemeral.clone(), Routes::default());
    (durable, ephemeral, hybrid)
}

#[tokio::test]
async fn a_batch_across_stores_is_unsupported_and_changes_nothing() {
    let (_, _, hybrid) = two_stores();
    hybrid.connect().await.unwrap();
    let batch = Batch::new().set("deal:1", one(), None).set("session:1", one(), None);
    let error = hybrid.apply(batch).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Unsupported, Some("session:1")));
    assert!(hybrid.keys("*").await.unwrap().is_empty());
    hybrid.apply(Batch::new().set("cache:1", one(), None).delete("session:1")).await.unwrap();
    assert_eq!(hybrid.keys("*").await.unwrap(), ["cache:1"]);
}

#[tokio::test]
async fn listings_merge_and_leave_out_what_get_would_not_find() {
    let (durable, ephemeral, hybrid) = two_stores();
    hybrid.connect().await.unwrap();
    let entries = ["deal:1", "cache:1", "session:1"].map(|key| Entry::new(key, one()));
    hybrid.set_many(entries.into()).await.unwrap();
    // Left behind by another routing table.
    durable.set("session:1", one(), None).await.unwrap();
    durable.set("session:2", one(), None).await.unwrap();
    ephemeral.set("deal:2", one(), None).await.unwrap();
    assert_eq!(hybrid.keys("*").await.unwrap(), ["cache:1", "deal:1", "session:1"]);
    assert_eq!(hybrid.keys("session*").await.unwrap(), ["session:1"]);
    let scanned: Vec<_> = hybrid.records(Scan::keys("*").unwrap()).collect().await;
    assert_eq!(scanned.len(), 3);
}

#[tokio::test]
async fn with_one_store_down_the_other_goes_on_and_health_says_which() {
    let (_, ephemeral, hybrid) = two_stores();
    hybrid.connect().await.unwrap();
    ephemeral.disconnect().await.unwrap();
    hybrid.set("deal:1", one(), None).await.unwrap();
    assert_eq!(hybrid.keys("deal:*").await.unwrap(), ["deal:1"]);
    assert_eq!(hybrid.set("session:1", one(), None).await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(hybrid.keys("*").await.is_err(), "a listing of both must not look whole");
    let health = hybrid.health().await;
    assert_eq!(health.status(), HealthStatus::Degraded);
    assert_eq!(health.stores.iter().filter(|store| !store.reads()).count(), 1);
}

/// What one store wrote while the other did not is told as such, whatever the other says.
#[tokio::test]
async fn a_write_of_which_one_store_did_its_part_has_an_unknown_outcome() {
    let (durable, ephemeral, hybrid) = two_stores();
    hybrid.connect().await.unwrap();
    let entries =
        |kinds: [&str; 2]| kinds.map(|kind| Entry::new(format!("{kind}:1"), Json::from(1))).to_vec();
    ephemeral.disconnect().await.unwrap();

    let told = hybrid.set_many(entries(["deal", "session"])).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::OutcomeUnknown, "{told}");
    assert!(durable.exists("deal:1").await.unwrap());
    let told = hybrid.delete_many(&["deal:1", "session:1"]).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::OutcomeUnknown, "{told}");
    assert!(!durable.exists("deal:1").await.unwrap());

    // Nothing was written anywhere.
    let told = hybrid.set_many(entries(["session", "cache"])).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::NotConnected, "{told}");
    // What the other store does not concern goes on.
    hybrid.set_many(entries(["deal", "order"])).await.unwrap();
}

/// An entry that one store would refuse is refused before the other has written anything.
#[tokio::test]
async fn an_entry_that_one_store_refuses_stops_the_other_too() {
    let small = MemoryConfig { max_value_bytes: 10, ..MemoryConfig::default() };
    let (durable, ephemeral) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryBackend::with_config(small)));
    let hybrid = HybridBackend::new(durable.clone(), ephemeral, Routes::default());
    hybrid.connect().await.unwrap();
    assert_eq!(hybrid.max_value_bytes(), 10);
    let long = Json::parse(format!("\"{}\"", "x".repeat(20))).unwrap();
    let entries = vec![Entry::new("deal:1", long.clone()), Entry::new("session:1", long)];
    let told = hybrid.set_many(entries).await.unwrap_err();
    assert_eq!((told.kind(), told.key()), (ErrorKind::InvalidInput, Some("session:1")));
    assert!(!durable.exists("deal:1").await.unwrap());
}

/// A durable store that takes its time to say that it cannot be connected.
#[derive(Debug)]
struct Unreachable;

#[async_trait::async_trait]
impl StorageBackend for Unreachable {
    async fn connect(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Err(Error::new(ErrorKind::Unavailable, "the server cannot be reached"))
    }
    async fn disconnect(&self) -> Result<()> {
        Ok(())
    }
    async fn get(&self, _: &str) -> Result<Option<Json>> {
        Err(Error::new(ErrorKind::NotConnected, "not connected"))
    }
    async fn set(&self, _: &str, _: Json, _: Option<Duration>) -> Result<()> {
        Err(Error::new(ErrorKind::NotConnected, "not connected"))
    }
    async fn delete(&self, _: &str) -> Result<bool> {
        Err(Error::new(ErrorKind::NotConnected, "not connected"))
    }
    async fn exists(&self, _: &str) -> Result<bool> {
        Err(Error::new(ErrorKind::NotConnected, "not connected"))
    }
    async fn keys(&self, _: &str) -> Result<Vec<String>> {
        Err(Error::new(ErrorKind::NotConnected, "not connected"))
    }
}

/// A `connect` that its caller gives up goes on, and leaves both stores connected or neither.
#[tokio::test]
async fn a_connect_that_is_given_up_leaves_no_half() {
    let ephemeral = Arc::new(MemoryBackend::new());
    let hybrid = HybridBackend::new(Arc::new(Unreachable), ephemeral.clone(), Routes::default());
    tokio::time::timeout(Duration::from_millis(50), hybrid.connect()).await.unwrap_err();
    // Waits for the one that goes on.
    assert_eq!(hybrid.connect().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(ephemeral.get("session:1").await.unwrap_err().kind(), ErrorKind::NotConnected);
}
