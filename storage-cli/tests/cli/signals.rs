//! Readers that go away, and Ctrl-C.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::Stdio,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::program::{Done, PROGRAM, Place};

fn entries(count: usize) -> String {
    (0..count).map(|n| format!("{{\"key\":\"k{n:05}\",\"value\":\"{}\"}}\n", "x".repeat(200))).collect()
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    assert_eq!(place.pipe(entries(5_000), &["import"]).code, 0);
    for command in [&["keys"][..], &["export"], &["export", "*"]] {
        let mut child = place
            .command(PROGRAM)
            .args(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("k00000") || line.starts_with("{\"export\""));
        let done = Done::new(command, &child.wait_with_output().unwrap());
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{command:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let place = Place::new();
    place.done(&["set", "a", "1"]);
    let output = place.command("sh").args(["-c", "storage export > /dev/full"]).output().unwrap();
    let done = Done::new(&["export"], &output);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("the output cannot be written"), "{}", done.err);
}

#[test]
fn ctrl_c_during_an_import_leaves_whole_batches_and_says_so() {
    let place = Place::new();
    let mut child = place
        .command(PROGRAM)
        .args(["import", "--json"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than one batch; the rest waits for more lines that never come.
    input.write_all(entries(600).as_bytes()).unwrap();
    input.flush().unwrap();
    for _ in 0..400 {
        if place.run(&["exists", "k00499"]).code == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(status.code(), Some(130), "{error}");
    assert!(error.contains("interrupted") && error.contains("500 entries imported before"), "{error}");
    assert_eq!(place.done(&["keys"]).lines().count(), 500);
    drop(input);
}

#[test]
fn ctrl_c_during_the_demo_removes_what_it_wrote() {
    let place = Place::new();
    place.done(&["set", "mine", "1"]);
    let mut child = place
        .command(PROGRAM)
        .args(["demo", "--database-url", "ad_buyer.db"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It then waits for a quote to expire.
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line.contains("open for")), "the demo came to the quotes");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let done = Done::new(&["demo"], &child.wait_with_output().unwrap());
    drop(told);
    assert_eq!((done.code, done.err.as_str()), (130, "error: interrupted; what the demo wrote is removed\n"));
    assert_eq!(place.done(&["keys"]), "mine\n");
}
