//! **Lifecycle**: connecting, disconnecting, callers in parallel, and what a backend says about itself.

use std::sync::Arc;

use futures::future::join_all;
use storage_core::{Capabilities, ErrorKind, HealthStatus, StorageBackend};

use super::keys::{errors_of_every_operation, errors_of_keyless_operations};
use crate::{
    Subject,
    sample::{Backend, at_once, numbered},
};

async fn assert_unconnected(backend: &Backend) {
    let mut answers = errors_of_every_operation(backend, "deal:1").await;
    answers.extend(errors_of_keyless_operations(backend).await);
    for (operation, error) in answers {
        let error = error.unwrap_or_else(|| panic!("{operation} works unconnected"));
        let expected = [ErrorKind::NotConnected, ErrorKind::Unsupported].contains(&error.kind());
        assert!(expected, "{operation}: {error}");
    }
    assert_eq!(backend.health().await.status(), HealthStatus::Unhealthy);
}

/// Before the first `connect` and after the last `disconnect` every operation is `NotConnected`.
pub async fn unconnected_operations_say_so(subject: Subject) {
    let backend = subject.open();
    assert_unconnected(&backend).await;
    backend.connect().await.unwrap();
    backend.set("deal:1", numbered(1), None).await.unwrap();
    backend.disconnect().await.unwrap();
    assert_unconnected(&backend).await;
}

/// Twice does what once does.
pub async fn connect_and_disconnect_may_be_repeated(subject: Subject) {
    let backend = subject.open();
    backend.disconnect().await.unwrap();
    backend.connect().await.unwrap();
    backend.connect().await.unwrap();
    backend.set("deal:1", numbered(1), None).await.unwrap();
    backend.disconnect().await.unwrap();
    backend.disconnect().await.unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap_err().kind(), ErrorKind::NotConnected);
}

/// What was acknowledged is there after `disconnect` and `connect`.
pub async fn entries_survive_a_reconnect(subject: Subject) {
    let backend = subject.connected().await;
    for round in 0..3 {
        backend.set(&format!("deal:{round}"), numbered(round), None).await.unwrap();
        backend.disconnect().await.unwrap();
        backend.connect().await.unwrap();
    }
    assert_eq!(backend.keys("deal:*").await.unwrap(), ["deal:0", "deal:1", "deal:2"]);
}

/// Every write is acknowledged and there, or refused and not there.
pub async fn disconnect_waits_for_writes_under_way(subject: Subject) {
    let backend = subject.connected().await;
    let writes: Vec<_> = (0..200)
        .map(|number| {
            let backend = backend.clone();
            tokio::spawn(async move { backend.set(&format!("deal:{number}"), numbered(number), None).await })
        })
        .collect();
    tokio::task::yield_now().await;
    backend.disconnect().await.unwrap();
    let answers = join_all(writes).await;
    backend.connect().await.unwrap();
    for (number, answer) in answers.into_iter().enumerate() {
        let there = backend.exists(&format!("deal:{number}")).await.unwrap();
        match answer.unwrap() {
            Ok(()) => assert!(there, "deal:{number} was acknowledged"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
                assert!(!there, "deal:{number} was refused");
            }
        }
    }
}

/// Many tasks may connect at once.
pub async fn concurrent_connects_are_one(subject: Subject) {
    let backend = subject.open();
    at_once(16, |task| {
        let backend = backend.clone();
        async move {
            backend.connect().await.unwrap();
            backend.set(&format!("deal:{task}"), numbered(task), None).await.unwrap();
        }
    })
    .await;
    assert_eq!(backend.keys("*").await.unwrap().len(), 16);
}

/// 64 tasks, each on keys of its own, always read what they wrote last.
pub async fn callers_in_parallel_read_their_own_writes(subject: Subject) {
    let backend = subject.connected().await;
    at_once(64, |task| {
        let backend = backend.clone();
        async move {
            let key = format!("deal:{task}");
            for round in 0..20 {
                backend.set(&key, numbered(round), None).await.unwrap();
                assert_eq!(backend.get(&key).await.unwrap(), Some(numbered(round)));
                if round % 5 == 4 {
                    assert!(backend.delete(&key).await.unwrap());
                    assert!(!backend.exists(&key).await.unwrap());
                }
            }
        }
    })
    .await;
}

/// A connected backend is healthy and names its stores.
pub async fn health_answers(subject: Subject) {
    let backend = subject.connected().await;
    let health = backend.health().await;
    assert_eq!(health.status(), HealthStatus::Healthy, "{health:?}");
    assert!(health.reads() && health.writes(), "{health:?}");
    assert!(!health.stores.is_empty());
    assert!(backend.keys("*").await.unwrap().is_empty(), "a probe leaves nothing behind");
}

/// Statistics name the backend.
pub async fn stats_name_the_backend(subject: Subject) {
    let backend = subject.connected().await;
    backend.set("deal:1", numbered(1), None).await.unwrap();
    let stats = backend.stats().await.unwrap();
    assert_eq!(stats.backend, backend.name());
}

/// What a backend does not have answers `Unsupported`, and what it has does not.
pub async fn absent_capabilities_answer_unsupported(subject: Subject) {
    let backend = subject.connected().await;
    let capabilities = backend.capabilities();
    let mut answers = errors_of_every_operation(&backend, "deal:1").await;
    answers.extend(errors_of_keyless_operations(&backend).await);
    for (operation, error) in answers {
        let absent = error.is_some_and(|error| error.kind() == ErrorKind::Unsupported);
        assert_eq!(absent, !declared(capabilities, operation), "{operation} and {capabilities:?}");
    }
}

fn declared(capabilities: Capabilities, operation: &str) -> bool {
    match operation {
        "compare_and_set" => capabilities.compare_and_set,
        "increment" => capabilities.increment,
        "apply" => capabilities.apply,
        "ttl" | "expire" | "persist" => capabilities.expiry,
        "cleanup" => capabilities.cleanup,
        "stats" => capabilities.stats,
        _ => true,
    }
}

/// The full level is the whole contract.
pub async fn every_capability_is_there(subject: Subject) {
    let backend: Arc<dyn StorageBackend> = subject.open();
    assert_eq!(backend.capabilities(), Capabilities::FULL);
}
