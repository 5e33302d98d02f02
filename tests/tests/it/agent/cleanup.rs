//! Removing what nobody uses.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use storage_agent::{
    AgentConfig, AgentStorage, Cleanup, ConversationLimits, Metadata, NewMessage, SessionUpdate,
    checkpoints::{CheckpointConfig, CheckpointKey, NewCheckpoint, Payload, Retention},
};
use storage_core::{Clock, ManualClock, SystemClock};
use tokio::{task::JoinSet, time::sleep};

use crate::stores::{Backend, json};

async fn begin(agent: &AgentStorage, id: &str) {
    agent.sessions().create_session(id, "ada", Metadata::new()).await.unwrap();
    say(agent, id).await;
    agent.checkpoints().store_checkpoint(id, "c-1", json("{}"), json("{}")).await.unwrap();
    let step = NewCheckpoint {
        key: CheckpointKey::new(id, "", "0001"),
        parent_id: None,
        checkpoint: Payload::new("json", "{}"),
        metadata: json("{}"),
        channel_versions: [].into(),
        new_values: vec![],
    };
    agent.checkpointer().put(&step).await.unwrap();
    for task in ["plan", "a:b"] {
        agent.tasks().store_task_context(Some(id), task, json("{}")).await.unwrap();
    }
}

/// The use of sessions is noted each hundredth of their expiry.
fn with_ttl(storage: Backend, seconds: u64) -> AgentStorage {
    let config = AgentConfig { session_ttl: Some(Duration::from_secs(seconds)), ..AgentConfig::default() };
    AgentStorage::with_config(storage, config).unwrap()
}

async fn say(agent: &AgentStorage, id: &str) -> u64 {
    agent.conversations().add_conversation_message(id, "user", "hi", Metadata::new()).await.unwrap()
}

async fn messages(agent: &AgentStorage, id: &str) -> usize {
    agent.conversations().get_conversation_history(id, 1_000).await.unwrap().len()
}

fn counts(removed: Cleanup) -> [u64; 4] {
    [removed.sessions, removed.conversations, removed.tasks, removed.threads]
}

async fn has_checkpoints(agent: &AgentStorage, id: &str) -> bool {
    let plain = agent.checkpoints().get_checkpoint(id, None).await.unwrap().is_some();
    let graph = agent.checkpointer().get(id, "", None).await.unwrap().is_some();
    assert_eq!(plain, graph);
    plain
}

pub(crate) async fn idle_sessions_go_with_what_belongs_to_them(storage: Backend) {
    let agent = with_ttl(storage.clone(), 50);
    for id in ["idle", "idle:2", "updated", "speaking", "working"] {
        begin(&agent, id).await;
    }
    agent.tasks().store_task_context(None, "of nobody", json("{}")).await.unwrap();
    let idle = Duration::from_secs(2);
    assert_eq!(counts(agent.cleanup_expired_sessions(idle).await.unwrap()), [0; 4]);
    sleep(idle).await;
    agent.sessions().update_session("updated", &SessionUpdate::default()).await.unwrap();
    say(&agent, "speaking").await;
    agent.tasks().store_task_context(Some("working"), "plan", json("{}")).await.unwrap();
    assert_eq!(counts(agent.cleanup_expired_sessions(idle).await.unwrap()), [2, 2, 4, 4]);
    assert_eq!(
        storage.keys("session:*").await.unwrap(),
        ["session:speaking", "session:updated", "session:working"]
    );
    assert_eq!((messages(&agent, "idle").await, messages(&agent, "speaking").await), (0, 2));
    assert!(!has_checkpoints(&agent, "idle").await && has_checkpoints(&agent, "speaking").await);
    assert!(agent.tasks().get_task_context(Some("idle:2"), "a:b").await.unwrap().is_none());
    assert!(agent.tasks().get_task_context(Some("updated"), "a:b").await.unwrap().is_some());
    assert!(agent.tasks().get_task_context(None, "of nobody").await.unwrap().is_some());
    assert_eq!(counts(agent.cleanup_expired_sessions(Duration::from_secs(60)).await.unwrap()), [0; 4]);
}

pub(crate) async fn orphans_of_expired_sessions_go(storage: Backend) {
    let config = AgentConfig { session_ttl: Some(Duration::from_millis(600)), ..AgentConfig::default() };
    let agent = AgentStorage::with_config(storage.clone(), config).unwrap();
    begin(&agent, "expires").await;
    sleep(Duration::from_millis(1_200)).await;
    begin(&agent, "lives").await;
    say(&agent, "has no session").await;
    // Too long for a session, though not for a task.
    let long = "x".repeat(1_017);
    agent.tasks().store_task_context(Some(&long), "t", json("{}")).await.unwrap();
    assert!(!storage.exists("session:expires").await.unwrap());
    let removed = agent.cleanup_expired_sessions(Duration::from_millis(900)).await.unwrap();
    assert_eq!(counts(removed), [0, 1, 2, 2], "an orphan that is written to is none");
    assert_eq!((messages(&agent, "expires").await, messages(&agent, "lives").await), (0, 1));
    assert_eq!(messages(&agent, "has no session").await, 1);
    assert!(!has_checkpoints(&agent, "expires").await && has_checkpoints(&agent, "lives").await);
}

