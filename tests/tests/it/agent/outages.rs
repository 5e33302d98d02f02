//! A store that fails is an error for every call, and nothing is kept in the process instead.

use std::time::Duration;

use storage_agent::{
    AgentHealth, AgentStorage, Metadata, NewMessage, NewSession, SessionFilter, SessionUpdate,
};
use storage_core::{Error, ErrorKind, HealthStatus};
use storage_tests::{Postgres, PostgresOptions, Redis, RedisOptions};

use crate::stores::{build, json};

async fn opened(pairs: &[(&str, &str)]) -> AgentStorage {
    let pairs = [pairs, &[("STORAGE_OPERATION_TIMEOUT", "500ms")]].concat();
    let agent = AgentStorage::new(build(&pairs)).unwrap();
    agent.initialize().await.unwrap();
    agent.sessions().create_session("s", "ada", Metadata::new()).await.unwrap();
    agent.conversations().add_conversation_message("s", "user", "1", Metadata::new()).await.unwrap();
    agent
}

fn failed<T: std::fmt::Debug>(what: &str, answer: Result<T, Error>) {
    let error = answer.expect_err(what);
    let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::OutcomeUnknown];
    assert!(kinds.contains(&error.kind()), "{what}: {error}");
}

async fn writes_of_sessions_fail(agent: &AgentStorage) {
    let sessions = agent.sessions();
    failed("create_session", sessions.create_session("new", "ada", Metadata::new()).await);
    for created in sessions.batch_create_sessions(vec![NewSession::new("new-2", "ada")]).await {
        failed("batch_create_sessions", created);
    }
    failed("update_session", sessions.update_session("s", &SessionUpdate::default()).await);
    failed("end_session", sessions.end_session("s", "completed").await);
}

async fn reads_of_sessions_fail(agent: &AgentStorage) {
    let sessions = agent.sessions();
    failed("get_session", sessions.get_session("s").await);
    failed("batch_get_sessions", sessions.batch_get_sessions(&["s"]).await);
    failed("list_sessions", sessions.list_sessions(&SessionFilter::default()).await);
    failed("cleanup_expired_sessions", agent.cleanup_expired_sessions(Duration::ZERO).await);
    failed("get_metrics", agent.get_metrics().await);
}

async fn writes_of_the_rest_fail(agent: &AgentStorage) {
    let conversations = agent.conversations();
    let said = conversations.add_conversation_message("s", "user", "2", Metadata::new()).await;
    failed("add_conversation_message", said);
    let batch = vec![NewMessage::new("user", "2")];
    failed("add_conversation_messages", conversations.add_conversation_messages("s", batch).await);
    failed("delete_conversation", conversations.delete_conversation("s").await);
    failed("store_task_context", agent.tasks().store_task_context(Some("s"), "t", json("1")).await);
    let first = agent.tasks().compare_and_set_task_context(Some("s"), "t", 0, json("1")).await;
    failed("compare_and_set_task_context", first);
    failed("store_checkpoint", agent.checkpoints().store_checkpoint("t", "c", json("{}"), json("{}")).await);
}

async fn reads_of_the_rest_fail(agent: &AgentStorage) {
    let conversations = agent.conversations();
    failed("get_conversation_history", conversations.get_conversation_history("s", 50).await);
    failed("get_messages_after", conversations.get_messages_after("s", 0, 50).await);
    failed("fork_conversation", conversations.fork_conversation("s", "fork").await);
    failed("get_task_context", agent.tasks().get_task_context(Some("s"), "t").await);
    failed("get_checkpoint", agent.checkpoints().get_checkpoint("t", None).await);
    failed("get", agent.checkpointer().get("t", "", None).await);
}

/// What failed did not happen, here or elsewhere.
async fn nothing_came_of_it(agent: &AgentStorage) {
    let list = agent.sessions().list_sessions(&SessionFilter::default()).await.unwrap();
    let ids: Vec<_> = list.sessions.iter().map(|session| session.session_id.as_str()).collect();
    assert_eq!((ids, list.sessions[0].status.as_str()), (vec!["s"], "active"));
    assert_eq!(agent.conversations().get_conversation_history("s", 50).await.unwrap().len(), 1);
    assert!(agent.tasks().get_task_context(Some("s"), "t").await.unwrap().is_none());
    assert!(agent.checkpoints().get_checkpoint("t", None).await.unwrap().is_none());
}

