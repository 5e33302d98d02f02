//! Processes that are killed in the middle of their steps.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use futures::{StreamExt, stream};
use storage_agent::checkpoints::{CheckpointHeader, CheckpointerBackend, ListCheckpoints, Payload};
use storage_tests::{Postgres, PostgresOptions};

use crate::stores::{Backend, build};

const KILLS: u32 = 50;

pub(super) type Pairs = Vec<(&'static str, String)>;

/// Starts a test that is a process of its own.
pub(super) fn start(process: &str, pairs: &Pairs) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", process, "--ignored"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let settings: String = pairs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    child.stdin.take().unwrap().write_all(settings.as_bytes()).unwrap();
    child
}

/// What a process says that it has done. A line comes through the pipe as a whole or not at all; the harness of the tests says
/// something too.
pub(super) fn said(child: &mut Child) -> impl Iterator<Item = String> + Send + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n').map_while(Result::ok);
    lines.filter_map(|line| Some(String::from_utf8(line).ok()?.split_once("done ")?.1.to_owned()))
}

/// Runs a process until it has done a step and a while longer; adds the last number that each thread acknowledged.
fn run_and_kill(pairs: &Pairs, kill: u32, acknowledged: &mut BTreeMap<String, usize>) {
    let mut child = start("checkpoints::steps::process", pairs);
    let mut lines = said(&mut child);
    let first = lines.next().expect("the process does a step");
    let reading = thread::spawn(move || std::iter::once(first).chain(lines).collect::<Vec<_>>());
    thread::sleep(Duration::from_micros(u64::from(kill) * 7_919 % 60_000));
    child.kill().unwrap();
    child.wait().unwrap();
    for line in reading.join().unwrap() {
        let (thread_id, number) = line.split_once(' ').unwrap();
        let last = acknowledged.entry(thread_id.to_owned()).or_default();
        *last = number.parse::<usize>().unwrap().max(*last);
    }
}

/// A step is there as a whole: the checkpoint, its value, and both its writes.
async fn assert_whole(checkpointer: &CheckpointerBackend, header: CheckpointHeader) {
    let (thread_id, id) = (header.key.thread_id, header.key.checkpoint_id);
    let number: usize = id.parse().unwrap();
    let found = checkpointer.get(&thread_id, "", Some(&id)).await.unwrap().unwrap();
    let list: String = (number / 40 * 40..=number).map(|at| format!("{at:>1100}")).collect();
    assert_eq!(found.channel_values["messages"], Payload::new("text", list), "{thread_id} {id}");
    let written: Vec<_> =
        found.pending_writes.iter().map(|write| (write.index, write.value.clone())).collect();
    let expected = [(-3, Payload::new("text", id)), (0, Payload::new("text", format!("{number:>5000}")))];
    assert_eq!(written, expected, "{thread_id} {number}");
    assert_eq!(header.parent_id, number.checked_sub(1).map(|parent| format!("{parent:08}")));
}

async fn no_half_step_and_none_missing(storage: Backend, pairs: Pairs) {
    let (acknowledged, pairs) = tokio::task::spawn_blocking(move || {
        let mut acknowledged = BTreeMap::new();
        (0..KILLS).for_each(|kill| run_and_kill(&pairs, kill, &mut acknowledged));
        (acknowledged, pairs)
    })
    .await
    .unwrap();
    storage.connect().await.unwrap();
    let checkpointer = CheckpointerBackend::new(storage);
    let mut total = 0;
    for (thread_id, last) in acknowledged {
        let of_thread = ListCheckpoints { thread_id: Some(thread_id.clone()), ..ListCheckpoints::default() };
        let listed = checkpointer.list(&of_thread).await.unwrap();
        assert_eq!(checkpointer.thread(&thread_id).await.unwrap().unwrap().checkpoints, listed.len() as u64);
        assert!(listed.len() > last, "acknowledged and missing: {thread_id} {last}, {pairs:?}");
        total += listed.len();
        stream::iter(listed).for_each_concurrent(16, |header| assert_whole(&checkpointer, header)).await;
    }
    assert!(total > KILLS as usize, "the processes did commit: {total}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_no_step_is_halved_or_lost() {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("killed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("sqlite:///{}", folder.join("steps.db").display());
    let storage = build(&[("DATABASE_URL", &url)]);
    no_half_step_and_none_missing(storage, vec![("DATABASE_URL", url)]).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_no_step_is_halved_or_lost() {
    let server = Postgres::start(&PostgresOptions::default()).unwrap();
    let url = server.url();
    let storage = build(&[("STORAGE_TYPE", "postgres"), ("DATABASE_URL", &url), ("POSTGRES_POOL_MIN", "0")]);
    let pairs = vec![("STORAGE_TYPE", "postgres".to_owned()), ("DATABASE_URL", url)];
    no_half_step_and_none_missing(storage, pairs).await;
}
