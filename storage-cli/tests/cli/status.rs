//! Commands on the store itself.

use std::{thread, time::Duration};

use serde_json::json;

use crate::program::Place;

#[test]
fn a_store_that_answers_is_healthy() {
    let place = Place::new();
    assert!(place.done(&["health"]).starts_with("healthy\n"));
    let health = place.run(&["health", "--json"]).json();
    assert_eq!((&health["status"], &health["backend"]), (&json!("healthy"), &json!("sqlite")));
    assert_eq!(
        (&health["stores"][0]["store"], &health["stores"][0]["error"]),
        (&json!("sqlite"), &json!(null))
    );
    assert!(health["stores"][0]["latency_ms"].is_number());
}

#[test]
fn a_store_that_does_not_answer_is_unhealthy() {
    let place = Place::new();
    let _locked = place.locked("locked.db");
    let options = ["--database-url", "locked.db", "--timeout", "300ms", "health"];
    let done = place.run(&options);
    assert_eq!((done.code, done.err.as_str()), (1, ""));
    assert!(done.out.starts_with("unhealthy\n"), "{}", done.out);
    let done = place.run(&[&options[..], &["--json"]].concat());
    assert_eq!((done.code, &done.json()["status"]), (1, &json!("unhealthy")));
    assert!(done.json()["stores"][0]["error"].is_string());
}

#[test]
fn stats_count_the_entries() {
    let place = Place::new();
    place.done(&["set", "a", "1"]);
    let stats = place.run(&["stats", "--json"]).json();
    assert_eq!((&stats["backend"], &stats["entries"]), (&json!("sqlite"), &json!(1)));
    assert!(stats["bytes"].is_number() && stats["details"].is_object());
    let table = place.done(&["stats"]);
    assert!(table.contains("backend") && table.contains("entries"), "{table}");
}

#[test]
fn cleanup_removes_what_has_expired() {
    let place = Place::new();
    place.done(&["set", "a", "1", "--ttl", "100ms"]);
    place.done(&["set", "b", "1"]);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(place.done(&["cleanup"]), "removed 1 expired entry\n");
    assert_eq!(place.run(&["cleanup", "--json"]).json(), json!({"removed": 0}));
    assert_eq!(place.done(&["keys"]), "b\n");
}