/// Cleanups run as fast as they can, with no idle time at all, while a session is used by messages or by updates alone.
pub(crate) async fn a_session_in_use_is_never_removed(storage: Backend) {
    let agent = with_ttl(storage, 100);
    begin(&agent, "speaking").await;
    begin(&agent, "updated").await;
    let users: JoinSet<usize> = (0..4).map(|_| until_later(agent.clone())).collect();
    let mut removed = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        let cleanup = agent.cleanup_expired_sessions(Duration::ZERO).await.unwrap();
        removed += cleanup.sessions + cleanup.conversations;
    }
    let said: usize = users.join_all().await.into_iter().sum();
    assert_eq!((messages(&agent, "speaking").await, removed), (said + 1, 0));
    sleep(Duration::from_secs(3)).await;
    let cleanup = agent.cleanup_expired_sessions(Duration::ZERO).await.unwrap();
    assert_eq!((cleanup.sessions, cleanup.conversations), (2, 2), "nobody uses them any more");
}

/// Uses two sessions for four seconds, and says how many messages it wrote.
async fn until_later(agent: AgentStorage) -> usize {
    let (start, mut said) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(4) {
        let updated = agent.sessions().update_session("updated", &SessionUpdate::default()).await.unwrap();
        assert!(updated.is_some(), "it is there");
        said += 1;
        say(&agent, "speaking").await;
        assert!(agent.sessions().get_session("speaking").await.unwrap().is_some(), "it is there");
        sleep(Duration::from_millis(20)).await;
    }
    said
}

/// A conversation without a session is idle at once: each cleanup takes what was written before it and never what came
/// after.
pub(crate) async fn a_message_written_at_the_same_time_stays_or_is_counted(storage: Backend) {
    let agent = AgentStorage::new(storage).unwrap();
    for _ in 0..50 {
        let (written, removed) =
            tokio::join!(say(&agent, "s"), agent.cleanup_expired_sessions(Duration::ZERO));
        let last = agent.conversations().get_conversation_history("s", 1).await.unwrap();
        let kept = last.first().is_some_and(|last| last.sequence == written);
        assert!(kept || removed.unwrap().conversations > 0, "a message went though no cleanup took it");
    }
    sleep(Duration::from_millis(20)).await;
    let written = say(&agent, "s").await;
    sleep(Duration::from_millis(20)).await;
    let last = agent.conversations().get_conversation_history("s", 1).await.unwrap();
    assert_eq!(last[0].sequence, written, "what is emptied and written to again does not expire");
}

/// Programs whose clocks are hours ahead or behind remove nothing that is in use: the store's clock judges.
pub(crate) async fn a_wrong_clock_removes_nothing_that_is_in_use(storage: Backend) {
    let hour = Duration::from_secs(3600);
    let now = SystemClock.now();
    let [ahead, behind] = [now + 25 * hour, now - 25 * hour].map(|time| {
        let config = AgentConfig {
            clock: Arc::new(ManualClock::new(time)),
            conversation_limits: ConversationLimits {
                max_messages: Some(3),
                max_age: Some(hour),
                ..ConversationLimits::default()
            },
            checkpoints: CheckpointConfig {
                clock: Arc::new(ManualClock::new(time)),
                ..CheckpointConfig::default()
            },
            ..AgentConfig::default()
        };
        AgentStorage::with_config(storage.clone(), config).unwrap()
    });
    begin(&behind, "in use").await;
    begin(&ahead, "also").await;
    for cleaner in [&ahead, &behind] {
        assert_eq!(counts(cleaner.cleanup_expired_sessions(hour).await.unwrap()), [0; 4]);
        let policy = Retention { max_age: Some(hour), ..Retention::default() };
        for thread in ["in use", "also"] {
            let removed = cleaner.checkpointer().retain(thread, &policy, false).await.unwrap();
            assert_eq!(removed.checkpoints.len(), 0);
        }
        say(cleaner, "in use").await;
    }
    assert_eq!(messages(&ahead, "in use").await, 3);
    // What a call appends it does not drop, whatever the limit.
    let five = (0..5).map(|n| NewMessage::new("user", n.to_string())).collect();
    ahead.conversations().add_conversation_messages("in use", five).await.unwrap();
    assert_eq!(messages(&ahead, "in use").await, 5);
    say(&behind, "in use").await;
    assert_eq!(messages(&ahead, "in use").await, 3);
}
