//! Which store is used, and what is said when that is not clear.

use serde_json::json;

use crate::program::Place;

#[test]
fn options_win_over_the_environment() {
    let place = Place::new();
    let environment = [("DATABASE_URL", "sqlite:///env.db")];
    assert_eq!(place.run_in(&environment, &["set", "k", "1"]).code, 0);
    assert_eq!(place.run_in(&environment, &["set", "k", "2", "--database-url", "option.db"]).code, 0);
    assert_eq!(place.run_in(&environment, &["get", "k"]).out, "1\n");
    assert_eq!(place.done(&["--database-url", "sqlite:///option.db", "get", "k"]), "2\n");
    assert_eq!(place.run_in(&environment, &["get", "k", "--type", "MEMORY"]).code, 1);
}

#[test]
fn one_url_as_an_option_decides_alone() {
    let place = Place::new();
    let elsewhere = [("STORAGE_TYPE", "redis"), ("REDIS_URL", "redis://127.0.0.1:1/0")];
    let done = place.run_in(&elsewhere, &["set", "k", "1", "--database-url", "own.db"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(place.path().join("own.db").exists());
    let done =
        place.run_in(&[("STORAGE_TYPE", "sqlite")], &["get", "k", "--redis-url", "redis://127.0.0.1:1/0"]);
    assert!(done.err.contains("redis"), "{}", done.err);
}

#[test]
fn a_dot_env_file_is_read() {
    let place = Place::new();
    place.file(".env", "DATABASE_URL=sqlite:///dot.db\n");
    place.done(&["set", "k", "1"]);
    assert!(place.path().join("dot.db").exists());
}

#[test]
fn an_unknown_type_names_those_that_there_are() {
    let place = Place::new();
    let done = place.run(&["--type", "oracle", "get", "k"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("Unknown storage type `oracle`"), "{}", done.err);
    assert!(done.err.contains("compiled in: memory"), "{}", done.err);
}

#[test]
fn a_missing_url_says_which() {
    let place = Place::new();
    for (name, wanted) in [
        ("redis", "Redis URL required"),
        ("postgres", "PostgreSQL URL required"),
        ("hybrid", "PostgreSQL URL required"),
    ] {
        let done = place.run(&["--type", name, "get", "k", "--json"]);
        assert_eq!(done.code, 2, "{name}");
        let error = done.error();
        assert_eq!((&error["kind"], &error["message"]), (&json!("config"), &json!(wanted)));
        assert!(error["hint"].as_str().unwrap().contains("_URL"));
    }
}

#[test]
fn a_malformed_setting_is_named() {
    let place = Place::new();
    let done = place.run_in(&[("STORAGE_OPERATION_TIMEOUT", "soon")], &["get", "k"]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("STORAGE_OPERATION_TIMEOUT must be a duration"), "{}", done.err);
    assert_eq!(place.run(&["get", "k", "--timeout", "5"]).code, 2);
    place.done(&["init"]);
    assert_eq!(place.run(&["get", "k", "--timeout", "1500ms"]).code, 1);
}

/// Where the build lacks the backend the answer is 2, where the server does not answer it is 3: a password shows in
/// neither.
#[test]
fn a_password_is_never_shown() {
    let place = Place::new();
    for url in [
        "redis://user:hunter2@127.0.0.1:1/0",
        "postgresql://user:hunter2@127.0.0.1:1/db",
        "odd://u:hunter2@h",
    ] {
        let option = if url.starts_with("redis") { "--redis-url" } else { "--database-url" };
        for args in [
            &[option, url, "--timeout", "1s", "get", "k"][..],
            &[option, url, "--timeout", "1s", "health"],
            &["get", "k", url],
            &["get", "k", "--timeout", url],
            &[url],
            &["increment", "k", url],
        ] {
            for json in [false, true] {
                let args = [args, if json { &["--json"] } else { &[] }].concat();
                let done = place.run(&args);
                assert!((1..=3).contains(&done.code), "{args:?}");
                assert!(!format!("{}{}", done.out, done.err).contains("hunter2"), "{args:?}: {done:?}");
            }
        }
    }
}

#[test]
fn wrong_usage_is_told_to_people_and_to_programs() {
    let place = Place::new();
    for args in [&["get"][..], &["nonsense"], &["get", "a", "b"], &["--nonsense"], &["completions", "tcl"]] {
        let done = place.run(args);
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{args:?}");
        assert!(done.err.starts_with("error: "), "{args:?}: {}", done.err);
        let done = place.run(&[args, &["--json"]].concat());
        assert_eq!((done.code, &done.error()["kind"]), (2, &json!("usage")), "{args:?}");
    }
    assert_eq!(place.run(&["--json"]).error()["message"], "a command is missing");
    let bare = place.run(&[]);
    assert_eq!(bare.code, 2);
    assert!(bare.err.contains("Usage: storage"), "{}", bare.err);
}

#[test]
fn help_and_version_are_no_errors() {
    let place = Place::new();
    assert!(place.done(&["--help"]).contains("Exit codes:"));
    assert!(place.done(&["help", "set"]).contains("--if-absent"));
    assert!(place.done(&["--version"]).starts_with("storage "));
}

#[test]
fn a_file_that_is_no_database_is_a_wrong_setting() {
    let place = Place::new();
    place.file("text.db", "this is no database, whatever its name says".repeat(100));
    for command in [&["get", "k"][..], &["stats"]] {
        let done = place.run(&[&["--database-url", "text.db"], command].concat());
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{}", done.err);
        assert!(
            done.err.starts_with("error: sqlite connect: ") && done.err.contains("\nhint: "),
            "{}",
            done.err
        );
    }
}

#[test]
fn a_store_that_does_not_answer_is_a_failure_in_one_line_with_a_hint() {
    let place = Place::new();
    let _locked = place.locked("locked.db");
    let options = ["--database-url", "locked.db", "--timeout", "300ms"];
    let done = place.run(&[&options[..], &["set", "k", "1"]].concat());
    assert_eq!((done.code, done.err.lines().count()), (3, 2), "{}", done.err);
    assert!(done.err.starts_with("error: sqlite ") && done.err.contains("\nhint: "), "{}", done.err);
    assert!(!done.err.contains("Error {"), "{}", done.err);
    let done = place.run(&[&options[..], &["set", "k", "1", "--json"]].concat());
    assert_eq!(done.code, 3);
    assert!(done.error()["hint"].is_string());
}

#[test]
fn a_certificate_that_nobody_verifies_is_warned_of() {
    let place = Place::new();
    let url = ("DATABASE_URL", "postgresql://u@127.0.0.1:1/d");
    let done = place.run_in(&[url, ("POSTGRES_TLS_VERIFY", "none")], &["get", "k"]);
    if done.err.contains("needs the feature `postgres`") {
        return assert_eq!(done.code, 2, "of a build without it");
    }
    assert!(
        done.err.starts_with("warning: the certificate of the Postgres server is not verified"),
        "{}",
        done.err
    );
    let done = place.run_in(&[url], &["get", "k"]);
    assert!(done.code == 3 && done.err.starts_with("error: "), "{}", done.err);
}
