//! What is exported can be imported.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::program::{Place, lines};

/// Keys that trip naive formats.
fn keys() -> Vec<String> {
    let keys = [
        "a b",
        "\"quoted\"",
        "back\\slash",
        "line\nbreak",
        "*",
        "[a-z]?",
        "%_%",
        "é😀",
        "-",
        "\u{1b}[1m",
        "{}",
    ];
    keys.map(str::to_owned).into_iter().chain(["k".repeat(1_024), "deal:a:b:c".to_owned()]).collect()
}

fn now() -> f64 {
    let since =
        std::fs::metadata(tempfile::NamedTempFile::new().unwrap().path()).unwrap().modified().unwrap();
    since.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn adversarial_keys_and_their_expiries_make_the_round_trip() {
    let (place, other) = (Place::new(), Place::new());
    let in_an_hour = (now() + 3_600.0).floor();
    let input: Vec<Value> = (keys().iter().enumerate())
        .map(|(n, key)| {
            let expires_at = if n % 2 == 0 { json!(in_an_hour) } else { Value::Null };
            json!({"key": key, "value": {"n": n, "text": key}, "expires_at": expires_at})
        })
        .collect();
    let text: String = input.iter().map(|line| format!("{line}\n")).collect();
    let file = place.file("in.ndjson", text);
    let imported = place.run(&["import", "--json", file.to_str().unwrap()]);
    assert_eq!(imported.json(), json!({"imported": input.len(), "expired": 0}));

    let exported = place.done(&["export", "*"]);
    assert_eq!(other.pipe(&exported, &["import"]).out, format!("imported {} entries\n", input.len()));
    for place in [&place, &other] {
        let mut found = lines(&place.done(&["export", "*", "--json"]));
        for line in &mut found {
            if let Some(expires_at) = line["expires_at"].as_f64() {
                assert!((0.0..5.0).contains(&(expires_at - in_an_hour)), "{line}");
                line["expires_at"] = json!(in_an_hour);
            }
        }
        let mut wanted = input.clone();
        wanted.sort_by_key(|line| line["key"].as_str().unwrap().to_owned());
        assert_eq!(found, wanted);
    }
}

#[test]
fn export_takes_a_pattern_and_keeps_the_spelling() {
    let place = Place::new();
    place.done(&["set", "deal:1", "{\"cpm\":\n 1.50}"]);
    place.done(&["set", "order:1", "1"]);
    assert_eq!(
        place.done(&["export", "deal:*"]),
        "{\"key\":\"deal:1\",\"value\":{\"cpm\":1.50},\"expires_at\":null}\n"
    );
}

#[test]
fn what_has_expired_is_skipped_and_counted() {
    let place = Place::new();
    let input = r#"{"key":"old","value":1,"expires_at":1000.5}
        {"key":"older","value":1,"expires_at":-1}

        {"key":"new","value":null}"#;
    assert_eq!(place.pipe(input, &["import", "-"]).out, "imported 1 entry, skipped 2 expired\n");
    assert_eq!(place.done(&["keys"]), "new\n");
    place.done(&["set", "short", "1", "--ttl", "200ms"]);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(lines(&place.done(&["export", "*"])).len(), 1);
}

#[test]
fn of_a_key_that_comes_twice_the_last_line_stands() {
    let place = Place::new();
    let input: String = (0..1_203).map(|n| format!("{{\"key\":\"k{}\",\"value\":{n}}}\n", n % 601)).collect();
    assert_eq!(place.pipe(input, &["import"]).out, "imported 1,203 entries\n");
    assert_eq!(place.done(&["get", "k0"]), "1202\n");
    assert_eq!(place.done(&["keys"]).lines().count(), 601);
}

#[test]
fn large_values_pass_in_both_directions() {
    let (place, other) = (Place::new(), Place::new());
    let value = "x".repeat(3 * 1024 * 1024);
    let input: String = (0..4).map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"{value}\"}}\n")).collect();
    assert_eq!(place.pipe(input, &["import"]).code, 0);
    let exported = place.done(&["export", "*"]);
    assert_eq!(other.pipe(&exported, &["import", "--json"]).json()["imported"], 4);
    assert_eq!(other.done(&["export", "*"]), exported);
}

#[test]
fn a_corrupt_entry_is_a_warning_spares_the_rest_and_shows_in_the_code() {
    let place = Place::new();
    place.done(&["set", "a", "1"]);
    place.done(&["set", "z", "2"]);
    let file = rusqlite::Connection::open(place.path().join("ad_buyer.db")).unwrap();
    file.execute("INSERT INTO kv_store (key, value) VALUES ('nan', 'NaN')", []).unwrap();
    let done = place.run(&["export", "*"]);
    assert_eq!(done.code, 3);
    let keys: Vec<_> = lines(&done.out).iter().map(|line| line["key"].clone()).collect();
    assert_eq!(keys, ["a", "z"]);
    assert!(done.err.starts_with("warning: ") && done.err.contains("`nan`"), "{}", done.err);
    assert!(done.err.contains("error: 1 entry could not be exported"), "{}", done.err);
    let told = lines(&place.run(&["export", "*", "--json"]).err);
    assert_eq!(
        (&told[0]["warning"]["kind"], &told[1]["error"]["kind"]),
        (&json!("corrupt"), &json!("corrupt"))
    );
    assert_eq!(place.run(&["get", "nan"]).code, 3);
    assert_eq!(place.done(&["exists", "nan"]), "yes\n");
}
