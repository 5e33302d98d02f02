//! Jobs that fail, hang and leave something running, by shell scripts that print what test binaries do.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use storage_tests::processes::{is_running, signal};

use super::Runner;
use super::job::{Job, OnLimit, Outcome};
use super::summary::{self, describe};
use crate::shell::Shell;

const PASSES: &str = "echo 'running 1 test'; echo 'test passes ... ok'";
const FAILS: &str = r"
printf 'running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nhow it failed\n\nfailures:\n    b\n'
echo; echo 'test result: FAILED. 1 passed; 1 failed;'; exit 101";

fn job(name: &str, script: &str, on_limit: OnLimit) -> Job {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Job { package: "package".into(), name: name.into(), command, on_limit }
}

fn run(limit: Duration, jobs: Vec<Job>) -> (tempfile::TempDir, Vec<Outcome>) {
    let (shell, logs) = (Shell::new().unwrap(), tempfile::tempdir().unwrap());
    let folder = logs.path().to_owned();
    let runner = Runner { shell: &shell, logs: folder, limit, shows_output: false, shows_empty: false };
    let outcomes = runner.run(jobs).unwrap();
    (logs, outcomes)
}

#[test]
fn a_failure_is_told_and_the_next_job_runs() {
    let passes = || job("passes", PASSES, OnLimit::Kill);
    let crashes = job("crashes", "echo 'running 1 test'; echo last words; kill -s ABRT $$", OnLimit::Kill);
    let jobs = vec![job("fails", FAILS, OnLimit::Kill), passes(), crashes, passes()];
    let (_logs, outcomes) = run(Duration::from_secs(60), jobs);
    let failed: Vec<bool> = outcomes.iter().map(Outcome::is_failure).collect();
    assert_eq!(failed, [true, false, true, false]);
    let log = outcomes[0].log.display();
    let told =
        format!("package fails: exit status: 101\n  b: failed\n    | how it failed\n  output: {log}\n");
    assert_eq!(describe(&outcomes[0]), told);
    let told = describe(&outcomes[2]);
    assert!(
        told.starts_with("package crashes: signal: 6 (SIGABRT)") && told.contains("    | last words\n"),
        "{told}"
    );
    let error = summary::print(&outcomes).unwrap_err();
    assert_eq!(error.to_string(), "2 of 4 test binaries failed");
}

#[test]
fn a_job_that_hangs_is_killed_with_what_it_started_and_the_next_job_runs() {
    let hangs = "trap '' TERM; sleep 600 & echo $!
echo 'running 2 tests'; echo 'test a ... FAILED'; printf 'test b ... '; wait; sleep 600";
    let jobs = vec![job("hangs", hangs, OnLimit::Kill), job("passes", PASSES, OnLimit::Kill)];
    let (_logs, outcomes) = run(Duration::from_secs(2), jobs);
    assert_eq!(outcomes[0].hung.as_deref().unwrap(), ["b"]);
    assert_eq!(outcomes[0].tests.failed, ["a"]);
    assert!(!outcomes[1].is_failure());
    let started = std::fs::read_to_string(&outcomes[0].log).unwrap();
    let started = started.lines().next().unwrap().parse().unwrap();
    wait_until_ended(started);
    let told = describe(&outcomes[0]);
    assert!(told.contains("s, and was killed\n  a: failed\n  b: was running\n  output: "), "{told}");
}

#[test]
fn doctests_go_on_after_a_package_that_hangs() {
    let hangs = "echo '   Doc-tests one'; sh -c 'sleep 600 & echo $!; wait'
echo '   Doc-tests two'; echo 'running 1 test'; echo 'test src/lib.rs - (line 3) ... ok'; exit 101";
    let (_logs, outcomes) = run(Duration::from_secs(2), vec![job("doctests", hangs, OnLimit::KillChildren)]);
    assert_eq!(outcomes[0].hung.as_deref().unwrap(), ["doctests of one"]);
    assert_eq!(outcomes[0].tests.ended, 1);
    let started = std::fs::read_to_string(&outcomes[0].log).unwrap();
    wait_until_ended(started.lines().nth(1).unwrap().parse().unwrap());
}

#[test]
fn a_job_without_tests_is_not_mentioned() {
    let (_logs, outcomes) =
        run(Duration::from_secs(60), vec![job("empty", "echo running 0 tests", OnLimit::Kill)]);
    assert!(outcomes.is_empty());
    summary::print(&outcomes).unwrap();
}

fn wait_until_ended(process: i32) {
    let started = Instant::now();
    while is_running(process) {
        if started.elapsed() > Duration::from_secs(10) {
            signal(process, Signal::SIGKILL);
            panic!("{process} runs still");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
