//! `cargo xtask test`: all tests, against servers of their own. What fails or hangs keeps nothing else from running.

mod build;
mod job;
mod output;
mod request;
mod summary;
mod terminal;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::result::Result;
use crate::shell::Shell;
use crate::{servers, workspace};
use job::{Job, Outcome};
use request::Request;
use terminal::Terminal;

const LIMIT: u64 = 10;

/// What to test.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Minutes after which a test binary that has not ended is killed.
    #[arg(long, value_name = "MINUTES", default_value_t = LIMIT)]
    limit: u64,
    /// Arguments as of `cargo test`: `-p storage-redis ttl -- --nocapture`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments { limit: LIMIT, arguments: Vec::new() }
    }
}

/// Builds the tests, starts the servers, runs each test binary and the doctests, stops the servers however that ends, and
/// fails when anything failed.
pub(crate) fn run(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let request = Request::new(&arguments.arguments);
    let logs = workspace::members(shell)?.target_directory.join("test-logs").into_std_path_buf();
    std::fs::create_dir_all(&logs)?;
    let servers = servers::start(shell)?;
    let mut jobs = build::jobs(shell, &request, &logs)?;
    for job in &mut jobs {
        job.command.envs(servers.variables());
    }
    let runner = Runner {
        shell,
        logs,
        limit: Duration::from_secs(arguments.limit.saturating_mul(60)),
        shows_output: request.shows_output(),
        shows_empty: !request.has_filters(),
    };
    summary::print(&runner.run(jobs)?)
}

/// Runs jobs one after the other.
struct Runner<'a> {
    shell: &'a Shell,
    /// Where the output of each job is kept.
    logs: PathBuf,
    limit: Duration,
    shows_output: bool,
    /// Whether binaries without a test are worth a line.
    shows_empty: bool,
}

impl Runner<'_> {
    /// Runs all jobs, however many fail, and says of each how it ended. Ends early when the task is interrupted.
    fn run(&self, jobs: Vec<Job>) -> Result<Vec<Outcome>> {
        let mut terminal = Terminal::new(&jobs, self.shows_output);
        let mut outcomes = Vec::new();
        for job in jobs {
            let log = self.logs.join(job.log_name());
            let outcome = job.run(self.shell, self.limit, log, |progress| terminal.show(progress))?;
            if self.shows_empty || !outcome.is_empty() {
                terminal.ended(&outcome);
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }
}
