//! Policies of what stays.

use std::time::Duration;

use serde_json::json;
use storage_agent::{
    AgentConfig, AgentStorage, Metadata, NewMessage, RetentionPolicy,
    checkpoints::{CheckpointKey, ListCheckpoints, NewCheckpoint, Payload},
};
use tokio::time::sleep;

use super::sessions::metadata;
use crate::stores::{Backend, json as raw};

async fn steps(agent: &AgentStorage, thread: &str, count: usize) {
    for number in 1..=count {
        step(agent, thread, number, "{}").await;
    }
}

async fn step(agent: &AgentStorage, thread: &str, number: usize, metadata: &str) {
    let step = NewCheckpoint {
        key: CheckpointKey::new(thread, "", format!("{number:04}")),
        parent_id: (number > 1).then(|| format!("{:04}", number - 1)),
        checkpoint: Payload::new("json", "{}"),
        metadata: raw(metadata),
        channel_versions: [].into(),
        new_values: vec![],
    };
    agent.checkpointer().put(&step).await.unwrap();
}

async fn say(agent: &AgentStorage, id: &str, count: usize) {
    let messages = (0..count).map(|number| NewMessage::new("user", number.to_string())).collect();
    agent.conversations().add_conversation_messages(id, messages).await.unwrap();
}

async fn messages(agent: &AgentStorage, id: &str) -> u64 {
    agent.conversations().get_conversation_info(id).await.unwrap().map_or(0, |info| info.items)
}

pub(crate) async fn a_policy_leaves_what_it_says_and_a_dry_run_everything(storage: Backend) {
    let agent = AgentStorage::new(storage).unwrap();
    for (id, count) in [("long", 30), ("short", 3)] {
        agent.sessions().create_session(id, "ada", Metadata::new()).await.unwrap();
        say(&agent, id, count).await;
        steps(&agent, id, count).await;
    }
    let policy: RetentionPolicy =
        "sessions: 1d; conversations: 10 messages, 1h; threads: keep 5".parse().unwrap();
    let dry = agent.apply_retention(&policy, true).await.unwrap();
    assert_eq!((dry.conversations, dry.messages, dry.threads, dry.checkpoints), (1, 20, 1, 25));
    assert_eq!((messages(&agent, "long").await, messages(&agent, "short").await), (30, 3));
    let done = agent.apply_retention(&policy, false).await.unwrap();
    assert_eq!((done.messages, done.checkpoints, done.bytes), (dry.messages, dry.checkpoints, dry.bytes));
    assert_eq!(done.removed.sessions, 0);
    assert_eq!((messages(&agent, "long").await, messages(&agent, "short").await), (10, 3));
    let left = agent.checkpointer().thread("long").await.unwrap().unwrap();
    assert_eq!(left.checkpoints, 5);
    let again = agent.apply_retention(&policy, false).await.unwrap();
    assert_eq!((again.messages, again.checkpoints), (0, 0));
}

pub(crate) async fn a_dry_run_counts_idle_sessions_once(storage: Backend) {
    let config = AgentConfig { session_ttl: Some(Duration::from_secs(50)), ..AgentConfig::default() };
    let agent = AgentStorage::with_config(storage, config).unwrap();
    for id in ["a", "b"] {
        agent.sessions().create_session(id, "ada", Metadata::new()).await.unwrap();
        say(&agent, id, 2).await;
        steps(&agent, id, 2).await;
        for task in ["plan", "act"] {
            agent.tasks().store_task_context(Some(id), task, raw("{}")).await.unwrap();
        }
    }
    say(&agent, "of no session", 2).await;
    agent.tasks().store_task_context(Some("of no session"), "plan", raw("{}")).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let policy = RetentionPolicy { sessions: Some(Duration::from_secs(2)), ..RetentionPolicy::default() };
    let dry = agent.apply_retention(&policy, true).await.unwrap().removed;
    assert_eq!([dry.sessions, dry.conversations, dry.tasks, dry.threads], [2, 3, 5, 2]);
    assert!(agent.sessions().get_session("a").await.unwrap().is_some());
    let done = agent.apply_retention(&policy, false).await.unwrap().removed;
    assert_eq!(done, dry);
    assert!(agent.sessions().get_session("a").await.unwrap().is_none());
}

