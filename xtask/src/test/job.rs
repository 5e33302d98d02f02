//! A test binary, from its start to its end.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::output::Tests;
use crate::result::Result;
use crate::shell::{POLL, Running, Shell};

/// A test binary, or the doctests.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) package: String,
    pub(super) name: String,
    pub(super) command: Command,
    pub(super) on_limit: OnLimit,
}

/// What happens to a job that has not ended in time.
#[derive(Debug, Clone, Copy)]
pub(super) enum OnLimit {
    /// It is killed.
    Kill,
    /// What it waits for is killed, and it has the same time once more.
    KillChildren,
}

/// How far a job is.
pub(super) struct Progress<'a> {
    pub(super) package: &'a str,
    pub(super) name: &'a str,
    pub(super) time: Duration,
    pub(super) tests: &'a Tests,
    /// What it printed since the last time.
    pub(super) printed: &'a [u8],
}

/// How a job ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) package: String,
    pub(super) name: String,
    /// Where all that it printed is.
    pub(super) log: PathBuf,
    pub(super) time: Duration,
    pub(super) status: ExitStatus,
    pub(super) tests: Tests,
    /// Who was running when the limit was reached; none when it was not.
    pub(super) hung: Option<Vec<String>>,
}

impl Outcome {
    pub(super) fn is_failure(&self) -> bool {
        self.hung.is_some() || !self.status.success()
    }

    /// Whether it had nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_failure() && self.tests.announced == 0
    }
}

impl Job {
    pub(super) fn log_name(&self) -> String {
        format!("{}.{}.log", self.package, self.name.replace(' ', "."))
    }

    /// Runs it, for as long as it takes or `limit` allows; `show` is called again and again.
    pub(super) fn run(
        mut self,
        shell: &Shell,
        limit: Duration,
        log: PathBuf,
        mut show: impl FnMut(&Progress<'_>),
    ) -> Result<Outcome> {
        let output = File::create(&log)?;
        self.command.stdout(output.try_clone()?).stderr(output);
        let mut printed = Printed { log: File::open(&log)?, tests: Tests::default() };
        let mut running = Running::start(self.command)?;
        let (started, mut limited_from) = (Instant::now(), Instant::now());
        let mut hung = None;
        let status = loop {
            let status = running.status()?;
            let new = printed.read()?;
            show(&Progress {
                package: &self.package,
                name: &self.name,
                time: started.elapsed(),
                tests: &printed.tests,
                printed: &new,
            });
            if let Some(status) = status {
                break status;
            }
            if shell.is_interrupted() {
                running.ask_to_end();
            } else if limited_from.elapsed() > limit {
                limited_from = Instant::now();
                hung.get_or_insert_with(Vec::new).extend(printed.tests.running());
                match self.on_limit {
                    OnLimit::Kill => running.kill(),
                    OnLimit::KillChildren => running.kill_children(),
                }
            }
            sleep(POLL);
        };
        if hung.is_some() {
            running.kill(); // What its children left.
        }
        if shell.is_interrupted() {
            return Err("interrupted".into());
        }
        let (tests, time) = (printed.tests, started.elapsed());
        Ok(Outcome { package: self.package, name: self.name, log, time, status, tests, hung })
    }
}

/// What a job prints, followed through its log: a pipe would stay open for as long as anything that it started.
struct Printed {
    log: File,
    tests: Tests,
}

impl Printed {
    /// What is new.
    fn read(&mut self) -> Result<Vec<u8>> {
        let mut new = Vec::new();
        self.log.read_to_end(&mut new)?;
        self.tests.read(&String::from_utf8_lossy(&new));
        Ok(new)
    }
}
