//! A process that steps, prunes, copies and deletes threads, all at once, until it is killed, again and again: what it acknowledged
//! is there, all that is listed reads, and nothing is left over.
//!
//! `STORAGE_TEST_KILLS=500 cargo test --release -p storage-tests --test it churn` kills it more often.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Write, stdout},
    path::Path,
    thread,
    time::Duration,
};

use futures::future::join_all;
use storage_agent::checkpoints::{
    Checkpoint, CheckpointerBackend, ListCheckpoints, Payload, PruneStrategy, Retention, ThreadInfo,
};
use storage_core::{ErrorKind, Result};
use storage_tests::{Postgres, PostgresOptions, kills};

use super::{
    killed::{Pairs, said, start},
    steps::{connected, step},
};
use crate::stores::{Backend, build};

const THREADS: usize = 4;
/// After so many steps a thread is deleted.
const STEPS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is the process that the tests beside it kill"]
async fn process() {
    let checkpointer = CheckpointerBackend::new(connected().await);
    let threads = || (0..THREADS).map(|thread| format!("churn-{thread}"));
    let stepping = join_all(threads().map(|thread| advance(&checkpointer, thread)));
    let removing = join_all(threads().map(|thread| remove(&checkpointer, thread)));
    tokio::join!(stepping, removing);
}

/// One write, so that lines do not mix. False where nobody reads on, since the test has ended.
fn say(what: &str) -> bool {
    stdout().write_all(format!("done {what}\n").as_bytes()).is_ok()
}

async fn advance(checkpointer: &CheckpointerBackend, thread: String) {
    let latest = checkpointer.get(&thread, "", None).await.unwrap();
    let mut last = latest.map(|latest| latest.header.key.checkpoint_id);
    loop {
        let number = last.as_deref().map_or(0, |last| last.parse::<usize>().unwrap() + 1);
        if number == STEPS {
            say(&format!("deleting {thread}"));
            assert!(checkpointer.delete_thread(&thread).await.unwrap());
            say(&format!("deleted {thread}"));
            last = None;
            continue;
        }
        let (new, writes) = step(&thread, number, last.clone());
        match checkpointer.advance(&new, &[writes]).await {
            Ok(()) if !say(&format!("step {thread} {}", new.key.checkpoint_id)) => return,
            Ok(()) => last = Some(new.key.checkpoint_id),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
    }
}

/// Prunes a thread beside its steps, and copies it over a copy of before.
async fn remove(checkpointer: &CheckpointerBackend, thread: String) {
    let copy = format!("{thread}-copy");
    let done = |result: Result<()>, what: &str| match result {
        Ok(()) => say(what),
        Err(error) => error.kind() == ErrorKind::Conflict,
    };
    for round in 1.. {
        let keep = Retention { keep_last: Some(round % 5 + 1), ..Retention::default() };
        let retained = checkpointer.retain(&thread, &keep, false).await.map(drop);
        let copied = checkpointer.copy_thread(&thread, &copy).await.map(drop);
        let pruned = checkpointer.prune(&[&copy], PruneStrategy::KeepLatest).await.map(drop);
        let deleted = checkpointer.delete_thread(&copy).await.map(drop);
        let all = [(retained, "retained"), (copied, "copied"), (pruned, "pruned"), (deleted, "copy deleted")];
        if !all.into_iter().all(|(result, what)| done(result, what)) {
            return;
        }
    }
}

/// What was acknowledged in all runs so far.
#[derive(Debug, Default)]
struct Acknowledged {
    /// The last step of each thread, but for those that may have been deleted since.
    steps: BTreeMap<String, String>,
    total: usize,
    kinds: BTreeSet<String>,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        self.kinds.insert(words[0].to_owned());
        match words.as_slice() {
            ["step", thread, id] => {
                self.steps.insert((*thread).to_owned(), (*id).to_owned());
                self.total += 1;
            }
            ["deleting", thread] => drop(self.steps.remove(*thread)),
            _ => {}
        }
    }
}

fn run_and_kill(pairs: &Pairs, kill: usize, acknowledged: &mut Acknowledged) {
    let mut child = start("checkpoints::churn::process", pairs);
    let mut lines = said(&mut child);
    // For a while that depends on how fast the machine is, and a while longer that does not.
    let first: Vec<_> = lines.by_ref().take(kill * 7 % 41 + 1).collect();
    let reading = thread::spawn(move || first.into_iter().chain(lines).collect::<Vec<_>>());
    thread::sleep(Duration::from_micros(kill as u64 * 7_919 % 60_000));
    assert!(child.try_wait().unwrap().is_none(), "the process goes on until it is killed");
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap().iter().for_each(|line| acknowledged.hear(line));
}

