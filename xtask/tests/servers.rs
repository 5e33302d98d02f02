//! `cargo xtask servers` leaves nothing running behind, however it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use storage_tests::processes::{id, signal};

const VARIABLES: usize = 11;

/// Starts the servers; returns the program, the `export` lines that it printed, and what else it prints.
fn start() -> (Child, Vec<String>, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let mut program = command.arg("servers").stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(program.stdout.take().unwrap()).lines();
    let lines: Vec<String> = output.by_ref().take(VARIABLES).map(Result::unwrap).collect();
    assert_eq!(lines.len(), VARIABLES);
    (program, lines, output)
}

/// The ports in `export NAME='scheme://user@host:port,host:port/path'` lines.
fn ports(lines: &[String]) -> Vec<u16> {
    let hosts = lines.iter().flat_map(|line| line.split(['/', ',', '@', '\'', '?']));
    hosts.filter_map(|host| host.split_once(':')?.1.parse().ok()).collect()
}

fn is_open(port: &u16) -> bool {
    TcpStream::connect(("127.0.0.1", *port)).is_ok()
}

fn end(how: Signal) -> ExitStatus {
    // A pipe that is closed early would end the program before the signal does.
    let (mut program, lines, rest) = start();
    let ports = ports(&lines);
    assert_eq!(ports.len(), 10, "{lines:?}");
    assert!(ports.iter().all(is_open));
    signal(id(&program), how);
    let status = program.wait().unwrap();
    let ended = Instant::now();
    while ports.iter().any(is_open) && ended.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(50));
    }
    assert!(!ports.iter().any(is_open), "still open after {how}");
    assert_eq!(rest.count(), 0, "it prints more than {VARIABLES} lines");
    status
}

#[test]
fn a_request_to_end_stops_the_servers() {
    assert_eq!(end(Signal::SIGTERM).code(), Some(130));
}

#[test]
fn a_kill_stops_the_servers_too() {
    assert_eq!(end(Signal::SIGKILL).code(), None);
}
