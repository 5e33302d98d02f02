//! **Liveness**: a call that is polled once and kept, dropped, or whose runtime has ended or computes, blocks nobody.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt, poll};
use storage_core::{
    Batch, Commit, Entry, ErrorKind, Expected, Operation, Partition, PutMode, Query, Scan, StorageExt,
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Subject,
    sample::{Backend, numbered, value},
};

/// How long a call may take in a case: the deadline of every backend, and what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(8);
/// In each of these somebody must get on.
const WINDOW: Duration = Duration::from_millis(1000);
/// How long one may become on a busy machine: less than the deadline at which a call that is blocked would end.
const LONGEST_WINDOW: Duration = Duration::from_secs(4);

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call of each kind, in turn. None of them touches what the cases read back.
fn call(backend: &Backend, number: usize) -> Call {
    let backend = backend.clone();
    let key = format!("kept:{}", number % 50);
    Box::pin(async move {
        let one = numbered(number);
        match number % 17 {
            0 => drop(backend.get(&key).await),
            1 => drop(backend.set(&key, one, None).await),
            2 => drop(backend.delete(&key).await),
            3 => drop(backend.exists(&key).await),
            4 => drop(backend.keys("kept:*").await),
            5 => drop(backend.get_many(&[&key, "kept:x"]).await),
            6 => drop(backend.set_many(vec![Entry::new(key, one)]).await),
            7 => drop(backend.delete_many(&[&key]).await),
            8 => drop(backend.scan_page(&Scan::entries("kept:*").unwrap(), None, 10).await),
            9 => drop(backend.compare_and_set(&key, Expected::Absent, Some(one), None).await),
            10 => drop(backend.increment("kept:counter", 1, None).await),
            11 => drop(backend.apply(Batch::new().set(key, one, None)).await),
            12 => drop(backend.expire(&key, Duration::from_secs(60)).await),
            13 => drop(backend.cleanup().await),
            14 => drop(backend.health().await),
            15 => drop(backend.update("kept:updated", None, |_| Ok(storage_core::Change::Keep)).await),
            _ => partitions(&backend, number).await,
        }
    })
}

async fn partitions(backend: &Backend, number: usize) {
    let Some(collections) = backend.collections() else { return };
    let partition = Partition::new("conversation", &["kept"]).unwrap();
    let put = Operation::put("a", numbered(number), Vec::new(), PutMode::Upsert);
    match number % 3 {
        0 => drop(collections.commit(Commit::new(partition).with(put)).await),
        1 => drop(collections.query(Query::all(partition, 10)).await),
        _ => drop(collections.partitions_page("conversation", &[], None, 10).await),
    }
}

/// Polls each of many calls once, and keeps those that have not ended.
async fn keep(backend: &Backend, count: usize) -> Vec<Call> {
    let mut kept = Vec::new();
    for number in 0..count {
        let mut call = call(backend, number);
        if poll!(call.as_mut()).is_pending() {
            kept.push(call);
        }
    }
    kept
}

/// Tasks that read and write until they are told to stop, and how often they did.
struct Callers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Callers {
    fn start(backend: &Backend, count: usize) -> Self {
        let mut callers =
            Self { stop: Arc::default(), reads: Arc::default(), writes: Arc::default(), tasks: Vec::new() };
        for task in 0..count {
            let (backend, stop) = (backend.clone(), Arc::clone(&callers.stop));
            let (reads, writes) = (Arc::clone(&callers.reads), Arc::clone(&callers.writes));
            callers.tasks.push(tokio::spawn(async move {
                let key = format!("deal:{task}");
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    if task % 2 == 0 {
                        backend.get(&key).await.unwrap();
                        reads.fetch_add(1, Ordering::Relaxed);
                    } else {
                        backend.set(&key, numbered(task), None).await.unwrap();
                        writes.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(start.elapsed() < LIMIT, "a call ends by its deadline");
                }
            }));
        }
        callers
    }

