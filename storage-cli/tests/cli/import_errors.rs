//! An input that is wrong says where and what, and what was imported before.

use crate::program::Place;

fn good(count: usize) -> String {
    (0..count).map(|n| format!("{{\"key\":\"k{n}\",\"value\":{n}}}\n")).collect()
}

#[test]
fn a_malformed_line_is_named_and_what_stands_before_it_is_imported() {
    for (line, what) in [
        ("nonsense", "it is not JSON"),
        ("[]", "it is not a JSON object"),
        (r#"{"value":1}"#, "`key` is missing"),
        (r#"{"key":"k"}"#, "`value` is missing"),
        (r#"{"key":"","value":1}"#, "a key may not be empty"),
        (r#"{"key":"k","value":NaN}"#, "it is not JSON"),
        (r#"{"key":"k","value":"\ud800"}"#, "the value cannot be stored"),
        (r#"{"key":"k","value":1,"expires":true}"#, "it has the field `expires`"),
        (r#"{"key":"k","value":1,"expires_at":"soon"}"#, "`expires_at` is neither a number"),
    ] {
        let place = Place::new();
        let done = place.pipe(format!("{}\n{line}\n{}", good(2), good(9)), &["import"]);
        assert_eq!(done.code, 2, "{line}");
        assert!(done.err.starts_with(&format!("error: line 4: {what}")), "{line}: {}", done.err);
        assert!(done.err.ends_with("2 entries imported before\n"), "{}", done.err);
        assert_eq!(place.done(&["keys"]), "k0\nk1\n");
    }
}

#[test]
fn an_error_far_into_the_input_keeps_the_batches_before_it() {
    let place = Place::new();
    let done = place.pipe(format!("{}secret-value\n", good(1_700)), &["import", "--json"]);
    assert_eq!(done.code, 2);
    let error = done.error();
    assert_eq!(error["kind"], "invalid_input");
    assert_eq!(error["message"], "line 1701: it is not JSON, at column 1; 1,700 entries imported before");
    assert_eq!(place.done(&["keys"]).lines().count(), 1_700);
}

#[test]
fn a_line_without_end_is_refused_in_bounded_memory() {
    let place = Place::new();
    let done = place.pipe("x".repeat(17 * 1024 * 1024), &["import"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("line 1: it has more than"), "{}", done.err);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = Place::new();
    let done = place.run(&["import", "missing.ndjson"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("`missing.ndjson` cannot be read: No such file"), "{}", done.err);
    assert_eq!(place.run(&["import", "."]).code, 2);
}

#[test]
fn input_that_is_not_utf8_is_named() {
    let place = Place::new();
    let file = place.file("in", [good(1).as_bytes(), b"\xff\xfe\n"].concat());
    let done = place.run(&["import", file.to_str().unwrap()]);
    assert_eq!(
        (done.code, done.err.as_str()),
        (2, "error: line 2: it is not UTF-8; 1 entry imported before\n")
    );
}
