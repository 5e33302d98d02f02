//! Steps, prunings, copies and deletions at once, with some of them killed, in thousands of seeded schedules over the memory
//! store: every checkpoint that is listed reads, what was acknowledged and not removed is there, and nothing is left over.
//!
//! `STORAGE_TEST_SIMULATED_SCHEDULES=100000 cargo test --release -p storage-agent --lib simulated` runs more of them; a failure
//! names its seed, and how to repeat it alone.

mod stepped;

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock, Mutex, atomic::Ordering},
};

use futures::{FutureExt, executor::block_on, future::BoxFuture};
use storage_core::{ErrorKind, Json, MemoryBackend, MemoryConfig, Query, StorageBackend};

use super::{
    ChannelValue, Checkpoint, CheckpointConfig, CheckpointHeader, CheckpointKey, CheckpointerBackend,
    ListCheckpoints, NewCheckpoint, Payload, PruneStrategy, Retention, TaskWrites, Version, layout,
};
use stepped::{Stepped, run};

/// The second of each fits no key.
static THREADS: LazyLock<[&str; 2]> = LazyLock::new(|| ["one", "two".repeat(700).leak()]);
static NAMESPACES: LazyLock<[&str; 2]> = LazyLock::new(|| ["", "sub:1|".repeat(300).leak()]);
/// So few that a pruning takes several commits.
const MOST: usize = 12;

/// What the tasks of a schedule know of each other.
#[derive(Default)]
struct Known {
    /// The next id.
    next: u64,
    /// What each checkpoint says, by thread, namespace and id; also of such as were never acknowledged.
    written: BTreeMap<(String, String, String), Vec<u8>>,
    /// The metadata that each id may have.
    metadata: BTreeMap<String, Vec<Json>>,
    /// The greatest id that was acknowledged, by thread and namespace; a deletion forgets them.
    latest: BTreeMap<(String, String), String>,
    /// Threads that something may have been deleted of besides what is out of date.
    deleted: Vec<String>,
}

impl Known {
    fn has(&self, header: &CheckpointHeader) -> bool {
        self.metadata.get(&header.key.checkpoint_id).is_some_and(|known| known.contains(&header.metadata))
    }
}

struct World {
    checkpointer: CheckpointerBackend,
    store: Arc<Stepped>,
    known: Mutex<Known>,
    /// How large the values are: lists of chunks take several levels of nodes where it is not 1.
    scale: usize,
    /// What every value begins with.
    noise: Vec<u8>,
}

impl World {
    fn new(scale: usize, random: &mut fastrand::Rng) -> Self {
        let noise = std::iter::repeat_with(|| random.u8(..)).take(60_000 * scale).collect();
        let memory = MemoryBackend::with_config(MemoryConfig { sweep: None, ..MemoryConfig::default() });
        block_on(memory.connect()).unwrap();
        let store = Arc::new(Stepped::new(memory));
        let config =
            CheckpointConfig { zstd_level: None, cache_bytes: 512 * 1024, ..CheckpointConfig::default() };
        let mut checkpointer = CheckpointerBackend::with_config(store.clone(), config);
        checkpointer.most = MOST;
        Self { checkpointer, store, known: Mutex::default(), scale, noise }
    }