    /// Fails where in one of some windows nobody read or nobody wrote.
    async fn get_on(&self, windows: u32) {
        for window in 0..windows {
            let start = Instant::now();
            let done = || [&self.reads, &self.writes].map(|count| count.load(Ordering::Relaxed));
            let before = done();
            tokio::time::sleep(WINDOW).await;
            loop {
                let after = done();
                if before[0] < after[0] && before[1] < after[1] {
                    break;
                }
                let [reads, writes] = [after[0] - before[0], after[1] - before[1]];
                assert!(
                    start.elapsed() < LONGEST_WINDOW,
                    "{reads} reads, {writes} writes in window {window}"
                );
                tokio::time::sleep(WINDOW / 20).await;
            }
        }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            tokio::time::timeout(LIMIT, task).await.expect("the callers end").unwrap();
        }
    }
}

async fn disconnects(backend: &Backend) {
    let start = Instant::now();
    backend.disconnect().await.unwrap();
    assert!(start.elapsed() < LIMIT, "disconnect took {:?}", start.elapsed());
}

/// Reads, writes and lists, and is told the truth.
async fn works(backend: &Backend, name: &str) {
    let key = format!("works:{name}");
    backend.set(&key, numbered(1), None).await.unwrap();
    assert_eq!(backend.get(&key).await.unwrap(), Some(numbered(1)));
    assert!(!backend.compare_and_set(&key, Expected::Absent, Some(numbered(2)), None).await.unwrap());
    assert_eq!(backend.get_many(&[&key]).await.unwrap().len(), 1);
    let found: Vec<_> = backend.scan(Scan::keys(&key).unwrap()).collect().await;
    assert_eq!(found.into_iter().map(|record| record.unwrap().key).collect::<Vec<_>>(), [&*key]);
    if let Some(collections) = backend.collections() {
        let partition = Partition::new("conversation", &["works", name]).unwrap();
        let put = Operation::put("a", numbered(1), Vec::new(), PutMode::Upsert);
        assert!(collections.commit(Commit::new(partition.clone()).with(put)).await.unwrap().version > 0);
        assert_eq!(collections.query(Query::all(partition, 10)).await.unwrap().items.len(), 1);
    }
}

