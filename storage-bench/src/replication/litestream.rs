//! The other program.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use storage_bench_harness::Result;
use storage_tests::processes::{Guard, id, is_running};

/// A replication that runs until this is dropped.
pub(super) struct Litestream {
    process: Child,
    _guard: Guard,
}

impl Litestream {
    pub(super) fn start(program: &Path, config: &Path) -> Result<Self> {
        let process = command(program, "replicate", config).args(["-log-level", "error"]).spawn()?;
        let guard = Guard::watch(id(&process), Signal::SIGKILL, None)?;
        Ok(Self { process, _guard: guard })
    }

    /// Whether it still runs: nothing arrives otherwise, and it has said why.
    pub(super) fn check(&self) -> Result<()> {
        if is_running(id(&self.process)) { Ok(()) } else { Err("litestream has ended".into()) }
    }

    /// Rebuilds the database `original` of the configuration into a new file.
    pub(super) fn restore(program: &Path, config: &Path, original: &Path, file: &Path) -> Result<()> {
        let status = command(program, "restore", config).arg("-o").arg(file).arg(original).spawn()?.wait()?;
        if status.success() { Ok(()) } else { Err(format!("litestream restore: {status}").into()) }
    }

    pub(super) fn version(program: &Path) -> Result<String> {
        let output = Command::new(program).arg("version").stdin(Stdio::null()).output()?;
        Ok(format!("Litestream {}", String::from_utf8(output.stdout)?.trim()))
    }
}

impl Drop for Litestream {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(program: &Path, what: &str, config: &Path) -> Command {
    let mut command = Command::new(program);
    // The standard output is for the figures.
    // The bucket is on this machine, whatever certificates the environment asks for.
    command.env_remove("AWS_CA_BUNDLE");
    command.args([what, "-config"]).arg(config).stdin(Stdio::null()).stdout(std::io::stderr());
    command
}
