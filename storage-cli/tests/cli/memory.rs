//! `storage memory`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::program::Place;

#[test]
fn a_memory_is_put_got_and_deleted() {
    let place = Place::new();
    let value = r#"{"text": "likes tea", "score": 0.9}"#;
    assert_eq!(
        place.done(&["memory", "put", "users/42/facts", "tea", value]),
        "written: users/42/facts: tea\n"
    );
    assert_eq!(place.done(&["memory", "get", "users/42/facts", "tea"]).trim_end(), value);
    let known = place.run(&["memory", "get", "users/42/facts", "tea", "--json"]).json();
    assert_eq!((&known["namespace"], &known["key"]), (&json!(["users", "42", "facts"]), &json!("tea")));
    assert_eq!((&known["value"]["score"], &known["expires_at"]), (&json!(0.9), &Value::Null));
    assert_eq!(known["created_at"], known["updated_at"]);
    let piped = place.pipe("{\"n\": 1}\n", &["memory", "put", "users/42/facts", "piped", "-", "--ttl", "2h"]);
    assert_eq!((piped.code, piped.out.as_str()), (0, "written: users/42/facts: piped, for 2h\n"));
    assert!(
        place.run(&["memory", "get", "users/42/facts", "piped", "--json"]).json()["expires_at"].is_string()
    );
    assert_eq!(place.done(&["memory", "delete", "users/42/facts", "tea"]), "deleted 1 memory\n");
    assert_eq!(place.run(&["memory", "delete", "users/42/facts", "tea"]).code, 1);
    let done = place.run(&["memory", "get", "users/42/facts", "tea"]);
    let told = "error: not found: `users/42/facts: tea`\nhint: `storage memory search users/42/facts` shows ";
    assert!(done.code == 1 && done.err.starts_with(told), "{}", done.err);
    place.done(&["memory", "put", "users/7", "k", "{}"]);
    assert_eq!(place.done(&["memory", "delete", "users", "--all"]), "deleted 2 memories\n");
    assert_eq!(place.run(&["memory", "delete", "users", "--all", "--json"]).json()["deleted"], json!(0));
}

#[test]
fn a_memory_is_put_on_a_condition() {
    let place = Place::new();
    let put = ["memory", "put", "a", "k"];
    let first = place.run(&[&put[..], &["{}", "--if-absent", "--json"]].concat()).json();
    let done = place.run(&[&put[..], &["{}", "--if-absent"]].concat());
    assert_eq!((done.code, done.out.as_str()), (1, "not written: a: k is there already\n"));
    let version = first["version"].as_str().unwrap();
    place.done(&[&put[..], &[r#"{"n": 2}"#, "--if-version", version]].concat());
    let stale = place.run(&[&put[..], &[r#"{"n": 3}"#, "--if-version", version, "--json"]].concat());
    assert_eq!((stale.code, &stale.json()["written"]), (1, &json!(false)));
    assert_eq!(place.done(&["memory", "get", "a", "k"]), "{\"n\": 2}\n");
}

#[test]
fn memories_are_found_as_a_table_and_as_json() {
    let place = Place::new();
    for (namespace, key, score) in
        [("ada/facts", "tea", 0.9), ("ada/facts", "coffee", 0.2), ("bob", "tea", 1.0)]
    {
        place.done(&["memory", "put", namespace, key, &json!({"score": score}).to_string(), "--ttl", "30d"]);
        // The list is ordered by the millisecond.
        std::thread::sleep(Duration::from_millis(3));
    }
    let table = place.done(&["memory", "search", "ada"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NAMESPACE  KEY     UPDATED "), "{table}");
    assert!(
        lines[1].starts_with("ada/facts  coffee  20") && lines[1].ends_with(r#"{"score":0.2}"#),
        "{table}"
    );
    assert!(lines.len() == 3 && lines[2].starts_with("ada/facts  tea     20"), "{table}");
    let filter = r#"{"score": {"$gte": 0.5}}"#;
    let found = place
        .run(&["memory", "search", "--filter", filter, "--limit", "1", "--offset", "1", "--json"])
        .json();
    let found = found["memories"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["namespace"]), (1, &json!(["ada", "facts"])));
    // Who looks keeps nothing alive.
    let ends = place.run(&["memory", "get", "bob", "tea", "--json"]).json()["expires_at"].clone();
    place.done(&["memory", "search"]);
    assert_eq!(place.run(&["memory", "get", "bob", "tea", "--json"]).json()["expires_at"], ends);
}

#[test]
fn namespaces_are_listed_with_their_slashes_escaped() {
    let place = Place::new();
    for namespace in ["users/1/facts", "users/2/facts", "users/2/plans", "a%2Fb/50%25"] {
        place.done(&["memory", "put", namespace, "k", "{}"]);
    }
    assert_eq!(
        place.done(&["memory", "namespaces"]),
        "a%2Fb/50%25\nusers/1/facts\nusers/2/facts\nusers/2/plans\n"
    );
    assert_eq!(place.done(&["memory", "namespaces", "users/*/facts"]), "users/1/facts\nusers/2/facts\n");
    assert_eq!(place.done(&["memory", "namespaces", "users", "--suffix", "plans"]), "users/2/plans\n");
    let depth = place.run(&[
        "memory",
        "namespaces",
        "users",
        "--depth",
        "2",
        "--limit",
        "1",
        "--offset",
        "1",
        "--json",
    ]);
    assert_eq!(depth.json(), json!({"namespaces": [["users", "2"]]}));
    let escaped = place.run(&["memory", "namespaces", "a%2Fb", "--json"]).json();
    assert_eq!(escaped["namespaces"][0], json!(["a/b", "50%"]));
}

#[test]
fn expired_memories_are_gone_and_cleaned_up() {
    let place = Place::new();
    place.done(&["memory", "put", "a", "k", "{}", "--ttl", "1ms"]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(place.run(&["memory", "get", "a", "k"]).code, 1);
    assert_eq!(place.done(&["memory", "namespaces"]), "");
    assert_eq!(place.done(&["memory", "cleanup"]), "removed 1 expired memory\n");
    assert_eq!(place.run(&["memory", "cleanup", "--json"]).json(), json!({"removed": 0}));
}

#[test]
fn what_is_wrong_is_said_with_a_hint() {
    let place = Place::new();
    place.done(&["init"]);
    for wrong in [
        &["put", "a//b", "k", "{}"][..],
        &["put", "50%", "k", "{}"],
        &["put", "langgraph/a", "k", "{}"],
        &["put", "", "k", "{}"],
        &["put", "a", "k", "1"],
        &["put", "a", "k", "text"],
        &["search", "--filter", "1"],
        &["search", "--filter", r#"{"a": {"$in": []}}"#],
        &["search", "--limit", "10001"],
        &["delete", "", "--all"],
    ] {
        let done = place.run(&[&["memory"][..], wrong].concat());
        assert!(done.code == 2 && done.err.contains("\nhint: "), "{wrong:?}: {}", done.err);
    }
    for wrong in
        [&["delete", "a"][..], &["delete", "a", "k", "--all"], &["namespaces", "--depth", "0"], &["get", "a"]]
    {
        assert_eq!(place.run(&[&["memory"][..], wrong].concat()).code, 2, "{wrong:?}");
    }
}
