//! `update` where callers do not go on: futures that are kept, runtimes that compute or have ended.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use storage_core::{
    Capabilities, Change, ErrorKind, Expected, Json, MemoryBackend, MemoryConfig, Result, StorageBackend,
    StorageExt, engine::Deadline,
};
use tokio::runtime::{Builder, Runtime};

/// Far below the 5 s after which a caller would go on in any case.
const SOON: Duration = Duration::from_secs(3);

/// A memory backend that takes a while, as a network does.
#[derive(Debug)]
struct Slow {
    store: MemoryBackend,
    atomic: bool,
    /// How often `compare_and_set` still answers that somebody else was there.
    conflicts: AtomicU32,
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
        let found = self.store.get(key).await?;
        tokio::task::yield_now().await;
        Ok(found)
    }

    async fn set(&self, key: &str, value: Json, ttl: Option<Duration>) -> Result<()> {
        tokio::task::yield_now().await;
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
        if self.atomic { self.store.capabilities() } else { Capabilities::BASIC }
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Expected,
        new: Option<Json>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        if self.conflicts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            return Ok(false);
        }
        tokio::task::yield_now().await;
        self.store.compare_and_set(key, expected, new, ttl).await
    }
}

async fn slow(atomic: bool) -> Arc<Slow> {
    let store = MemoryBackend::with_config(MemoryConfig { sweep: None, ..MemoryConfig::default() });
    let storage = Slow { store, atomic, conflicts: AtomicU32::new(0) };
    storage.connect().await.unwrap();
    Arc::new(storage)
}

fn one_more(found: Option<&Json>) -> Result<Change> {
    let sum = found.map_or(Ok(0), Json::decode::<i64>)? + 1;
    Ok(Change::Set(Json::from(sum)))
}

/// Adds one, by whichever way the backend has.
async fn add(storage: &Slow, key: &str) -> Result<Option<Json>> {
    match storage.atomic {
        true => storage.update(key, None, one_more).await,
        false => storage.update_unguarded(key, None, one_more).await,
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn updates_that_are_polled_once_and_kept_block_nobody() {
    for atomic in [true, false] {
        let storage = slow(atomic).await;
        let mut kept = Box::pin(add(&storage, "kept"));
        poll_once(kept.as_mut());
        for n in 1..=3 {
            let added = Deadline::after(SOON).within(add(&storage, "kept")).await;
            assert_eq!(added.unwrap().unwrap(), Some(Json::from(n)), "atomic: {atomic}");
        }
        assert_eq!(kept.await.unwrap(), Some(Json::from(4)), "it loses nothing and writes over nothing");
    }
}

#[tokio::test]
async fn hundreds_of_kept_updates_block_nobody() {
    let storage = slow(true).await;
    let mut kept: Vec<_> = (0..300).map(|_| Box::pin(add(&storage, "hundreds"))).collect();
    kept.iter_mut().for_each(|call| poll_once(call.as_mut()));
    let added = Deadline::after(SOON).within(add(&storage, "hundreds")).await;
    assert_eq!(added.unwrap().unwrap(), Some(Json::from(1)));
    for call in kept {
        call.await.unwrap();
    }
    assert_eq!(storage.get("hundreds").await.unwrap(), Some(Json::from(301)));
}

/// Kept ones between live ones: each would else cost those behind it a wait of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_updates_among_live_ones_hold_none_of_them_up() {
    let storage = slow(true).await;
    let (mut kept, mut live) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        for calls in [&mut kept, &mut live] {
            let storage = Arc::clone(&storage);
            let mut call = Box::pin(async move { add(&storage, "alternating").await });
            poll_once(call.as_mut());
            calls.push(call);
        }
    }
    let live = futures::future::join_all(live);
    let ended = Deadline::after(SOON).within(live).await.expect("the live ones get through");
    assert!(ended.into_iter().all(|updated| updated.is_ok()));
    drop(kept);
    assert_eq!(storage.store.get("alternating").await.unwrap(), Some(Json::from(100)));
}

