//! Running commands, so that an interrupt ends them and lets the task tidy up.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use storage_tests::processes::{Guard, children, id, signal};

use crate::result::Result;

/// What a shell answers for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;
/// How often a running command is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// How long an interrupted command may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Runs commands in the workspace's folder.
pub(crate) struct Shell {
    root: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Shell {
    /// From here on SIGINT, SIGTERM and SIGHUP end the running command and then the task. A second one ends
    /// this program at once.
    pub(crate) fn new() -> Result<Shell> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let exit_code = i32::from(INTERRUPTED);
            signal_hook::flag::register_conditional_shutdown(signal, exit_code, Arc::clone(&interrupted))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().ok_or("xtask lies in no workspace")?.to_path_buf();
        Ok(Shell { root, interrupted })
    }

    /// The workspace's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the task was asked to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Blocks until the task is asked to end.
    pub(crate) fn wait_for_interrupt(&self) {
        while !self.is_interrupted() {
            sleep(POLL);
        }
    }

    /// A command in the workspace's folder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// `cargo` with `arguments`.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        self.command("cargo", arguments)
    }

    /// Shows a command, runs it with its output going where this program's goes, and fails when it fails.
    pub(crate) fn run(&self, command: Command) -> Result<()> {
        let shown = show(&command);
        eprintln!("$ {shown}");
        let status = self.wait(&mut Running::start(command)?)?;
        if self.is_interrupted() {
            return Err("interrupted".into());
        }
        if status.success() { Ok(()) } else { Err(format!("`{shown}` failed: {status}").into()) }
    }

    /// What a command prints, when it succeeds.
    pub(crate) fn read(&self, mut command: Command) -> Result<String> {
        let shown = show(&command);
        let output = command.stdin(Stdio::null()).output().map_err(cannot_run(&shown))?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        Err(format!("`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    fn wait(&self, running: &mut Running) -> Result<ExitStatus> {
        loop {
            if let Some(status) = running.status()? {
                return Ok(status);
            }
            if self.is_interrupted() {
                running.ask_to_end();
            }
            sleep(POLL);
        }
    }
}

/// A command in a process group of its own, so that the commands that it starts can be ended with it. They end with
/// this program, too.
pub(crate) struct Running {
    child: Child,
    asked_at: Option<Instant>,
    _guard: Guard,
}

impl Running {
    /// Starts a command without an input.
    pub(crate) fn start(mut command: Command) -> Result<Running> {
        command.stdin(Stdio::null()).process_group(0);
        let child = command.spawn().map_err(cannot_run(&show(&command)))?;
        let guard = Guard::watch(-id(&child), Signal::SIGTERM, None)?;
        Ok(Running { child, asked_at: None, _guard: guard })
    }

    /// How the command ended, once it has.
    pub(crate) fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks the command and what it started to end. To be called again until it has: who takes too long is killed.
    pub(crate) fn ask_to_end(&mut self) {
        let asked_at = *self.asked_at.get_or_insert_with(Instant::now);
        let how = if asked_at.elapsed() < GRACE { Signal::SIGTERM } else { Signal::SIGKILL };
        signal(-id(&self.child), how);
    }

    /// Kills the command and what it started.
    pub(crate) fn kill(&self) {
        signal(-id(&self.child), Signal::SIGKILL);
    }

    /// Kills what the command waits for, and not the command.
    pub(crate) fn kill_children(&self) {
        children(id(&self.child)).into_iter().for_each(|child| signal(child, Signal::SIGKILL));
    }
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn cannot_run(shown: &str) -> impl FnOnce(std::io::Error) -> String {
    let shown = shown.to_string();
    move |error| format!("cannot run `{shown}`: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named() {
        let shell = Shell::new().unwrap();
        let error = shell.run(shell.command("false", &["really"])).unwrap_err();
        assert_eq!(error.to_string(), "`false really` failed: exit status: 1");
    }

    #[test]
    fn an_interrupt_ends_the_command_and_what_it_started() {
        let shell = Shell::new().unwrap();
        shell.interrupted.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let error = shell.run(shell.command("sh", &["-c", "sleep 60 & sleep 60"])).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        assert!(started.elapsed() < GRACE);
    }
}
