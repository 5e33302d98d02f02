//! What the environment, a `.env` file and the process-wide storage do, seen from outside: each test runs the example
//! `from_environment` as a process of its own.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

/// The example, which `cargo test` builds beside the tests.
fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.ancestors().nth(2).unwrap();
    profile.join("examples/from_environment")
}

struct Run {
    stdout: String,
    stderr: String,
    ok: bool,
}

fn run(folder: &TempDir, variables: &[(&str, &str)]) -> Run {
    let output = Command::new(example())
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(folder.path())
        .output()
        .unwrap();
    Run {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        ok: output.status.success(),
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn without_any_setting_it_is_one_sqlite_file_in_the_working_directory() {
    let folder = folder();
    let run = run(&folder, &[]);
    assert!(run.ok, "{}", run.stderr);
    assert_eq!(run.stdout, "store: sqlite\nshared: true\nread: \"hello\"\nclosed: true\n");
    assert!(folder.path().join("ad_buyer.db").exists());
}

#[test]
fn the_environment_wins_over_the_env_file_and_an_empty_text_is_unset() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "STORAGE_TYPE=memory\nSOMEBODY_ELSES=1\n").unwrap();
    assert!(run(&folder, &[]).stdout.starts_with("store: memory\n"));
    assert!(run(&folder, &[("STORAGE_TYPE", "sqlite")]).stdout.starts_with("store: sqlite\n"));
    assert!(run(&folder, &[("STORAGE_TYPE", "")]).stdout.starts_with("store: memory\n"));
}

#[test]
fn a_wrong_line_of_an_env_file_is_passed_over_and_named_without_its_text() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "\u{feff}STORAGE_TYPE=memory\nTOKEN hunter2 'x\n").unwrap();
    let run = run(&folder, &[]);
    assert!(run.ok && run.stdout.starts_with("store: memory\n"), "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
}

#[test]
fn an_env_file_that_cannot_be_read_is_an_error() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), b"STORAGE_TYPE=\xff\n").unwrap();
    let run = run(&folder, &[]);
    assert!(!run.ok && run.stderr.contains(".env") && run.stderr.contains("UTF-8"), "{}", run.stderr);
}

#[test]
fn a_wrong_setting_in_the_environment_is_named() {
    let folder = folder();
    for (name, text, says) in [
        ("STORAGE_TYPE", "mysql", "Unknown storage type `mysql`"),
        ("STORAGE_OPERATION_TIMEOUT", "soon", "STORAGE_OPERATION_TIMEOUT must be"),
        ("STORAGE_TYPE", "postgres", "PostgreSQL URL required"),
        ("STORAGE_TYPE", "redis", "Redis URL required"),
    ] {
        let run = run(&folder, &[(name, text)]);
        assert!(!run.ok && run.stderr.contains(says), "{name}={text}: {}", run.stderr);
    }
}
