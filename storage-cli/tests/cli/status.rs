//! Commands on the store itself.

use std::{thread, time::Duration};

use serde_json::json;

use crate::program::Place;

#[test]
fn a_store_that_answers_is_healthy() {
    let place = Place::new();
    place.done(&["init"]);
    let shown = place.done(&["health"]);
    assert!(
        shown.starts_with("healthy\nSTORE   READS  WRITES  TIME") && shown.contains("\nsqlite  yes    yes"),
        "{shown}"
    );
    assert_eq!(place.done(&["health", "--ready"]), "ready\n");
    assert_eq!(place.run(&["health", "--ready", "--json"]).json(), json!({"ready": true, "reason": null}));
    let health = place.run(&["health", "--json"]).json();
    assert_eq!((&health["status"], &health["backend"]), (&json!("healthy"), &json!("sqlite")));
    assert_eq!(
        (&health["stores"][0]["store"], &health["stores"][0]["write_error"]),
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
    assert!(done.json()["stores"][0]["write_error"].is_string());
}

#[test]
fn a_store_that_takes_no_write_is_degraded_and_not_ready() {
    let place = Place::new();
    place.done(&["set", "k", "1"]);
    let writer = rusqlite::Connection::open(place.path().join("ad_buyer.db")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let options = ["--timeout", "300ms", "health"];
    let done = place.run(&options);
    assert_eq!((done.code, done.err.as_str()), (1, ""));
    assert!(done.out.starts_with("degraded\n") && done.out.contains("\nsqlite  yes    no "), "{}", done.out);
    assert!(done.out.contains("\nsqlite: writes: sqlite health: "), "{}", done.out);
    let done = place.run(&[&options[..], &["--ready"]].concat());
    assert_eq!((done.code, done.err.as_str()), (1, ""));
    assert!(done.out.starts_with("not ready: sqlite: ") && done.out.lines().count() == 1, "{}", done.out);
    let done = place.run(&[&options[..], &["--ready", "--json"]].concat());
    assert_eq!((done.code, &done.json()["ready"]), (1, &json!(false)));
    assert!(done.json()["reason"].is_string());
    writer.execute_batch("ROLLBACK").unwrap();
    assert_eq!(place.run(&options).code, 0);
}

#[test]
fn a_store_that_is_not_there_is_not_ready() {
    let place = Place::new();
    let done = place.run(&["health"]);
    assert_eq!((done.code, done.err.as_str()), (1, ""), "a monitor sees 1 whatever is the matter");
    assert!(done.out.starts_with("unhealthy\n") && done.out.contains("there is no store"), "{}", done.out);
    let wrong = place.run(&["health", "--database-url", "db.example.com"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""), "{}", wrong.err);
    let done = place.run(&["health", "--ready"]);
    assert_eq!((done.code, done.err.as_str()), (1, ""));
    assert!(
        done.out.starts_with("not ready: sqlite: ") && done.out.contains("there is no store"),
        "{}",
        done.out
    );
    let wrong = place.run(&["health", "--ready", "--database-url", "db.example.com"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.out.starts_with("not ready: settings: "), "{}", wrong.out);
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

#[test]
fn of_a_hybrid_each_store_is_told_of() {
    let place = Place::new();
    let variables = [
        ("STORAGE_TYPE", "hybrid"),
        ("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/d"),
        ("REDIS_URL", "redis://127.0.0.1:2?password=hunter2"),
    ];
    let done = place.run_in(&variables, &["health", "--json"]);
    if done.err.contains("needs the feature `hybrid`") {
        return assert_eq!(done.code, 2, "of a build without it");
    }
    let stores = &done.json()["stores"];
    assert_eq!(
        (done.code, &stores[0]["store"], &stores[1]["store"]),
        (1, &json!("postgres"), &json!("redis"))
    );
    assert!(!done.out.contains("hunter2"), "{}", done.out);
    let done = place.run_in(&variables, &["health", "--ready"]);
    assert!(done.out.contains("postgres: ") && done.out.contains("redis: "), "{}", done.out);
}
