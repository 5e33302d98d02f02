//! `storage export` and `storage import` of all that a store or a user has.

use serde_json::json;

use crate::program::{Place, lines};

/// A session of ada's, and one of otto's, with a memory each.
fn filled() -> Place {
    let place = Place::new();
    for user in ["ada", "otto"] {
        let document = format!(
            r#"{{"session_id":"s-{user}","user_id":"{user}","status":"active","created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z"}}"#
        );
        place.done(&["set", &format!("session:s-{user}"), &document]);
        place.done(&["memory", "put", user, "tea", r#"{"likes":1.50}"#]);
    }
    place.done(&["set", "deal:1", r#"{"b": 1, "a": 15.0}"#]);
    place
}

#[test]
fn all_of_a_store_moves_to_another_and_comes_back_equal() {
    let (place, other) = (filled(), Place::new());
    let exported = place.done(&["export"]);
    assert_eq!(lines(&exported).first().unwrap()["export"]["scope"], "everything");
    assert!(exported.contains(r#"{"entry":{"key":"deal:1","value":{"a":15.0,"b":1}}}"#), "{exported}");
    let said = other.pipe(&exported, &["import"]);
    assert_eq!(said.out, "imported 3 entries, 0 partitions with 0 items, 2 memories\n", "{}", said.err);
    assert_eq!(other.done(&["export"]), exported);
    let again = other.pipe(&exported, &["import", "--json"]).json();
    assert_eq!((&again["entries"], &again["unchanged"]), (&json!(0), &json!(5)));

    let done = place.done(&["export", "--to", "all.ndjson"]);
    assert_eq!(done, "exported to all.ndjson: 3 entries, 0 partitions with 0 items, 2 memories\n");
    assert_eq!(std::fs::read_to_string(place.path().join("all.ndjson")).unwrap(), exported);
    let there = place.run(&["export", "--to", "all.ndjson"]);
    assert_eq!((there.code, there.err.contains("`all.ndjson` exists already")), (2, true), "{}", there.err);
    let here = Place::new();
    let file = place.path().join("all.ndjson");
    assert_eq!(here.run(&["import", file.to_str().unwrap(), "--json"]).json()["memories"], 2);
}

#[test]
fn a_user_a_session_and_a_thread_are_exported_alone() {
    let place = filled();
    let ada = place.done(&["export", "--user", "ada"]);
    assert!(ada.contains("s-ada") && !ada.contains("otto") && !ada.contains("deal:1"), "{ada}");
    assert_eq!(lines(&ada).len(), 4);
    assert_eq!(lines(&place.done(&["export", "--session", "s-otto"])).len(), 3);
    for (args, name) in [(["--user", "eve"], "eve"), (["--session", "s-9"], "s-9"), (["--thread", "t"], "t")]
    {
        let done = place.run(&[&["export", "--to", "none.ndjson"][..], &args].concat());
        assert_eq!((done.code, done.err), (1, format!("error: not found: `{name}`\n")));
        assert!(!place.path().join("none.ndjson").exists());
    }
    for args in [&["*", "--user", "ada"][..], &["--user", "ada", "--session", "s"], &["--thread-prefix", "t"]]
    {
        assert_eq!(place.run(&[&["export"][..], args].concat()).code, 2, "{args:?}");
    }
}

#[test]
fn what_is_there_is_refused_left_or_replaced_as_it_is_said() {
    let (place, other) = (filled(), Place::new());
    let exported = place.done(&["export"]);
    other.done(&["set", "deal:1", "\"mine\""]);
    let refused = other.pipe(&exported, &["import"]);
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("the entry is there already, and differs"), "{}", refused.err);
    assert!(refused.err.contains("--skip") && refused.err.contains("--replace"), "{}", refused.err);
    assert_eq!(other.done(&["keys"]), "deal:1\n");
    let skipped = other.pipe(&exported, &["import", "--skip"]);
    assert_eq!(skipped.out, "imported 2 entries, 0 partitions with 0 items, 2 memories; 1 left as it was\n");
    assert_eq!(other.done(&["get", "deal:1"]), "\"mine\"\n");
    let replaced = other.pipe(&exported, &["import", "--replace"]);
    assert_eq!(
        replaced.out,
        "imported 1 entry, 0 partitions with 0 items, 0 memories; 4 there already, and equal\n"
    );
    assert_eq!(other.done(&["export"]), exported);
    let lines = other.pipe(r#"{"key":"a","value":1}"#, &["import", "--skip"]);
    assert_eq!((lines.code, lines.err.contains("plain lines are written over")), (2, true), "{}", lines.err);
}

#[test]
fn what_was_changed_or_cut_is_refused_and_nothing_is_written() {
    let (place, other) = (filled(), Place::new());
    let exported = place.done(&["export"]);
    for (text, said) in [
        (exported.replace("15.0", "16.0"), "the checksum of the export does not fit"),
        (exported.replace("\"version\":1", "\"version\":2"), "the export has version 2 of its format"),
        (exported[..exported.len() - 100].to_owned(), "it was cut"),
        (exported[..exported.find("{\"end\"").unwrap()].to_owned(), "it was cut"),
    ] {
        let file = other.file("in.ndjson", text);
        let done = other.run(&["import", file.to_str().unwrap()]);
        assert_eq!(done.code, 2, "{}", done.err);
        assert!(done.err.contains(said) && done.err.contains("\nhint: "), "{}", done.err);
    }
    assert_eq!(other.done(&["keys"]), "");
}

#[test]
fn what_cannot_be_read_is_a_warning_and_the_rest_is_an_export() {
    let (place, other) = (filled(), Place::new());
    let file = rusqlite::Connection::open(place.path().join("ad_buyer.db")).unwrap();
    file.execute("INSERT INTO kv_store (key, value) VALUES ('nan', 'NaN')", []).unwrap();
    let done = place.run(&["export"]);
    assert_eq!(done.code, 3);
    assert!(done.err.starts_with("warning: ") && done.err.contains("`nan`"), "{}", done.err);
    assert!(done.err.contains("error: 1 entry or memory could not be exported"), "{}", done.err);
    assert_eq!(other.pipe(done.out, &["import", "--json"]).json()["entries"], 3);
}
