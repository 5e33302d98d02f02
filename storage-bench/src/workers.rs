//! Running contenders, each in a process of its own.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use storage_bench_harness::{Job, Measured, Result, Task};

use crate::args::Run;
use crate::plan::{Contestant, Program};

const POLL: Duration = Duration::from_millis(2);
/// What a worker may take besides its window: connecting, and one listing that takes longer than the window.
const PATIENCE: Duration = Duration::from_secs(120);
/// Writing ten million entries takes its time.
const PATIENCE_TO_SEED: Duration = Duration::from_secs(3600);

/// The programs that there are.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    own: PathBuf,
    peers: Option<PathBuf>,
    python: Option<Vec<PathBuf>>,
}

impl Workers {
    pub(crate) fn new(own: PathBuf, run: &Run) -> Self {
        Self { own, peers: run.peers.clone(), python: run.python.clone() }
    }

    /// Whether there is a program for it.
    pub(crate) fn can_run(&self, contestant: &Contestant) -> bool {
        self.command(contestant).is_some()
    }

    fn command(&self, contestant: &Contestant) -> Option<Command> {
        match contestant.program {
            Program::Own => {
                let mut command = Command::new(&self.own);
                command.arg("worker");
                Some(command)
            }
            Program::Peers => self.peers.as_ref().map(Command::new),
            Program::Python => {
                let (python, script) = self.python.as_ref()?.split_first()?;
                let mut command = Command::new(python);
                command.args(script);
                Some(command)
            }
        }
    }

    /// Does a job.
    ///
    /// # Errors
    /// What the worker said, when it could not measure.
    pub(crate) fn run(&self, contestant: &Contestant, job: &Job) -> Result<Measured> {
        let mut command = self.command(contestant).ok_or("there is no program for it")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            writeln!(input, "{}", serde_json::to_string(job)?)?;
        }
        let patience = if job.task == Task::Seed { PATIENCE_TO_SEED } else { PATIENCE };
        let ended = wait(&mut child, job.window() * 2 + patience)?;
        let output = read(child.stdout.take())?;
        if ended {
            if let Ok(measured) = serde_json::from_str(&output) {
                return Ok(measured);
            }
            let said = read(child.stderr.take())?;
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(last.into());
        }
        Err("it did not end in time".into())
    }
}

/// Waits for a worker, and kills one that takes too long.
fn wait(child: &mut Child, limit: Duration) -> Result<bool> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        sleep(POLL);
    }
    Ok(true)
}

/// A worker writes less than what a pipe holds, so it may be read after its end.
fn read(pipe: Option<impl Read>) -> Result<String> {
    let mut text = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut text)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