/// A checkpoint is there as a whole: its value, and both its writes.
fn assert_whole(checkpoint: &Checkpoint) {
    let id = &checkpoint.header.key.checkpoint_id;
    let (expected, writes) = step("", id.parse().unwrap(), None);
    let value = expected.new_values.into_iter().next().unwrap().value.unwrap();
    assert_eq!(checkpoint.channel_values["messages"], value, "{id}");
    let written: Vec<&Payload> = checkpoint.pending_writes.iter().map(|write| &write.value).collect();
    let expected: Vec<&Payload> = writes.writes.iter().rev().map(|(_, value)| value).collect();
    assert_eq!(written, expected, "{id}");
}

/// After each kill: what is listed reads, and what was acknowledged last is there, or a later one is.
async fn assert_readable(checkpointer: &CheckpointerBackend, acknowledged: &Acknowledged) {
    for ThreadInfo { thread_id, .. } in checkpointer.threads(1_000).await.unwrap() {
        // A server may still be doing what the process that was killed had asked for.
        loop {
            let before = checkpointer.thread(&thread_id).await.unwrap();
            let of_thread =
                ListCheckpoints { thread_id: Some(thread_id.clone()), ..ListCheckpoints::default() };
            let whole = checkpointer.list_whole(&of_thread).await.unwrap();
            whole.iter().for_each(assert_whole);
            if checkpointer.thread(&thread_id).await.unwrap() == before {
                assert_eq!(before.map_or(0, |thread| thread.checkpoints), whole.len() as u64, "{thread_id}");
                break;
            }
        }
    }
    for (thread, last) in &acknowledged.steps {
        let latest = checkpointer.get(thread, "", None).await.unwrap();
        let latest = latest.map(|latest| latest.header.key.checkpoint_id);
        assert!(latest.as_ref() >= Some(last), "acknowledged and missing: {thread} {last}, {latest:?}");
    }
}

/// A pruning that removes no checkpoint removes what nothing needs; then nothing is left over. What a copy that died has brought
/// has an end.
async fn assert_swept(storage: &Backend, checkpointer: &CheckpointerBackend) {
    let everything = Retention::default();
    let partitions = storage.collections().unwrap();
    let page = partitions.partitions_page("thread", &[], None, 1_000).await.unwrap();
    assert!(page.next.is_none());
    for info in page.items {
        let info = info.unwrap();
        let thread = &info.partition.segments()[0];
        if checkpointer.thread(thread).await.unwrap().is_none() {
            assert!(info.expires_at.is_some(), "{info:?}");
            continue;
        }
        checkpointer.retain(thread, &everything, false).await.unwrap();
        assert_eq!(checkpointer.retain(thread, &everything, true).await.unwrap().bytes, 0, "{thread}");
    }
}

async fn whatever_is_killed_what_was_acknowledged_reads(storage: Backend, pairs: Pairs) {
    let mut acknowledged = Acknowledged::default();
    storage.connect().await.unwrap();
    let checkpointer = CheckpointerBackend::new(storage.clone());
    for kill in 0..kills(10) {
        let pairs = pairs.clone();
        let run = tokio::task::spawn_blocking(move || {
            run_and_kill(&pairs, kill, &mut acknowledged);
            acknowledged
        });
        acknowledged = run.await.unwrap();
        assert_readable(&checkpointer, &acknowledged).await;
    }
    assert_swept(&storage, &checkpointer).await;
    assert_readable(&checkpointer, &acknowledged).await;
    for kind in ["copied", "copy", "deleting", "pruned", "retained", "step"] {
        assert!(acknowledged.kinds.contains(kind), "{kind}: {:?}", acknowledged.kinds);
    }
    println!("{} kills, {} steps acknowledged", kills(10), acknowledged.total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    let name = format!("churn-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("sqlite:///{}", folder.join("churn.db").display());
    let storage = build(&[("DATABASE_URL", &url)]);
    whatever_is_killed_what_was_acknowledged_reads(storage, vec![("DATABASE_URL", url)]).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    let server = Postgres::start(&PostgresOptions::default()).unwrap();
    let url = server.url();
    let storage = build(&[("STORAGE_TYPE", "postgres"), ("DATABASE_URL", &url), ("POSTGRES_POOL_MIN", "0")]);
    let pairs = vec![("STORAGE_TYPE", "postgres".to_owned()), ("DATABASE_URL", url)];
    whatever_is_killed_what_was_acknowledged_reads(storage, pairs).await;
}
