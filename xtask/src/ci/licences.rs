//! Licences, sources and advisories of the dependencies, as `deny.toml` rules them.

use std::path::PathBuf;

use storage_tests::programs;

use crate::result::Result;
use crate::shell::Shell;
use crate::workspace;

const PROGRAM: &str = "cargo-deny";
const VERSION: &str = "^0.20";

/// Licences, bans and sources must be right. Advisories need a database from the network: where it cannot be
/// had they are not checked, and that is said.
pub(crate) fn check(shell: &Shell) -> Result<()> {
    let deny = cargo_deny(shell)?;
    let run = |arguments: &[&str]| shell.run(shell.command(&deny, arguments));
    run(&["--all-features", "check", "licenses", "bans", "sources"])?;
    if let Err(error) = shell.read(shell.command(&deny, &["fetch", "db"])) {
        println!("ADVISORIES WERE NOT CHECKED: their database could not be fetched.");
        println!("{}", error.to_string().lines().next().unwrap_or_default());
        return Ok(());
    }
    run(&["--all-features", "check", "--disable-fetch", "advisories"])
}

/// The program: from the `PATH`, or built into the target folder, which takes a few minutes once.
fn cargo_deny(shell: &Shell) -> Result<PathBuf> {
    let folder = workspace::members(shell)?.target_directory.join("tools");
    let built = folder.join("bin").join(PROGRAM).into_std_path_buf();
    if let Some(program) = programs::find(PROGRAM).or_else(|| built.is_file().then(|| built.clone())) {
        return Ok(program);
    }
    let root = folder.as_str();
    shell.run(shell.cargo(&[
        "install",
        "--quiet",
        "--locked",
        "--root",
        root,
        "--version",
        VERSION,
        PROGRAM,
    ]))?;
    Ok(built)
}
