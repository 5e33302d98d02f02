//! Child processes that end with the program that started them.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;
use crate::error::Context;

/// Waits for its standard input to end, which it does when the program that holds the other end does, then
/// ends the process `$2` with signal `$1` and removes the folder `$3`. A line read first means: stand down.
const WATCH: &str = r#"
read -r _ && exit 0
kill -s "$1" -- "$2"
kill -s CONT -- "$2"
tries=0
while kill -s 0 -- "$2" && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "$2"
[ -z "$3" ] || rm -rf -- "$3"
"#;

/// Ends a child process when this program ends without having done so, be it by SIGKILL.
///
/// A shell waits at the end of a pipe. (Linux could signal the child at its parent's death, but it counts the
/// *thread* that started the child as the parent, and threads of tests end early.)
#[derive(Debug)]
pub struct Guard {
    shell: Child,
}

impl Guard {
    /// Watches over the process `target`, or over the process group when `target` is negative.
    ///
    /// # Errors
    ///
    /// When no shell can be started.
    pub fn watch(target: i32, signal: Signal, folder: Option<&Path>) -> Result<Guard> {
        let shell = Command::new("/bin/sh")
            .args(["-c", WATCH, "guard", signal.as_str().trim_start_matches("SIG"), &target.to_string()])
            .arg(folder.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .spawn()
            .context("start a shell")?;
        Ok(Guard { shell })
    }
}

impl Drop for Guard {
    /// Stands down: the process is the program's own affair again.
    fn drop(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            let _ = pipe.write_all(b"stand down\n");
        }
        let _ = self.shell.wait();
    }
}

/// Sends `signal` to the process `target`, or to the process group when `target` is negative. A process that
/// is gone already is no error.
pub fn signal(target: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(target), signal);
}

/// Identifier of a child as the system's calls want it.
#[must_use]
pub fn id(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

/// The direct children of the process `parent`.
#[must_use]
pub fn children(parent: i32) -> Vec<i32> {
    // A bare Linux machine has no `ps`, and other systems have no `/proc`.
    let Ok(processes) = std::fs::read_dir("/proc") else {
        let listing = Command::new("ps").args(["-A", "-o", "ppid=,pid="]).output();
        return listing
            .map(|output| listed(&String::from_utf8_lossy(&output.stdout), parent))
            .unwrap_or_default();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| parent_of(*process) == Some(parent))
        .collect()
}

/// Whether a process still runs. One that has ended and that nobody has waited for does not.
#[must_use]
pub fn is_running(process: i32) -> bool {
    match status_of(process) {
        Some((state, _)) => !matches!(&*state, "Z" | "X"),
        None => !Path::new("/proc/self").exists() && kill(Pid::from_raw(process), None).is_ok(),
    }
}

fn parent_of(process: i32) -> Option<i32> {
    status_of(process).map(|(_, parent)| parent)
}

/// The state and the parent of a process, from Linux's `/proc/<process>/stat`: `12 (a name) S 1 ...`.
fn status_of(process: i32) -> Option<(String, i32)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold anything, parentheses included.
    let (_, after_name) = status.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// The children of `parent` among the lines `parent child` of `ps`.
fn listed(listing: &str, parent: i32) -> Vec<i32> {
    let pairs = listing.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    pairs
        .filter(|(of, _)| of.parse() == Ok(parent))
        .filter_map(|(_, process)| process.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_until(is_true: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_true() {
            assert!(started.elapsed() < Duration::from_secs(10));
            sleep(Duration::from_millis(10));
        }
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").process_group(0).spawn().unwrap()
    }

    #[test]
    fn a_guard_ends_the_process_and_removes_the_folder() {
        let (kept, removed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ready, ended) = (kept.path().join("ready"), kept.path().join("ended"));
        let tidies_up = r#"trap 'sleep 0.5; : >"$2"; exit' TERM; : >"$1"; while :; do sleep 0.05; done"#;
        let mut command = Command::new("sh");
        command.args(["-c", tidies_up, "sh"]).args([&ready, &ended]).process_group(0);
        let mut child = command.spawn().unwrap();
        wait_until(|| ready.exists());
        let mut guard = Guard::watch(-id(&child), Signal::SIGTERM, Some(removed.path())).unwrap();
        drop(guard.shell.stdin.take()); // What the system does when the program ends.
        child.wait().unwrap();
        guard.shell.wait().unwrap();
        assert!(ended.exists(), "the process was not given the time to end in its own way");
        assert!(!removed.path().exists());
    }

    #[test]
    fn a_guard_that_stood_down_harms_nothing() {
        let mut child = sleeper();
        let folder = tempfile::tempdir().unwrap();
        drop(Guard::watch(id(&child), Signal::SIGTERM, Some(folder.path())).unwrap());
        assert!(child.try_wait().unwrap().is_none());
        assert!(folder.path().exists());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn children_are_found() {
        let mut child = sleeper();
        let me = i32::try_from(std::process::id()).unwrap();
        wait_until(|| children(me).contains(&id(&child)));
        assert!(is_running(id(&child)));
        child.kill().unwrap();
        // Before anybody has waited for it.
        wait_until(|| !is_running(id(&child)));
        child.wait().unwrap();
    }

    #[test]
    fn a_listing_of_ps_is_read() {
        assert_eq!(listed("    1     7\n   12    34\n    1 99999\n", 1), [7, 99999]);
    }
}
