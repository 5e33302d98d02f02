//! The unified interface.

use storage_agent::{
    AgentStorage, MemoryTtl, Metadata, SessionUpdate,
    checkpoints::{CheckpointKey, NewCheckpoint, Payload, TaskWrites},
};
use storage_core::HealthStatus;
use tokio::task::JoinSet;

use crate::stores::{Backend, json};

pub(crate) async fn every_store_is_probed_and_nothing_is_left(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    agent.initialize().await.unwrap();
    let health = agent.health_check().await;
    // A machine under load may be slow.
    assert!(health.reasons.iter().all(|reason| reason.contains("slow")), "{:?}", health.reasons);
    assert_eq!(health.status == HealthStatus::Healthy, health.reasons.is_empty());
    assert_eq!(health.probes.iter().map(|probe| probe.kept).collect::<Vec<_>>(), ["durable", "ephemeral"]);
    for store in health.probes {
        assert!(
            store.write.is_some() && store.read.is_some() && store.delete.is_some() && store.error.is_none()
        );
    }
    assert!(storage.keys("*").await.unwrap().is_empty());
    agent.close().await.unwrap();
    let health = agent.health_check().await;
    assert_eq!(health.status, HealthStatus::Unhealthy);
    assert!(health.reasons[0].contains("write: "), "{:?}", health.reasons);
}

pub(crate) async fn totals_are_those_of_the_store(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    for id in ["a", "b", "c"] {
        agent.sessions().create_session(id, "ada", Metadata::new()).await.unwrap();
        agent
            .conversations()
            .add_conversation_message(id, "user", "x".repeat(1_000), Metadata::new())
            .await
            .unwrap();
    }
    agent.sessions().end_session("c", "failed").await.unwrap();
    agent.tasks().store_task_context(None, "t", json("{}")).await.unwrap();
    for id in ["m-1", "m-2"] {
        agent.memories().put(&["ada"], id, json(r#"{"text": "tea"}"#), MemoryTtl::Default).await.unwrap();
    }
    for id in ["c-1", "c-2"] {
        agent.checkpoints().store_checkpoint("t", id, json("{}"), json("{}")).await.unwrap();
        let step = NewCheckpoint {
            key: CheckpointKey::new("t", "", id),
            parent_id: None,
            checkpoint: Payload::new("json", "{}"),
            metadata: json("{}"),
            channel_versions: [].into(),
            new_values: vec![],
        };
        agent.checkpointer().put(&step).await.unwrap();
    }
    // Another program's, which has written nothing.
    let other = AgentStorage::new(storage).unwrap();
    let totals = other.get_metrics().await.unwrap().totals;
    assert_eq!((totals.sessions, totals.active_sessions), (3, 2));
    assert_eq!((totals.conversations, totals.messages, totals.tasks), (3, 3, 1));
    assert_eq!((totals.memories, totals.threads, totals.checkpoints), (2, 2, 4));
    assert!((3_000..6_000).contains(&totals.bytes), "{}", totals.bytes);
}

pub(crate) async fn totals_are_exact_after_concurrent_work_and_a_restart(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    let workers: JoinSet<()> = (0..16).map(|worker| work(agent.clone(), worker)).collect();
    workers.join_all().await;
    agent.close().await.unwrap();
    drop(agent);
    let agent = AgentStorage::new(storage).unwrap();
    agent.initialize().await.unwrap();
    let totals = agent.get_metrics().await.unwrap().totals;
    assert_eq!((totals.sessions, totals.active_sessions), (80, 64));
    assert_eq!((totals.conversations, totals.messages, totals.tasks), (81, 320, 16));
    assert_eq!((totals.threads, totals.checkpoints), (1, 16));
}

/// Five sessions with two messages each, of which one ends; ten messages and a checkpoint among those of others.
async fn work(agent: AgentStorage, worker: usize) {
    for n in 0..5 {
        let id = format!("{worker}-{n}");
        agent.sessions().create_session(&id, "ada", Metadata::new()).await.unwrap();
        for to in [&id, &id, "all", "all"] {
            agent.conversations().add_conversation_message(to, "user", "hi", Metadata::new()).await.unwrap();
        }
    }
    agent.sessions().end_session(&format!("{worker}-0"), "completed").await.unwrap();
    agent.tasks().store_task_context(None, &worker.to_string(), json("{}")).await.unwrap();
    agent.checkpoints().store_checkpoint("t", &worker.to_string(), json("{}"), json("{}")).await.unwrap();
}

pub(crate) async fn operations_are_counted(storage: Backend) {
    let agent = AgentStorage::new(storage).unwrap();
    agent.sessions().create_session("s", "ada", Metadata::new()).await.unwrap();
    agent.sessions().create_session("s", "ada", Metadata::new()).await.unwrap_err();
    for _ in 0..10 {
        agent.sessions().update_session("s", &SessionUpdate::default()).await.unwrap();
    }
    agent.checkpoints().store_checkpoint("t", "1", json("{}"), json("{}")).await.unwrap();
    let checkpointer = agent.checkpointer();
    let epoch = checkpointer.claim("t").await.unwrap();
    checkpointer.claim("t").await.unwrap();
    let writes = TaskWrites {
        checkpoint_id: "1".into(),
        task_id: "t".into(),
        task_path: String::new(),
        writes: vec![],
    };
    checkpointer.fenced(epoch).put_writes("t", "", &writes).await.unwrap_err();
    agent.memories().put(&[], "k", json("{}"), MemoryTtl::Default).await.unwrap_err();
    let metrics = agent.get_metrics().await.unwrap();
    let of = |name: &str| metrics.operations.iter().find(|operation| operation.operation == name).unwrap();
    assert_eq!((of("create_session").count, of("create_session").errors), (2, 1));
    assert_eq!((of("checkpoints.store_checkpoint").count, of("checkpointer.claim").count), (1, 2));
    assert_eq!((of("memories.put").count, of("memories.put").errors), (1, 1));
    let writes = of("checkpointer.put_writes");
    assert_eq!((writes.count, writes.errors), (1, 1));
    let updates = of("update_session");
    assert_eq!((updates.count, updates.errors), (10, 0));
    assert!(!updates.p50.is_zero() && updates.p50 <= updates.p99 && updates.p99 <= updates.max);
}
