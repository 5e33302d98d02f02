//! Commands on entries by key.

use std::{thread, time::Duration};

use serde_json::json;

use crate::program::{Place, lines};

#[test]
fn set_and_get_give_back_the_value_on_one_line() {
    let place = Place::new();
    assert_eq!(place.done(&["set", "deal:1", r#"{"cpm": 1.50}"#]), "written: deal:1\n");
    assert_eq!(place.done(&["get", "deal:1"]), "{\"cpm\": 1.50}\n");
    assert_eq!(place.done(&["get", "deal:1", "--json"]), "{\"cpm\": 1.50}\n");
    place.done(&["set", "deal:1", "{\n  \"a b\": [1,\r\n 2]\n}"]);
    assert_eq!(place.done(&["get", "deal:1"]), "{\"a b\":[1,2]}\n");
}

#[test]
fn every_kind_of_value_passes() {
    let place = Place::new();
    for value in ["null", "true", "-5", "-1.5e3", "\"a \\\" b\"", "[]", "{}", "18446744073709551615"] {
        place.done(&["set", "k", value]);
        assert_eq!(place.done(&["get", "k"]), format!("{value}\n"));
    }
}

#[test]
fn set_reads_a_value_from_stdin() {
    let place = Place::new();
    assert_eq!(place.pipe("  [1, 2]\n", &["set", "k", "-"]).code, 0);
    assert_eq!(place.done(&["get", "k"]), "[1, 2]\n");
    let large = format!("\"{}\"\n", "x".repeat(1_000_000));
    assert_eq!(place.pipe(&large, &["set", "k", "-"]).code, 0);
    assert_eq!(place.done(&["get", "k"]), large);
}

#[test]
fn a_value_that_is_too_large_is_refused_with_the_limit() {
    let place = Place::new();
    let done = place.pipe(vec![b'1'; 17 * 1024 * 1024], &["set", "k", "-"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("a value may have 16777216 bytes; stdin has more"), "{}", done.err);
    let done = place.run_in(&[("STORAGE_MAX_VALUE_BYTES", "10")], &["set", "k", "\"01234567890\""]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("a value may have 10 bytes; this one has 13"), "{}", done.err);
}

#[test]
fn a_value_that_is_not_json_is_refused_with_a_hint() {
    let place = Place::new();
    place.done(&["init"]);
    let done = place.run(&["set", "k", "hello"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("hint: a text needs quotes of its own"), "{}", done.err);
    assert_eq!(place.run(&["set", "k", "NaN"]).code, 2);
    assert_eq!(place.run(&["set", "k", ""]).code, 2);
    assert_eq!(place.pipe([0xff, 0xfe], &["set", "k", "-"]).code, 2);
    assert_eq!(place.run(&["exists", "k"]).code, 1);
}

#[test]
fn a_ttl_is_kept_told_and_ends() {
    let place = Place::new();
    assert_eq!(place.done(&["set", "quote:1", "1", "--ttl", "2h"]), "written: quote:1, for 2h\n");
    assert!(place.done(&["ttl", "quote:1"]).starts_with("1h 59m 5"));
    let left = place.run(&["--json", "ttl", "quote:1"]).json()["expires_in"].as_f64().unwrap();
    assert!((7_190.0..=7_200.0).contains(&left), "{left}");
    place.done(&["set", "quote:1", "1", "--ttl", "300ms"]);
    thread::sleep(Duration::from_millis(400));
    assert_eq!(place.run(&["get", "quote:1"]).code, 1);
    place.done(&["set", "quote:1", "1"]);
    assert_eq!(place.done(&["ttl", "quote:1"]), "never expires\n");
    assert_eq!(
        place.run(&["--json", "ttl", "quote:1"]).json(),
        json!({"key": "quote:1", "expires_in": null})
    );
}

#[test]
fn a_ttl_without_a_unit_or_of_zero_is_refused() {
    let place = Place::new();
    for ttl in ["90", "0s", "soon", ""] {
        let done = place.run(&["set", "k", "1", "--ttl", ttl]);
        assert_eq!(done.code, 2, "{ttl}");
        assert!(done.err.contains("with its unit, such as 500ms, 90s or 2h"), "{}", done.err);
    }
    assert_eq!(place.run(&["set", "k", "1", "--ttl", "200y"]).code, 2);
}

#[test]
fn if_absent_writes_only_once() {
    let place = Place::new();
    assert_eq!(
        place.done(&["set", "lock:a", "1", "--if-absent", "--ttl", "1h"]),
        "written: lock:a, for 1h\n"
    );
    let lost = place.run(&["set", "lock:a", "2", "--if-absent", "--json"]);
    assert_eq!(lost.code, 1);
    assert_eq!(lost.json(), json!({"key": "lock:a", "written": false, "expires_in": null}));
    assert_eq!(place.done(&["get", "lock:a"]), "1\n");
}

#[test]
fn delete_counts_what_was_there() {
    let place = Place::new();
    for key in ["a", "b"] {
        place.done(&["set", key, "1"]);
    }
    assert_eq!(place.done(&["delete", "a", "b", "c"]), "deleted 2 of 3 keys\n");
    let nothing = place.run(&["delete", "a", "--json"]);
    assert_eq!((nothing.code, nothing.json()), (1, json!({"deleted": 0, "asked": 1})));
    assert_eq!(place.run(&["delete"]).code, 2);
}

#[test]
fn exists_answers_and_its_code_says_the_same() {
    let place = Place::new();
    place.done(&["set", "a", "null"]);
    assert_eq!(place.done(&["exists", "a"]), "yes\n");
    let absent = place.run(&["exists", "b"]);
    assert_eq!((absent.code, absent.out.as_str(), absent.err.as_str()), (1, "no\n", ""));
    assert_eq!(place.run(&["--json", "exists", "b"]).json(), json!({"key": "b", "exists": false}));
}

#[test]
fn what_is_not_there_is_told_on_stderr() {
    let place = Place::new();
    place.done(&["init"]);
    for command in ["get", "ttl"] {
        let done = place.run(&[command, "nope\n"]);
        assert_eq!(
            (done.code, done.out.as_str(), done.err.as_str()),
            (1, "", "error: not found: `nope\\n`\n")
        );
        let done = place.run(&["--json", command, "nope"]);
        assert_eq!(done.error(), json!({"kind": "not_found", "message": "not found: `nope`", "hint": null}));
    }
}

#[test]
fn increment_adds_creates_and_takes_away() {
    let place = Place::new();
    assert_eq!(place.done(&["increment", "n"]), "1\n");
    assert_eq!(place.done(&["increment", "n", "-3"]), "-2\n");
    assert_eq!(place.run(&["increment", "n", "7", "--json"]).json(), json!({"key": "n", "value": 5}));
    place.done(&["increment", "rate", "1", "--ttl", "1m"]);
    assert!(place.done(&["ttl", "rate"]).starts_with('5'));
    place.done(&["set", "text", "\"x\""]);
    assert_eq!(place.run(&["increment", "text"]).code, 2);
    assert_eq!(place.run(&["increment", "n", "1.5"]).code, 2);
}

#[test]
fn keys_match_a_glob_in_byte_order() {
    let place = Place::new();
    for key in ["deal:2", "deal:10", "Deal:1", "optXdecision:1", "opt_decision:1"] {
        place.done(&["set", key, "1"]);
    }
    assert_eq!(place.done(&["keys", "deal:*"]), "deal:10\ndeal:2\n");
    assert_eq!(place.done(&["keys", "opt_decision:*"]), "opt_decision:1\n");
    assert_eq!(place.done(&["keys"]).lines().count(), 5);
    assert_eq!(place.done(&["keys", "nothing*"]), "");
    let keys = place.done(&["keys", "deal:?", "--json"]);
    assert_eq!(lines(&keys), [json!({"key": "deal:2"})]);
}

#[test]
fn keys_are_given_exactly_to_programs() {
    let place = Place::new();
    for key in ["a\tb", "a\\tb", "\u{1b}[2J"] {
        place.done(&["set", key, "1"]);
    }
    assert_eq!(place.done(&["keys"]), "\u{1b}[2J\na\tb\na\\tb\n");
    place.done(&["set", "a\nb", "1"]);
    let refused = place.run(&["keys"]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{}", refused.err);
    assert!(
        refused.err.contains("`a\\nb` holds a line end") && refused.err.contains("-0"),
        "{}",
        refused.err
    );
    for null in ["-0", "--null"] {
        assert_eq!(place.done(&["keys", "a*", null]), "a\tb\0a\nb\0a\\tb\0");
    }
    assert_eq!(place.run(&["keys", "-0", "--json"]).code, 2);
    assert_eq!(lines(&place.done(&["keys", "a\n*", "--json"])), [json!({"key": "a\nb"})]);
    place.done(&["set", "--", "--json", "1"]);
    assert_eq!(place.done(&["get", "--", "--json"]), "1\n");
}

#[test]
fn a_key_that_is_none_is_wrong_input() {
    let place = Place::new();
    for command in ["get", "exists", "ttl", "delete", "increment"] {
        assert_eq!(place.run(&[command, ""]).code, 2, "{command}");
        assert_eq!(place.run(&[command, &"k".repeat(1_025)]).code, 2, "{command}");
    }
}