/// Runs `work` on a thread that has no runtime.
async fn on_a_thread(work: impl FnOnce() + Send + 'static) {
    let ended = tokio::task::spawn_blocking(|| thread::spawn(work).join()).await.unwrap();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// 200 calls of every kind, each polled once and kept: 16 tasks read and write on, and `disconnect` ends in time.
pub async fn calls_that_are_polled_once_and_kept_block_nobody(subject: Subject) {
    let backend = subject.connected().await;
    let kept = keep(&backend, 200).await;
    let callers = Callers::start(&backend, 16);
    callers.get_on(3).await;
    let more = keep(&backend, 200).await;
    callers.get_on(1).await;
    callers.stop().await;
    disconnects(&backend).await;
    drop((kept, more));
    backend.connect().await.unwrap();
    works(&backend, "after").await;
}

/// The everyday form of it: a stream of reads, with a write in the loop's body.
pub async fn a_buffered_stream_of_reads_with_a_write_between_goes_on(subject: Subject) {
    let backend = subject.connected().await;
    let reads = futures::stream::iter(0..300).map(|number| {
        let backend = backend.clone();
        async move { backend.get(&format!("deal:{number}")).await }
    });
    let mut reads = Box::pin(reads.buffer_unordered(100));
    let work = async {
        while let Some(read) = reads.next().await {
            read.unwrap();
            backend.set("deal:loop", numbered(1), None).await.unwrap();
        }
    };
    tokio::time::timeout(4 * LIMIT, work).await.expect("the loop goes on");
}

/// A `disconnect` that its caller gives up goes on, and the next one waits for it.
pub async fn a_disconnect_that_is_given_up_goes_on(subject: Subject) {
    let backend = subject.connected().await;
    let kept = keep(&backend, 50).await;
    {
        let mut given_up = Box::pin(backend.disconnect());
        let _ = poll!(given_up.as_mut());
    }
    disconnects(&backend).await;
    assert_eq!(backend.get("deal:1").await.unwrap_err().kind(), ErrorKind::NotConnected);
    drop(kept);
    backend.connect().await.unwrap();
    works(&backend, "again").await;
}

/// Another runtime, one with a single thread, and a thread without any use the backend as well as the one that connected.
pub async fn callers_are_on_any_runtime_or_on_none(subject: Subject) {
    let backend = subject.connected().await;
    let other = backend.clone();
    on_a_thread(move || runtime().block_on(works(&other, "other"))).await;
    let other = backend.clone();
    on_a_thread(move || {
        let single = Builder::new_current_thread().enable_all().build().unwrap();
        single.block_on(works(&other, "single"));
    })
    .await;
    let other = backend.clone();
    on_a_thread(move || futures::executor::block_on(works(&other, "none"))).await;
    works(&backend, "here").await;
    // Connected and disconnected by a thread without a runtime.
    let other = backend.clone();
    on_a_thread(move || {
        futures::executor::block_on(async {
            other.disconnect().await.unwrap();
            other.connect().await.unwrap();
            works(&other, "reconnected").await;
        });
    })
    .await;
    works(&backend, "home").await;
}

/// The runtime that connected ends in the middle of its callers' work.
pub async fn a_runtime_that_ends_stops_no_other(subject: Subject) {
    let backend = subject.open();
    let own = runtime();
    let (there, handle) = (backend.clone(), own.handle().clone());
    on_a_thread(move || handle.block_on(there.connect()).unwrap()).await;
    for task in 0..16 {
        let backend = backend.clone();
        own.spawn(async move {
            loop {
                let _ = backend.set(&format!("gone:{task}"), numbered(task), None).await;
                let _ = backend.get(&format!("gone:{task}")).await;
            }
        });
    }
    let callers = Callers::start(&backend, 8);
    callers.get_on(1).await;
    own.shutdown_background();
    callers.get_on(2).await;
    callers.stop().await;
    works(&backend, "after").await;
    disconnects(&backend).await;
}

/// The runtime that connected computes for seconds, with calls of its own under way.
pub async fn a_runtime_that_computes_stops_no_other(subject: Subject) {
    let backend = subject.open();
    let own = runtime();
    let (there, handle) = (backend.clone(), own.handle().clone());
    on_a_thread(move || handle.block_on(there.connect()).unwrap()).await;
    // A busy machine may take seconds for the first connections.
    works(&backend, "before").await;
    let there = backend.clone();
    let computed = own.spawn(async move {
        let kept = keep(&there, 100).await;
        thread::sleep(3 * WINDOW);
        drop(kept);
        works(&there, "computed").await;
    });
    let callers = Callers::start(&backend, 8);
    callers.get_on(3).await;
    callers.stop().await;
    computed.await.unwrap();
    disconnects(&backend).await;
    own.shutdown_background();
}

/// Calls that are dropped after any number of polls: what writes several things has written all of them or none.
pub async fn a_call_that_is_dropped_at_any_await_is_whole_or_nothing(subject: Subject) {
    let backend = subject.connected().await;
    for polls in 0..12 {
        for number in 0..17 {
            polled(call(&backend, number), polls).await;
        }
        let [one, other] = ["one", "other"].map(|name| format!("dropped:{{t}}:{polls}:{name}"));
        let batch = Batch::new().set(&one, numbered(polls), None).set(&other, numbered(polls), None);
        let there = backend.clone();
        polled(Box::pin(async move { drop(there.apply(batch).await) }), polls).await;
        backend.set("deal:1", value(&serde_json::json!(polls)), None).await.unwrap();
        // What was under way when it was dropped ends by itself.
        let deadline = Instant::now() + LIMIT;
        while backend.exists(&one).await.unwrap() != backend.exists(&other).await.unwrap() {
            assert!(Instant::now() < deadline, "half a batch after {polls} polls");
        }
    }
    works(&backend, "after").await;
    disconnects(&backend).await;
}

async fn polled(mut call: Call, polls: usize) {
    for _ in 0..polls {
        if poll!(call.as_mut()).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
