//! `cargo xtask models`: storage-core's shared work under model checkers.

use crate::result::Result;
use crate::shell::Shell;
use crate::workspace;

const CHECKERS: [&str; 2] = ["loom", "shuttle"];

/// Runs the models under each checker, built apart: a checker replaces the primitives of the standard library.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    let target = workspace::members(shell)?.target_directory;
    for checker in CHECKERS {
        let test = ["test", "--release", "--package", "storage-core", "--lib", "engine::models"];
        let mut command = shell.cargo(&test);
        command.env("RUSTFLAGS", format!("--cfg storage_{checker}"));
        command.env("CARGO_TARGET_DIR", target.join("models").join(checker));
        shell.run(command)?;
    }
    Ok(())
}
