//! A process that advances threads of checkpoints, step by step, until it is killed: it reads on the standard input which
//! storage to use, and says on the standard output what was acknowledged.

use std::io::{BufRead, Write, stdin, stdout};

use futures::future::join_all;
use storage_agent::checkpoints::{
    ChannelValue, CheckpointKey, CheckpointerBackend, NewCheckpoint, Payload, TaskWrites, Version,
};
use storage_core::Json;
use storage_factory::{Settings, get_storage_backend};

use crate::stores::Backend;

const THREADS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is the process that the tests beside it kill"]
async fn process() {
    let checkpointer = CheckpointerBackend::new(connected().await);
    join_all((0..THREADS).map(|thread| advance(&checkpointer, format!("killed-{thread}")))).await;
}

/// The storage that the standard input says.
pub(super) async fn connected() -> Backend {
    let lines = stdin().lock().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let settings = lines.fold(Settings::new(), |settings, line| {
        let (name, value) = line.split_once('=').expect("a setting a line");
        settings.with(name, value).unwrap()
    });
    let storage = get_storage_backend(&settings).unwrap();
    storage.connect().await.unwrap();
    storage
}

async fn advance(checkpointer: &CheckpointerBackend, thread_id: String) {
    let latest = checkpointer.get(&thread_id, "", None).await.unwrap();
    let mut last = latest.map(|latest| latest.header.key.checkpoint_id);
    loop {
        let number = last.as_deref().map_or(0, |last| last.parse::<usize>().unwrap() + 1);
        let (new, writes) = step(&thread_id, number, last.take());
        checkpointer.advance(&new, &[writes]).await.unwrap();
        // One write, so that lines do not mix; nobody reads on when the test has ended.
        if stdout().write_all(format!("done {thread_id} {number}\n").as_bytes()).is_err() {
            return;
        }
        last = Some(new.key.checkpoint_id);
    }
}

/// A list of messages that grows to forty, and a task's writes, one of them large.
pub(super) fn step(thread_id: &str, number: usize, parent_id: Option<String>) -> (NewCheckpoint, TaskWrites) {
    let list: String = (number / 40 * 40..=number).map(|at| format!("{at:>1100}")).collect();
    let id = format!("{number:08}");
    let version = Version::Int(i64::try_from(number).unwrap());
    let value = Some(Payload::new("text", list));
    let new = NewCheckpoint {
        key: CheckpointKey::new(thread_id, "", &id),
        parent_id,
        checkpoint: Payload::new("text", id.clone()),
        metadata: Json::parse(r#"{"source":"loop"}"#).unwrap(),
        channel_versions: [("messages".to_owned(), version.clone())].into(),
        new_values: vec![ChannelValue { channel: "messages".to_owned(), version, value }],
    };
    let large = Payload::new("text", format!("{number:>5000}"));
    let writes =
        vec![("messages".to_owned(), large), ("__interrupt__".to_owned(), Payload::new("text", id.clone()))];
    (new, TaskWrites { checkpoint_id: id, task_id: "task".to_owned(), task_path: String::new(), writes })
}