#[test]
fn an_update_of_a_runtime_that_is_not_driven_any_more_blocks_nobody() {
    let (still, other) = (current_thread(), current_thread());
    let storage = still.block_on(slow(true));
    let mut kept = Box::pin(add(&storage, "still"));
    // What would wake it is not driven either: it seems to wait for the store.
    still.block_on(async { poll_once(kept.as_mut()) });
    let added = other.block_on(Deadline::after(SOON).within(add(&storage, "still")));
    assert_eq!(added.unwrap().unwrap(), Some(Json::from(1)));
    drop(still);
    assert_eq!(other.block_on(kept).unwrap(), Some(Json::from(2)));
}

#[test]
fn a_closure_that_computes_stalls_no_other_runtime_where_there_is_compare_and_set() {
    let storage = futures::executor::block_on(slow(true));
    let (started, has_started) = mpsc::channel();
    let computing = thread::spawn({
        let storage = Arc::clone(&storage);
        move || {
            let mut first = true;
            current_thread().block_on(storage.update("computes", None, |found| {
                if std::mem::take(&mut first) {
                    started.send(()).unwrap();
                    thread::sleep(SOON);
                }
                one_more(found)
            }))
        }
    });
    has_started.recv().unwrap();
    for n in 1..=5 {
        let added = current_thread().block_on(Deadline::after(SOON / 2).within(add(&storage, "computes")));
        assert_eq!(added.unwrap().unwrap(), Some(Json::from(n)));
    }
    assert_eq!(computing.join().unwrap().unwrap(), Some(Json::from(6)));
}

#[tokio::test]
async fn a_kept_update_that_has_begun_to_write_says_that_its_outcome_is_unknown() {
    let storage = slow(false).await;
    let mut kept = Box::pin(add(&storage, "writing"));
    // It reads; the second poll begins to write.
    (0..2).for_each(|_| poll_once(kept.as_mut()));
    let added = Deadline::after(SOON).within(add(&storage, "writing")).await;
    assert_eq!(added.unwrap().unwrap(), Some(Json::from(1)));
    assert_eq!(kept.await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(storage.get("writing").await.unwrap(), Some(Json::from(1)), "and it writes no more");
}

#[tokio::test]
async fn an_update_waits_for_one_that_gets_no_answer_until_its_deadline() {
    #[derive(Debug)]
    struct Silent(Arc<Slow>);

    #[async_trait]
    impl StorageBackend for Silent {
        async fn connect(&self) -> Result<()> {
            Ok(())
        }
        async fn disconnect(&self) -> Result<()> {
            Ok(())
        }
        async fn get(&self, _: &str) -> Result<Option<Json>> {
            std::future::pending().await
        }
        async fn set(&self, _: &str, _: Json, _: Option<Duration>) -> Result<()> {
            Ok(())
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

    let storage = slow(false).await;
    let silent = Silent(Arc::clone(&storage));
    let waits = silent.update_unguarded("silent", None, one_more);
    let other = async {
        tokio::task::yield_now().await;
        Deadline::after(Duration::from_secs(9)).within(add(&storage, "silent")).await
    };
    let (silenced, other) = futures::join!(waits, other);
    assert_eq!(silenced.unwrap_err().kind(), ErrorKind::Timeout);
    match other.unwrap() {
        Ok(added) => assert_eq!(added, Some(Json::from(1))),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout),
    }
}

#[test]
fn a_thread_without_a_runtime_updates_in_spite_of_conflicts() {
    let storage = futures::executor::block_on(slow(true));
    storage.conflicts.store(8, Ordering::SeqCst);
    let added = futures::executor::block_on(add(&storage, "conflicts"));
    assert_eq!(added.unwrap(), Some(Json::from(1)));
}

#[tokio::test]
async fn without_compare_and_set_an_update_is_unsupported_unless_asked_for() {
    let storage = slow(false).await;
    let refused = storage.update("k", None, |_| panic!("nothing is read")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::Unsupported, Some("k")));
    assert!(refused.to_string().contains("update_unguarded"), "{refused}");
    assert_eq!(add(&storage, "k").await.unwrap(), Some(Json::from(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unguarded_updates_of_one_process_lose_none() {
    let storage = slow(false).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                for _ in 0..20 {
                    add(&storage, "crowd").await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(storage.get("crowd").await.unwrap(), Some(Json::from(64 * 20)));
    let mut dropped = pin!(add(&storage, "crowd"));
    poll_once(dropped.as_mut());
}
