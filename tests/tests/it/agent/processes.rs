//! Several processes on one store.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    time::Duration,
};

use storage_agent::{AgentStorage, Metadata, NewMessage, SessionUpdate};
use tokio::task::JoinSet;

use super::open::{Pairs, built};

const PROCESSES: usize = 3;
const TASKS: usize = 8;
const UPDATES: usize = 20;

/// Run by the tests below as a process of its own, which is told the settings of its store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is the process that the tests beside it start"]
async fn worker() {
    let pairs: Pairs = serde_json::from_reader(std::io::stdin()).unwrap();
    let agent = AgentStorage::new(built(&pairs)).unwrap();
    agent.initialize().await.unwrap();
    let tasks: JoinSet<()> = (0..TASKS).map(|_| update_and_say(agent.clone())).collect();
    tasks.join_all().await;
    agent.close().await.unwrap();
}

async fn update_and_say(agent: AgentStorage) {
    let processing = Duration::from_millis(500);
    let update = SessionUpdate {
        increment_requests: 1,
        add_processing_time: processing,
        mark_error: true,
        ..SessionUpdate::default()
    };
    for n in 0..UPDATES {
        agent.sessions().update_session("s", &update).await.unwrap().unwrap();
        let message = NewMessage::new("user", n.to_string()).with_id(n.to_string());
        let messages = vec![NewMessage::new("user", "every time"), message];
        agent.conversations().add_conversation_messages("s", messages).await.unwrap();
    }
}

fn start(pairs: &Pairs) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agent::processes::worker", "--ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(pairs).unwrap()).unwrap();
    child
}

async fn nothing_is_lost(pairs: Pairs) {
    let agent = AgentStorage::new(built(&pairs)).unwrap();
    agent.initialize().await.unwrap();
    agent.sessions().create_session("s", "ada", Metadata::new()).await.unwrap();
    let children: Vec<Child> = (0..PROCESSES).map(|_| start(&pairs)).collect();
    for mut child in children {
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        assert!(ended.await.unwrap().success());
    }
    let updates = (PROCESSES * TASKS * UPDATES) as u64;
    let metrics = agent.sessions().get_session("s").await.unwrap().unwrap().metrics;
    assert_eq!((metrics.request_count, metrics.error_count), (updates, updates));
    assert_eq!(metrics.total_processing_time, updates as f64 / 2.0);
    let messages = agent.conversations().get_conversation_history("s", 10_000).await.unwrap();
    let every_time = updates as usize;
    assert_eq!(messages.len(), every_time + UPDATES, "of each id one");
    assert!(messages.iter().map(|message| message.sequence).eq(1..=messages.len() as u64));
    assert_eq!(agent.get_metrics().await.unwrap().totals.messages, messages.len() as u64);
    agent.close().await.unwrap();
}

macro_rules! on_stores {
    ($($store:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $store() {
            let name = concat!(stringify!($store), "_processes");
            nothing_is_lost(super::open::settings::$store(name)).await;
        })*
    };
}

on_stores! { sqlite redis redis_cluster postgres hybrid }