pub(crate) async fn what_is_tagged_stays(storage: Backend) {
    let config = AgentConfig { session_ttl: Some(Duration::from_secs(50)), ..AgentConfig::default() };
    let agent = AgentStorage::with_config(storage, config).unwrap();
    let tags =
        [("a", json!({"hold": "case 7"})), ("b", json!({"hold": false, "other": 1})), ("c", json!({}))];
    for (id, tag) in tags {
        agent.sessions().create_session(id, "ada", metadata(tag)).await.unwrap();
        say(&agent, id, 10).await;
    }
    for number in 1..=10 {
        // Of 2, 4 and 9, the last of which would stay anyway, and of such as are no tags.
        let tag = match number {
            2 | 4 | 9 => r#"{"pinned":true}"#.to_owned(),
            // So large that it is stored elsewhere.
            3 => format!(r#"{{"pinned":"{}"}}"#, "x".repeat(20_000)),
            5 => r#"{"pinned":null}"#.to_owned(),
            6 => r#"{"pinned":false}"#.to_owned(),
            _ => "{}".to_owned(),
        };
        step(&agent, "t", number, &tag).await;
    }
    sleep(Duration::from_secs(2)).await;
    let text =
        "sessions: 2s, keep tagged hold; conversations: 4 messages; threads: keep 2, keep tagged pinned";
    let policy: RetentionPolicy = text.parse().unwrap();
    for dry_run in [true, false, false] {
        let report = agent.apply_retention(&policy, dry_run).await.unwrap();
        let kept = (report.removed.tagged, report.tagged_conversations, report.tagged_checkpoints);
        assert_eq!(kept, (1, 1, 3), "{dry_run}");
    }
    let found = |id: &'static str| agent.sessions().get_session(id);
    assert!(found("a").await.unwrap().is_some());
    assert!(found("b").await.unwrap().is_none() && found("c").await.unwrap().is_none());
    assert_eq!((messages(&agent, "a").await, messages(&agent, "b").await), (10, 0));
    let of_thread = ListCheckpoints { thread_id: Some("t".to_owned()), ..ListCheckpoints::default() };
    let left = agent.checkpointer().list(&of_thread).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|header| header.key.checkpoint_id).collect();
    assert_eq!(left, ["0010", "0009", "0004", "0003", "0002"]);
    for id in left {
        assert!(agent.checkpointer().get("t", "", Some(&id)).await.unwrap().is_some(), "{id}");
    }
    let without: RetentionPolicy = "threads: keep 2".parse().unwrap();
    assert_eq!(agent.apply_retention(&without, false).await.unwrap().checkpoints, 3);
}

pub(crate) async fn of_many_processes_one_applies_it(storage: Backend) {
    let policy: RetentionPolicy = "conversations: 5 messages".parse().unwrap();
    let agents: Vec<_> = (0..8).map(|_| AgentStorage::new(storage.clone()).unwrap()).collect();
    say(&agents[0], "s", 20).await;
    let hour = Duration::from_secs(3_600);
    let claims = agents.iter().map(|agent| agent.apply_retention_once(&policy, hour));
    let applied = futures::future::join_all(claims).await.into_iter().filter_map(Result::unwrap);
    assert_eq!(applied.map(|report| report.messages).collect::<Vec<_>>(), [15]);
}

pub(crate) async fn a_claim_ends_by_the_clock_of_the_store(storage: Backend) {
    let policy: RetentionPolicy = "conversations: 5 messages".parse().unwrap();
    let agent = AgentStorage::new(storage).unwrap();
    let every = Duration::from_millis(300);
    assert!(agent.apply_retention_once(&policy, every).await.unwrap().is_some());
    sleep(2 * every).await;
    assert!(agent.apply_retention_once(&policy, every).await.unwrap().is_some());
}
