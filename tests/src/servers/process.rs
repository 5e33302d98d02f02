//! A server's process: how it starts, ends, and comes back.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::account::Account;
use crate::error::Context;
use crate::processes::{Guard, children, id, is_running, signal};
use crate::{Error, Result};

/// Generous, for machines that are busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const ABORT_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
const LOG_LINES: usize = 20;

/// How to start a server, the first time and again.
#[derive(Debug)]
pub(super) struct Launch {
    /// The server's name in errors.
    pub(super) server: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) account: Option<Account>,
    /// The folder that holds all that is the server's, its log too.
    pub(super) folder: PathBuf,
    /// Asks for an orderly end.
    pub(super) stop: Signal,
    /// Asks for the fastest end that leaves nothing of the system's behind.
    pub(super) abort: Signal,
}

/// A server's process, running or not.
#[derive(Debug)]
pub(super) struct Process {
    launch: Launch,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Stands down when this is dropped, which is after the child has ended.
    _guard: Guard,
}

impl Process {
    /// A server that is not running yet.
    pub(super) fn new(launch: Launch) -> Process {
        Process { launch, running: None }
    }

    /// Starts the server, and waits until `is_ready`, which is told the identifier of the process.
    pub(super) fn start(&mut self, is_ready: impl Fn(u32) -> bool) -> Result<()> {
        self.spawn()?;
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Some(Running { child, .. }) = &mut self.running {
                if child.try_wait().context("wait for a server")?.is_some() {
                    self.running = None;
                    return Err(Error::Exited { server: self.launch.server, log: self.end_of_log() });
                }
                if is_ready(child.id()) {
                    return Ok(());
                }
            }
            sleep(POLL);
        }
        Err(Error::NotReady { server: self.launch.server, log: self.end_of_log() })
    }

    fn spawn(&mut self) -> Result<()> {
        self.kill()?;
        let log = self.open_log()?;
        let errors = log.try_clone().context("open a log twice")?;
        let mut command = Command::new(&self.launch.program);
        command.args(&self.launch.arguments).current_dir(&self.launch.folder);
        // A process group of its own keeps the terminal's Ctrl-C from it.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        if let Some(account) = &self.launch.account {
            account.apply(&mut command);
        }
        let child = command.spawn().context(format!("start {}", self.launch.program.display()))?;
        let guard = Guard::watch(id(&child), self.launch.abort, Some(&self.launch.folder))
            .inspect_err(|_| signal(id(&child), Signal::SIGKILL))?;
        self.running = Some(Running { child, _guard: guard });
        Ok(())
    }

    /// Ends the server and its children at once, as a crash of the machine would.
    pub(super) fn kill(&mut self) -> Result<()> {
        // Stopped first, so that it starts no child while its children are being listed.
        let stopped = self.signal_all(Signal::SIGSTOP);
        stopped.iter().for_each(|process| signal(*process, Signal::SIGKILL));
        self.wait(STOP_LIMIT)?;
        // On a busy machine a child takes a moment to die, and Postgres does not start beside one of an earlier life.
        let started = Instant::now();
        while stopped.iter().any(|process| is_running(*process)) && started.elapsed() < STOP_LIMIT {
            sleep(POLL);
        }
        Ok(())
    }

    /// Ends the server in an orderly way.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.end(self.launch.stop, STOP_LIMIT)
    }

    /// Freezes the server and its children: connections stay open, and nobody answers.
    pub(super) fn pause(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Lets a paused server go on.
    pub(super) fn resume(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    /// Sends `which` to the server, then to its children; returns them all.
    fn signal_all(&self, which: Signal) -> Vec<i32> {
        let Some(Running { child, .. }) = &self.running else { return Vec::new() };
        signal(id(child), which);
        let children = children(id(child));
        children.iter().for_each(|process| signal(*process, which));
        std::iter::once(id(child)).chain(children).collect()
    }

    fn end(&mut self, how: Signal, limit: Duration) -> Result<()> {
        if let Some(Running { child, .. }) = &self.running {
            signal(id(child), how);
            self.resume();
        }
        self.wait(limit)?;
        self.kill()
    }

    /// Waits for the server to end.
    fn wait(&mut self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        while let Some(Running { child, .. }) = &mut self.running {
            if child.try_wait().context("wait for a server")?.is_some() {
                self.running = None;
            } else if started.elapsed() < limit {
                sleep(POLL);
            } else {
                break;
            }
        }
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.launch.folder.join("log")
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log_path();
        OpenOptions::new().create(true).append(true).open(&path).context(format!("open {}", path.display()))
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end(self.launch.abort, ABORT_LIMIT);
    }
}