    /// One step on top of the latest: its value is that of the latest, changed at its end or cut.
    async fn step(&self, thread: &str, ns: &str, mut random: fastrand::Rng) {
        let latest = self.read(thread, ns).await;
        let parent = latest.as_ref().map(|latest| latest.header.key.checkpoint_id.clone());
        let value = latest.as_ref().and_then(|latest| latest.channel_values.get("messages"));
        let length = value.and_then(|value| value.bytes.as_ref()).map_or(0, |bytes| bytes.len());
        let length = if random.u8(..4) == 0 { random.usize(..=length) } else { length };
        let length = (length + random.usize(1..9_000) * self.scale).min(self.noise.len());
        // What was removed comes again, with another end: its pieces are the same.
        let mut bytes = self.noise[..length].to_vec();
        bytes.extend(random.u64(..).to_be_bytes());
        let id = {
            let mut known = self.known.lock().unwrap();
            known.next += 1;
            let id = format!("{:08}", known.next);
            known.written.insert((thread.to_owned(), ns.to_owned(), id.clone()), bytes.clone());
            id
        };
        let run = random.u8(..3);
        let mut new = large(&id, parent.as_deref(), &run.to_string(), &bytes);
        new.metadata = self.metadata(&id, run, &mut random);
        (new.key.thread_id, new.key.checkpoint_ns) = (thread.to_owned(), ns.to_owned());
        let writes = TaskWrites {
            checkpoint_id: id.clone(),
            task_id: "task".to_owned(),
            task_path: String::new(),
            writes: vec![("messages".to_owned(), Payload::new("bytes", vec![2; random.usize(..3_000)]))],
        };
        let writes = if random.bool() { vec![writes] } else { Vec::new() };
        match self.checkpointer.advance(&new, &writes).await {
            Ok(()) => {
                let mut known = self.known.lock().unwrap();
                known.latest.insert((thread.to_owned(), ns.to_owned()), id);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
    }

    /// Puts the latest again, with the value that it has and other metadata.
    async fn again(&self, thread: &str, ns: &str, mut random: fastrand::Rng) {
        let Some(latest) = self.read(thread, ns).await else { return };
        let id = &latest.header.key.checkpoint_id;
        let value = latest.channel_values["messages"].bytes.as_deref().unwrap();
        let mut new = large(id, latest.header.parent_id.as_deref(), "", value);
        (new.key.thread_id, new.key.checkpoint_ns) = (thread.to_owned(), ns.to_owned());
        new.metadata = self.metadata(id, random.u8(..3), &mut random);
        if let Err(error) = self.checkpointer.put(&new).await {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        }
    }

    /// Metadata, half of the time large: what is large of it is one of four texts.
    fn metadata(&self, id: &str, run: u8, random: &mut fastrand::Rng) -> Json {
        let letter = |byte: &u8| char::from(b'a' + byte % 26);
        let (from, length) = (random.usize(..4) * 100, if random.bool() { 20_000 } else { 20 });
        let prompt: String = self.noise[from..][..length].iter().map(letter).collect();
        let metadata =
            Json::parse(format!(r#"{{"prompt":"{prompt}","id":"{id}","run_id":"{run}"}}"#)).unwrap();
        let mut known = self.known.lock().unwrap();
        known.metadata.entry(id.to_owned()).or_default().push(metadata.clone());
        metadata
    }

    /// The latest of a namespace, which is what was written.
    async fn read(&self, thread: &str, ns: &str) -> Option<Checkpoint> {
        let latest = self.checkpointer.get(thread, ns, None).await;
        match latest {
            Ok(latest) => latest.inspect(|latest| self.check(thread, latest)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
                None
            }
        }
    }

    /// Whatever is listed meanwhile has its metadata.
    async fn look(&self, thread: &str, ns: &str) {
        self.read(thread, ns).await;
        let of_thread = ListCheckpoints { thread_id: Some(thread.to_owned()), ..ListCheckpoints::default() };
        for header in self.checkpointer.list(&of_thread).await.unwrap() {
            let known = self.known.lock().unwrap();
            assert!(known.has(&header), "the metadata of {:?}", header.key);
        }
    }

    fn check(&self, source: &str, checkpoint: &Checkpoint) {
        let key = &checkpoint.header.key;
        let known = self.known.lock().unwrap();
        let written =
            known.written.get(&(source.to_owned(), key.checkpoint_ns.clone(), key.checkpoint_id.clone()));
        let value = checkpoint.channel_values.get("messages").and_then(|value| value.bytes.as_deref());
        assert!(value == written.map(Vec::as_slice), "{key:?} is not what was written");
        assert!(known.has(&checkpoint.header), "the metadata of {key:?}");
    }

    async fn remove(&self, thread: &str, mut random: fastrand::Rng) {
        let checkpointer = &self.checkpointer;
        let keep = Retention { keep_last: Some(random.usize(1..3)), ..Retention::default() };
        let removed = match random.u8(..8) {
            0 => {
                let run = random.u8(..3).to_string();
                self.known.lock().unwrap().deleted.extend(THREADS.map(str::to_owned));
                checkpointer.delete_for_runs(&[&run]).await.map(drop)
            }
            1 => {
                self.known.lock().unwrap().deleted.push(thread.to_owned());
                checkpointer.delete_thread(thread).await.map(drop)
            }
            2 => {
                self.known.lock().unwrap().deleted.push(thread.to_owned());
                checkpointer.prune(&[thread], PruneStrategy::Delete).await.map(drop)
            }
            3 => checkpointer.prune(&[thread], PruneStrategy::KeepLatest).await.map(drop),
            _ => checkpointer.retain(thread, &keep, false).await.map(drop),
        };
        if let Err(error) = removed {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        }
    }

    async fn copy(&self, thread: &str) {
        let target = format!("{thread}'");
        match self.checkpointer.copy_thread(thread, &target).await {
            Ok(true) => self.whole(&target, thread).await,
            // Another copy may come meanwhile.
            Ok(false) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
    }

    /// Every checkpoint that is listed reads, and says what was written to `source`.
    async fn whole(&self, thread: &str, source: &str) {
        let of_thread = ListCheckpoints { thread_id: Some(thread.to_owned()), ..ListCheckpoints::default() };
        let listed = self.checkpointer.list(&of_thread).await.unwrap();
        let info = self.checkpointer.thread(thread).await.unwrap();
        assert_eq!(info.map_or(0, |info| info.checkpoints), listed.len() as u64, "{thread}");
        for header in listed {
            let key = &header.key;
            let read = self.checkpointer.get(thread, &key.checkpoint_ns, Some(&key.checkpoint_id)).await;
            let read = read.unwrap().unwrap();
            self.check(source, &read);
            assert!(read.header == header, "{key:?} is listed as it is read");
        }
    }

    /// What holds once everything has ended.
    async fn settled(&self) {
        for thread in *THREADS {
            for copy in [thread.to_owned(), format!("{thread}'")] {
                self.whole(&copy, thread).await;
            }
            for ns in *NAMESPACES {
                let (latest, deleted) = {
                    let known = self.known.lock().unwrap();
                    let latest = known.latest.get(&(thread.to_owned(), ns.to_owned())).cloned();
                    (latest, known.deleted.iter().any(|deleted| deleted == thread))
                };
                let found = self.read(thread, ns).await.map(|found| found.header.key.checkpoint_id);
                assert!(deleted || found >= latest, "{thread} {ns}: {found:?} of {latest:?}");
            }
            let everything = Retention::default();
            self.checkpointer.retain(thread, &everything, false).await.unwrap();
            let left = self.checkpointer.retain(thread, &everything, true).await.unwrap();
            assert_eq!(left.bytes, 0, "{thread}");
            self.whole(thread, thread).await;
            let partition = layout::thread(thread).unwrap();
            let all = Query::all(partition, 10_000);
            let items = self.store.collections().unwrap().query(all).await.unwrap().items;
            let there: HashSet<&str> = items.iter().map(|item| item.sort.as_str()).collect();
            // Which of a checkpoint's items are there without it, or other than it says?
            let metadata: HashSet<String> = items
                .iter()
                .filter(|item| item.sort.starts_with("c:") && item.attributes.as_str().contains(r#""x":"#))
                .map(|item| layout::metadata_of(&item.sort))
                .collect();
            assert!(there.iter().filter(|sort| sort.starts_with("n:")).all(|sort| metadata.contains(*sort)));
        }
    }
}

fn schedule(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    fastrand::seed(seed);
    let world = World::new(if random.u8(..8) == 0 { 8 } else { 1 }, &mut random);
    for _ in 0..random.usize(1..4) {
        let mut tasks = Vec::new();
        for _ in 0..random.usize(2..7) {
            let (thread, ns) = (THREADS[random.usize(..2)], NAMESPACES[random.usize(..2)]);
            let mut of_task = random.fork();
            let world = &world;
            let task = match random.u8(..11) {
                0 => world.again(thread, ns, of_task).boxed(),
                1..=4 => async move {
                    for _ in 0..of_task.usize(1..5) {
                        world.step(thread, ns, of_task.fork()).await;
                    }
                }
                .boxed(),
                5..=7 => world.remove(thread, of_task).boxed(),
                8 => world.copy(thread).boxed(),
                _ => world.look(thread, ns).boxed(),
            };
            tasks.push(task);
        }
        let killed = random.bool().then_some(30);
        run(&mut random, tasks, killed);
    }
    run(&mut random, vec![world.settled().boxed()], None);
}

#[test]
fn whatever_the_schedule_what_is_listed_reads_and_nothing_is_left_over() {
    let seeds = match storage_tests::simulated_seed() {
        Some(seed) => seed..seed + 1,
        None => 0..storage_tests::simulated_schedules(300) as u64,
    };
    for seed in seeds {
        let ended = std::panic::catch_unwind(|| schedule(seed));
        assert!(ended.is_ok(), "seed {seed}: STORAGE_TEST_SIMULATED_SEED={seed} repeats it");
    }
}

/// Polls until `holds`, or the work has ended.
fn poll_until(work: &mut BoxFuture<'_, ()>, holds: impl Fn() -> bool) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while !holds() && work.as_mut().poll(&mut context).is_pending() {}
}

fn large(id: &str, parent: Option<&str>, run: &str, value: &[u8]) -> NewCheckpoint {
    NewCheckpoint {
        key: CheckpointKey::new("t", "", id),
        parent_id: parent.map(str::to_owned),
        checkpoint: Payload::new("bytes", vec![1; 10]),
        metadata: Json::parse(format!(r#"{{"run_id":"{run}"}}"#)).unwrap(),
        channel_versions: [("messages".to_owned(), Version::Text(id.to_owned()))].into(),
        new_values: vec![ChannelValue {
            channel: "messages".to_owned(),
            version: Version::Text(id.to_owned()),
            value: Some(Payload::new("bytes", value.to_vec())),
        }],
    }
}

/// A step whose value has the pieces of one that a pruning is removing: it read that they are there, and commits when the
/// first of them are gone.
#[test]
fn a_step_never_counts_on_what_a_pruning_is_removing() {
    for seed in 0..60 {
        let world = World::new(8, &mut fastrand::Rng::with_seed(seed));
        let (checkpointer, value) = (&world.checkpointer, &world.noise[..90_000]);
        let mut goes = large("2", Some("1"), "goes", value);
        // So many values that the pruning removes pieces some commits after the checkpoint.
        goes.new_values.extend((0..30).map(|number| ChannelValue {
            channel: number.to_string(),
            version: Version::Int(1),
            value: Some(Payload::new("bytes", vec![3; 10])),
        }));
        block_on(checkpointer.advance(&large("1", None, "stays", b"small"), &[])).unwrap();
        block_on(checkpointer.advance(&goes, &[])).unwrap();
        let commits = || world.store.commits.load(Ordering::SeqCst);
        let before = commits();
        let mut pruning = async { drop(checkpointer.delete_for_runs(&["goes"]).await.unwrap()) }.boxed();
        poll_until(&mut pruning, || commits() > before);
        let new = large("3", Some("1"), "stays", value);
        let mut step = async { checkpointer.advance(&new, &[]).await.unwrap() }.boxed();
        let polls = Cell::new(0);
        poll_until(&mut step, || polls.replace(polls.get() + 1) == 3);
        poll_until(&mut pruning, || commits() > before + 3);
        block_on(step);
        let latest = block_on(checkpointer.get("t", "", None)).unwrap().unwrap();
        assert!(latest.channel_values["messages"].bytes.as_deref() == Some(value), "seed {seed}");
        block_on(pruning);
        assert_eq!(block_on(checkpointer.get("t", "", None)).unwrap(), Some(latest));
        let everything = Retention::default();
        assert_eq!(block_on(checkpointer.retain("t", &everything, true)).unwrap().bytes, 0);
    }
}
