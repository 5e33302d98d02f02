//! What is typed and piped, and what the program makes of it: a table.

use crate::program::{Done, Place};

struct Row<'a> {
    env_file: &'a str,
    variables: &'a [(&'a str, &'a str)],
    input: &'a str,
    args: &'a [&'a str],
    code: i32,
    /// What one of the two outputs holds.
    says: &'a str,
}

const ROW: Row<'_> = Row { env_file: "", variables: &[], input: "", args: &[], code: 2, says: "" };

fn run(row: &Row<'_>) -> (Place, Done) {
    let place = Place::new();
    if !row.env_file.is_empty() {
        place.file(".env", row.env_file);
    }
    let done = place.run_with(row.args, row.variables, row.input.as_bytes());
    (place, done)
}

const INIT: &[&str] = &["init"];
const MARK: &str = "\u{feff}";

/// Runs each row; what is refused has a hint and makes nothing.
fn check(rows: &[Row<'_>]) {
    for row in rows {
        let (place, done) = run(row);
        let both = format!("{}{}", done.out, done.err);
        assert_eq!(done.code, row.code, "{:?}: {both}", row.args);
        assert!(both.contains(row.says), "{:?} says {}: {both}", row.args, row.says);
        assert!(!both.contains("hunter2"), "{both}");
        if row.code == 2 {
            assert!(both.contains("hint: ") || both.contains("must be"), "{both}");
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "{:?}", row.args);
        }
    }
}

#[test]
fn urls_by_table() {
    check(&[
        Row {
            variables: &[("DATABASE_URL", "db.example.com")],
            args: INIT,
            says: "neither a URL nor",
            ..ROW
        },
        Row {
            variables: &[("DATABASE_URL", "memory")],
            args: INIT,
            says: "set STORAGE_TYPE to memory",
            ..ROW
        },
        Row {
            variables: &[("DATABASE_URL", "postgresql//u:hunter2@h/d")],
            args: INIT,
            says: "no colon",
            ..ROW
        },
        Row { args: &["init", "--database-url", "127.0.0.1:6379"], says: "redis://127.0.0.1:6379", ..ROW },
        Row { args: &["init", "--redis-url", "127.0.0.1:6379"], says: "write redis://127.0.0.1:6379", ..ROW },
        Row { args: &["init", "--database-url", "sqlite:///~/x.db"], says: "which only shells know", ..ROW },
        Row {
            args: &["init", "--database-url", "sqlite+file:///~/x"],
            says: "which only shells know",
            ..ROW
        },
        Row { args: &["init", "--database-url", "SQLITE:///x.db"], code: 0, says: "made: sqlite", ..ROW },
        Row { args: &["init", "--database-url", "./agent"], code: 0, says: "made: sqlite, ./agent", ..ROW },
        Row { variables: &[("POSTGRES_TLS_VERIFY", "off")], args: INIT, says: "must be full or none", ..ROW },
        Row {
            variables: &[("POSTGRES_READ_URL", "x")],
            args: INIT,
            says: "POSTGRES_READ_URL must be",
            ..ROW
        },
    ]);
}

#[test]
fn env_files_by_table() {
    let marked = format!("{MARK}DATABASE_URL=sqlite:///dot.db\n");
    check(&[
        Row { env_file: &marked, args: INIT, code: 0, says: "dot.db", ..ROW },
        Row { env_file: "DATABASE_URL='./pa$word.db'", args: INIT, code: 0, says: "./pa$word.db", ..ROW },
        Row {
            env_file: "X=dot\nDATABASE_URL=./${X}${Y:-s}.db",
            args: INIT,
            code: 0,
            says: "./dots.db",
            ..ROW
        },
        Row {
            env_file: "A=1\nB: hunter2\n",
            args: INIT,
            code: 0,
            says: "warning: line 2 of the file .env",
            ..ROW
        },
        Row {
            env_file: "TOKEN hunter2 'x",
            args: &["init", "--json"],
            code: 0,
            says: "{\"warning\":{",
            ..ROW
        },
    ]);
}

#[test]
fn durations_and_marks_by_table() {
    let imported = format!("{MARK}{{\"key\":\"a\",\"value\":1}}\n");
    check(&[
        Row { args: &["set", "k", "1", "--ttl", "1.5s"], code: 0, says: "written: k, for 1.5s\n", ..ROW },
        Row {
            args: &["set", "k", "1", "--ttl", "1.5s", "--json"],
            code: 0,
            says: "\"expires_in\":1.5,",
            ..ROW
        },
        Row { args: &["set", "k", "1", "--ttl", "90m 20ms"], code: 0, says: ", for 1h 30m 0.02s\n", ..ROW },
        Row { input: &imported, args: &["import"], code: 0, says: "imported 1 entry", ..ROW },
        Row { input: MARK, args: &["import"], code: 0, says: "imported 0 entries", ..ROW },
        Row { input: "\u{feff}{\"a\":1}", args: &["set", "k", "-"], code: 0, says: "written: k", ..ROW },
    ]);
}

/// Whether the build has Postgres or not, it is the server that is not there.
#[test]
fn libpqs_form_is_postgres_and_no_file() {
    let url = "host=127.0.0.1 port=1 user=app password=hunter2 dbname=agent";
    let variables = [("DATABASE_URL", url), ("STORAGE_OPERATION_TIMEOUT", "1s")];
    let (place, done) = run(&Row { variables: &variables, args: INIT, ..ROW });
    assert!([2, 3].contains(&done.code) && done.err.contains("postgres"), "{}", done.err);
    assert!(!done.err.contains("hunter2"), "{}", done.err);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
