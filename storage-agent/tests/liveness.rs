//! Callers that give up, keep their futures, or have no runtime: they block nobody.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use async_trait::async_trait;
use futures::executor::block_on;
use storage_agent::{Metadata, SessionStore, SessionUpdate, checkpoints::CheckpointStore};
use storage_core::{
    Capabilities, Expected, Json, MemoryBackend, MemoryConfig, Result, StorageBackend, engine::Deadline,
};
use tokio::runtime::{Builder, Runtime};

const SOON: Duration = Duration::from_secs(3);

/// A memory backend that takes a while, as a network does.
#[derive(Debug)]
struct Slow {
    store: MemoryBackend,
    /// A write waits for as long as this is set.
    stops: AtomicBool,
}

#[async_trait]
impl StorageBackend for Slow {
    async fn connect(&self) -> Result<()> {
        self.store.connect().await
    }
    async fn disconnect(&self) -> Result<()> {
        self.store.disconnect().await
    }
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        tokio::task::yield_now().await;
        self.store.get(key).await
    }
    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        self.store.set(key, value, ttl).await
    }
    async fn delete(&self, key: &str) -> Result<bool> {
        self.store.delete(key).await
    }
    async fn exists(&self, key: &str) -> Result<bool> {
        self.store.exists(key).await
    }
    async fn keys(&self, pattern: &str) -> Result<Vec<String>> {
        self.store.keys(pattern).await
    }
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        while self.stops.load(Ordering::SeqCst) {
            Deadline::never().pause(Duration::from_millis(1)).await;
        }
        self.store.compare_and_set(key, expected, new, ttl).await
    }
}

fn memory() -> MemoryBackend {
    let memory = MemoryBackend::with_config(MemoryConfig { sweep: None, ..MemoryConfig::default() });
    block_on(memory.connect()).unwrap();
    memory
}

/// A session store with one session, and what is below it.
fn sessions() -> (SessionStore, Arc<Slow>) {
    let slow = Arc::new(Slow { store: memory(), stops: AtomicBool::new(false) });
    let sessions = SessionStore::new(slow.clone());
    block_on(sessions.create_session("s", "u", Metadata::default())).unwrap();
    (sessions, slow)
}

fn one_request() -> SessionUpdate {
    SessionUpdate { increment_requests: 1, ..SessionUpdate::default() }
}

fn poll_once<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

async fn requests(sessions: &SessionStore) -> u64 {
    let update = one_request();
    let updated = Deadline::after(SOON).within(sessions.update_session("s", &update)).await;
    updated.unwrap().unwrap().unwrap().metrics.request_count
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn updates_of_a_session_that_are_polled_once_and_kept_block_nobody() {
    let (sessions, _) = tokio::task::spawn_blocking(sessions).await.unwrap();
    let update = one_request();
    let mut kept: Vec<_> = (0..100).map(|_| Box::pin(sessions.update_session("s", &update))).collect();
    kept.iter_mut().for_each(|call| poll_once(call.as_mut()));
    for _ in 0..3 {
        requests(&sessions).await;
    }
    for call in kept {
        call.await.unwrap().unwrap();
    }
    assert_eq!(requests(&sessions).await, 104, "each was applied once");
}

#[test]
fn a_runtime_that_ends_within_an_update_of_a_session_stops_no_other() {
    let (sessions, slow) = sessions();
    let (ending, other) = (current_thread(), current_thread());
    slow.stops.store(true, Ordering::SeqCst);
    let update = one_request();
    let mut kept = Box::pin(sessions.update_session("s", &update));
    ending.block_on(async {
        poll_once(kept.as_mut());
        tokio::time::sleep(Duration::from_millis(30)).await;
    });
    drop(ending);
    slow.stops.store(false, Ordering::SeqCst);
    other.block_on(async { requests(&sessions).await });
    block_on(kept).unwrap().unwrap();
    assert_eq!(block_on(requests(&sessions)), 3, "a thread without a runtime is served, too");
}

#[test]
fn a_thread_without_a_runtime_stores_a_large_checkpoint() {
    let checkpoints = CheckpointStore::new(Arc::new(memory()));
    let data = Json::from_serialize(&"x".repeat(1 << 20)).unwrap();
    block_on(checkpoints.store_checkpoint("thread", "1", data.clone(), Json::from(1))).unwrap();
    let found = block_on(checkpoints.get_checkpoint("thread", Some("1"))).unwrap().unwrap();
    assert_eq!(found.data, Some(data));
}
