//! The storage of the process, whose callers give up, keep their futures, and end their runtimes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use futures::executor::block_on;
use storage_core::{ErrorKind, Json, MemoryBackend, MemoryConfig, Result, StorageBackend, engine::Deadline};
use storage_factory::{Settings, close_storage, get_storage, register_backend};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

const SOON: Duration = Duration::from_secs(3);

/// What opening and closing a gated backend wait for.
static OPEN: Semaphore = Semaphore::const_new(0);
static CLOSE: Semaphore = Semaphore::const_new(0);
static OPENED: AtomicUsize = AtomicUsize::new(0);
static CLOSED: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Gated(MemoryBackend);

#[async_trait]
impl StorageBackend for Gated {
    async fn connect(&self) -> Result<()> {
        OPEN.acquire().await.unwrap().forget();
        OPENED.fetch_add(1, Ordering::SeqCst);
        self.0.connect().await
    }
    async fn disconnect(&self) -> Result<()> {
        CLOSE.acquire().await.unwrap().forget();
        CLOSED.fetch_add(1, Ordering::SeqCst);
        self.0.disconnect().await
    }
    async fn get(&self, key: &str) -> Result<Option<Json>> {
        self.0.get(key).await
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

/// One test at a time has the storage of the process, set up by a `.env` file.
fn alone(settings: &str) -> MutexGuard<'static, TempDir> {
    static FOLDER: LazyLock<Mutex<TempDir>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        std::env::set_current_dir(folder.path()).unwrap();
        register_backend("gated", &[], |_| {
            let config = MemoryConfig { sweep: None, ..MemoryConfig::default() };
            Ok(Arc::new(Gated(MemoryBackend::with_config(config))))
        })
        .unwrap();
        Mutex::new(folder)
    });
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    std::fs::write(folder.path().join(".env"), settings).unwrap();
    folder
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn poll_once<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

async fn soon<T>(work: impl Future<Output = Result<T>>) -> T {
    Deadline::after(SOON).within(work).await.unwrap().unwrap()
}

fn counts() -> (usize, usize) {
    (OPENED.load(Ordering::SeqCst), CLOSED.load(Ordering::SeqCst))
}

#[test]
fn calls_that_are_kept_or_given_up_block_nobody_and_what_they_began_goes_on() {
    let _alone = alone("STORAGE_TYPE=gated\n");
    let before = counts();
    let (ending, other) = (current_thread(), current_thread());
    // Opening begins on a runtime that ends, by a caller that keeps its future.
    let mut kept = Box::pin(get_storage());
    ending.block_on(async { poll_once(kept.as_mut()) });
    drop(ending);
    OPEN.add_permits(1);
    let storage = other.block_on(soon(get_storage()));
    assert!(Arc::ptr_eq(&storage, &block_on(soon(kept))), "the same one for all");
    assert_eq!(counts(), (before.0 + 1, before.1));

    // Closing begins, and its caller gives up.
    let mut given_up = Box::pin(close_storage());
    poll_once(given_up.as_mut());
    drop(given_up);
    let mut second = Box::pin(close_storage());
    poll_once(second.as_mut());
    let mut next = Box::pin(get_storage());
    poll_once(next.as_mut());
    CLOSE.add_permits(1);
    other.block_on(soon(second));
    assert_eq!(counts(), (before.0 + 1, before.1 + 1), "closed once, and nothing is opened beside it");
    OPEN.add_permits(1);
    let reopened = block_on(soon(next));
    assert!(!Arc::ptr_eq(&storage, &reopened));
    assert_eq!(counts(), (before.0 + 2, before.1 + 1));
    CLOSE.add_permits(1);
    block_on(soon(close_storage()));
    block_on(soon(close_storage()));
    assert_eq!(counts(), (before.0 + 2, before.1 + 2));
}

#[test]
fn opening_and_closing_end_by_the_deadline_and_go_on() {
    let _alone = alone("STORAGE_TYPE=gated\nSTORAGE_OPERATION_TIMEOUT=50ms\n");
    let before = counts();
    for _ in 0..2 {
        let late = block_on(Deadline::after(SOON).within(get_storage())).unwrap();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    }
    OPEN.add_permits(1);
    block_on(soon(get_storage()));
    for _ in 0..2 {
        let late = block_on(Deadline::after(SOON).within(close_storage())).unwrap();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    }
    CLOSE.add_permits(1);
    block_on(soon(close_storage()));
    assert_eq!(counts(), (before.0 + 1, before.1 + 1));
}

#[test]
fn the_storage_outlives_the_runtime_that_opened_it() {
    let _alone = alone("DATABASE_URL=sqlite:///./outlives.db\nSTORAGE_SWEEP_INTERVAL=50ms\n");
    let opening = current_thread();
    let storage = opening.block_on(soon(get_storage()));
    drop(opening);
    let brief = Some(Duration::from_millis(1));
    for n in 0..10 {
        block_on(soon(storage.set(&format!("without:{n}"), Json::from(n), brief)));
    }
    let rows = || block_on(soon(storage.stats())).entries;
    for _ in 0..200 {
        if rows() == Some(0) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(rows(), Some(0), "the sweep goes on");
    let other = current_thread();
    other.block_on(async {
        let shared = soon(get_storage()).await;
        assert!(Arc::ptr_eq(&storage, &shared));
        soon(shared.set("other:1", Json::from(1), None)).await;
        assert_eq!(soon(shared.get("other:1")).await, Some(Json::from(1)));
        soon(close_storage()).await;
    });
}

#[test]
fn a_library_reads_a_dot_env_file_only_when_it_is_asked_to() {
    let _alone = alone("REDIS_NAMESPACE=from-the-file:\n");
    let settings = Settings::from_environment().unwrap();
    assert_eq!(settings.get("REDIS_NAMESPACE"), None);
    let explicit = settings.clone().with("REDIS_NAMESPACE", "explicit:").unwrap().with_dot_env().unwrap();
    assert_eq!(explicit.get("REDIS_NAMESPACE"), Some("explicit:"));
    assert_eq!(settings.with_dot_env().unwrap().get("REDIS_NAMESPACE"), Some("from-the-file:"));
}