async fn health_after(agent: &AgentStorage, status: HealthStatus) -> AgentHealth {
    for _ in 0..100 {
        let health = agent.health_check().await;
        if health.status == status {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never {status:?}: {:?}", agent.health_check().await.reasons);
}

/// While all is down.
async fn everything_fails(agent: &AgentStorage) {
    writes_of_sessions_fail(agent).await;
    reads_of_sessions_fail(agent).await;
    writes_of_the_rest_fail(agent).await;
    reads_of_the_rest_fail(agent).await;
    let health = agent.health_check().await;
    assert_eq!(health.status, HealthStatus::Unhealthy);
    assert!(health.reasons.iter().any(|reason| reason.starts_with("durable: write: ")), "{health:?}");
    assert!(health.probes.iter().all(|probe| probe.write.is_none() && probe.error.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_down() {
    let mut server = Redis::start(&RedisOptions::default()).unwrap();
    let agent = opened(&[("REDIS_URL", &server.url())]).await;
    server.kill().unwrap();
    everything_fails(&agent).await;
    server.restart().unwrap();
    health_after(&agent, HealthStatus::Healthy).await;
    nothing_came_of_it(&agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_down() {
    let mut server = Postgres::start(&PostgresOptions::default()).unwrap();
    let agent = opened(&[("DATABASE_URL", &server.url())]).await;
    server.kill().unwrap();
    everything_fails(&agent).await;
    server.restart().unwrap();
    health_after(&agent, HealthStatus::Healthy).await;
    nothing_came_of_it(&agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_somebody_keeps_locked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.db");
    let agent = opened(&[("DATABASE_URL", &format!("sqlite:///{}", file.display()))]).await;
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    writes_of_sessions_fail(&agent).await;
    writes_of_the_rest_fail(&agent).await;
    let health = agent.health_check().await;
    assert_eq!(health.status, HealthStatus::Unhealthy);
    assert!(health.reasons.iter().any(|reason| reason.starts_with("durable: write: ")), "{health:?}");
    other.execute_batch("ROLLBACK").unwrap();
    health_after(&agent, HealthStatus::Healthy).await;
    nothing_came_of_it(&agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hybrid_with_one_store_down_goes_on_with_the_other() {
    let mut redis = Redis::start(&RedisOptions::default()).unwrap();
    let mut postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let (database, cache) = (postgres.url(), redis.url());
    let pairs = [("STORAGE_TYPE", "hybrid"), ("DATABASE_URL", &database), ("REDIS_URL", &cache)];
    let agent = opened(&pairs).await;
    redis.kill().unwrap();
    writes_of_sessions_fail(&agent).await;
    reads_of_sessions_fail(&agent).await;
    agent.conversations().add_conversation_message("s", "user", "2", Metadata::new()).await.unwrap();
    let health = health_after(&agent, HealthStatus::Degraded).await;
    assert!(health.reasons.iter().any(|reason| reason.starts_with("ephemeral: write: ")), "{health:?}");
    assert!(!health.reasons.iter().any(|reason| reason.starts_with("durable")), "{health:?}");

    redis.restart().unwrap();
    health_after(&agent, HealthStatus::Healthy).await;
    postgres.kill().unwrap();
    writes_of_the_rest_fail(&agent).await;
    reads_of_the_rest_fail(&agent).await;
    agent.sessions().create_session("t", "ada", Metadata::new()).await.unwrap();
    let health = health_after(&agent, HealthStatus::Degraded).await;
    assert!(health.reasons.iter().any(|reason| reason.starts_with("durable: write: ")), "{health:?}");

    redis.kill().unwrap();
    health_after(&agent, HealthStatus::Unhealthy).await;
}
