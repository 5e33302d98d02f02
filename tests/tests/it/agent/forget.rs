//! Forgetting: nothing of a session or a user is left, and nothing of others goes.

use futures::TryStreamExt;
use storage_agent::{
    AgentStorage, MemoryTtl, Metadata, UserData,
    checkpoints::{CheckpointKey, NewCheckpoint, Payload},
};
use storage_core::StorageExt;

use crate::stores::{Backend, json};

async fn step(agent: &AgentStorage, thread: &str, metadata: &str) {
    let step = NewCheckpoint {
        key: CheckpointKey::new(thread, "", "0001"),
        parent_id: None,
        checkpoint: Payload::new("json", "{}"),
        metadata: json(metadata),
        channel_versions: [].into(),
        new_values: vec![],
    };
    agent.checkpointer().put(&step).await.unwrap();
}

async fn live(agent: &AgentStorage, user: &str, sessions: usize) {
    for number in 0..sessions {
        let id = format!("{user}-{number}");
        agent.sessions().create_session(&id, user, Metadata::new()).await.unwrap();
        let say = |text: &str| {
            agent.conversations().add_conversation_message(&id, "user", text.to_owned(), Metadata::new())
        };
        say("one").await.unwrap();
        say("two").await.unwrap();
        agent.tasks().store_task_context(Some(&id), "plan", json("{}")).await.unwrap();
        agent.checkpoints().store_checkpoint(&id, "c-1", json("{}"), json("{}")).await.unwrap();
        step(agent, &id, "{}").await;
    }
    step(agent, &format!("thread of {user}"), &format!(r#"{{"user_id":"{user}"}}"#)).await;
    step(agent, &format!("named:{user}:1"), "{}").await;
    for namespace in [&[user, "facts"][..], &["users", user], &["memories", user, "likes"]] {
        agent.memories().put(namespace, "tea", json(r#"{"likes":"tea"}"#), MemoryTtl::Never).await.unwrap();
    }
}

/// The keys and the names of partitions with a text in them, whatever stands in the store.
async fn traces(storage: &Backend, text: &str) -> Vec<String> {
    let mut found = storage.keys("*").await.unwrap();
    for kind in ["conversation", "task", "thread", "checkpoint", "memory"] {
        let listed: Vec<_> = storage.partitions(kind, &[]).try_collect().await.unwrap();
        for info in listed {
            let query = storage_core::Query::all(info.partition.clone(), 1_000);
            let items = storage.collections().unwrap().query(query).await.unwrap().items;
            found.push(info.partition.as_str().to_owned());
            found.extend(
                items
                    .into_iter()
                    .map(|item| format!("{} {} {:?}", item.sort, item.attributes.as_str(), item.body)),
            );
        }
    }
    found.retain(|name| name.contains(text));
    found.sort();
    found
}

pub(crate) async fn nothing_of_a_user_is_left_and_all_of_others(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    live(&agent, "ursula", 40).await;
    live(&agent, "otto", 3).await;
    let bobs = traces(&storage, "otto").await;
    let data = UserData { thread_prefixes: vec!["named:ursula:".to_owned()], ..UserData::of("ursula") };
    let forgotten = agent.delete_user("ursula", &data).await.unwrap();
    let counts = [forgotten.sessions, forgotten.conversations, forgotten.messages, forgotten.tasks];
    assert_eq!(counts, [40, 40, 80, 40]);
    assert_eq!((forgotten.threads, forgotten.memories), (82, 3));
    // What was emptied expires a millisecond later.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(traces(&storage, "ursula").await, Vec::<String>::new());
    assert_eq!(traces(&storage, "otto").await, bobs);
    let again = agent.delete_user("ursula", &data).await.unwrap();
    assert_eq!(again, storage_agent::Forgotten::default());
}

pub(crate) async fn nothing_of_a_session_is_left_and_all_of_others(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    live(&agent, "ursula", 12).await;
    let forgotten = agent.delete_session("ursula-1").await.unwrap();
    let counts =
        [forgotten.sessions, forgotten.conversations, forgotten.messages, forgotten.tasks, forgotten.threads];
    assert_eq!(counts, [1, 1, 2, 1, 2]);
    assert!(agent.sessions().get_session("ursula-1").await.unwrap().is_none());
    assert!(agent.tasks().get_task_context(Some("ursula-1"), "plan").await.unwrap().is_none());
    for id in ["ursula-0", "ursula-10", "ursula-11"] {
        assert!(agent.sessions().get_session(id).await.unwrap().is_some());
        assert!(agent.tasks().get_task_context(Some(id), "plan").await.unwrap().is_some());
        assert!(agent.checkpointer().get(id, "", None).await.unwrap().is_some());
    }
    assert_eq!(agent.delete_session("ursula-1").await.unwrap(), storage_agent::Forgotten::default());
    assert!(
        agent.delete_session("").await.is_err() && agent.delete_user("", &UserData::of("")).await.is_err()
    );
}

/// Users whose ids are as long as they may be, or numbers, and documents that are no sessions, are deleted; an empty prefix is not
/// taken for everybody.
pub(crate) async fn odd_users_are_deleted_and_others_stay(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    let long = "u".repeat(1_500);
    for (id, user) in [("s-1", long.as_str()), ("s-2", "7"), ("s-3", "u\u{1}v")] {
        agent.sessions().create_session(id, user, Metadata::new()).await.unwrap();
    }
    step(&agent, "numbered", r#"{"user_id":7}"#).await;
    let general = agent.checkpoints();
    general.store_checkpoint("general", "c-1", json("{}"), json(r#"{"user_id":"7"}"#)).await.unwrap();
    general.store_checkpoint("other", "c-1", json("{}"), json(r#"{"user_id":"70"}"#)).await.unwrap();
    storage.set("session:", json(r#"{"user_id":"7"}"#), None).await.unwrap();
    for (user, sessions, threads) in [(long.as_str(), 1, 0), ("7", 2, 2), ("u\u{1}v", 1, 0)] {
        let forgotten = agent.delete_user(user, &UserData::of(user)).await.unwrap();
        assert_eq!((forgotten.sessions, forgotten.threads), (sessions, threads));
    }
    assert!(storage.keys("session:*").await.unwrap().is_empty());
    let everybody = UserData { thread_prefixes: vec![String::new()], ..UserData::of("nobody") };
    assert!(agent.delete_user("nobody", &everybody).await.unwrap_err().to_string().contains("all users"));
    assert!(general.get_checkpoint("other", None).await.unwrap().is_some());
}
