//! Callers that go on through a failover, and what they were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use storage_core::{ErrorKind, StorageBackend, StorageExt};
use storage_redis::RedisBackend;
use tokio::task::JoinSet;

/// Callers that each count an entry of its own up, one call after the other.
pub(crate) struct Callers {
    backend: Arc<RedisBackend>,
    ended: Arc<AtomicBool>,
    tasks: JoinSet<Told>,
    health: JoinSet<()>,
}

/// What one caller was told.
struct Told {
    key: String,
    done: i64,
    unknown: i64,
    /// When each of its calls was answered well.
    times: Vec<Instant>,
}

impl Callers {
    pub(crate) fn start(backend: &Arc<RedisBackend>, count: usize, name: &str) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (backend, ended) = (Arc::clone(backend), Arc::clone(&ended));
            tasks.spawn(call(backend, format!("{name}:{number}"), ended));
        }
        let mut health = JoinSet::new();
        health.spawn(watch(Arc::clone(backend), Arc::clone(&ended), format!("{name}:health")));
        Self { backend: Arc::clone(backend), ended, tasks, health }
    }

    /// Ends them, and returns how long after `moved` the last of them was answered well for the first time. Where `keeps`, what
    /// they were told was done is there.
    pub(crate) async fn end(mut self, moved: Instant, keeps: bool) -> Duration {
        self.ended.store(true, Ordering::SeqCst);
        let mut longest = Duration::ZERO;
        while let Some(told) = self.tasks.join_next().await {
            let told = told.unwrap();
            let first = told.times.iter().find(|time| **time >= moved);
            longest = longest.max(first.expect("every caller is answered again").duration_since(moved));
            let stored: i64 = self.backend.get_as(&told.key).await.unwrap().unwrap_or_default();
            if keeps {
                let expected = told.done..=told.done + told.unknown;
                assert!(expected.contains(&stored), "{stored} of {} + {}", told.done, told.unknown);
            }
        }
        while let Some(watched) = self.health.join_next().await {
            watched.unwrap();
        }
        longest
    }
}

async fn call(backend: Arc<RedisBackend>, key: String, ended: Arc<AtomicBool>) -> Told {
    let mut told = Told { key, done: 0, unknown: 0, times: Vec::new() };
    while !ended.load(Ordering::SeqCst) {
        match backend.increment(&told.key, 1, None).await {
            Ok(_) => {
                told.done += 1;
                told.times.push(Instant::now());
            }
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => told.unknown += 1,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    told
}

/// Health does not say that writes work between two writes that fail.
async fn watch(backend: Arc<RedisBackend>, ended: Arc<AtomicBool>, key: String) {
    let quick = || tokio::time::timeout(Duration::from_millis(50), backend.increment(&key, 1, None));
    while !ended.load(Ordering::SeqCst) {
        let before = matches!(quick().await, Ok(Ok(_)));
        let health = backend.health().await;
        let after = matches!(quick().await, Ok(Ok(_)));
        if !before && !after {
            assert!(!health.stores[0].writes() || health.stores[0].latency > Duration::from_millis(50));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
