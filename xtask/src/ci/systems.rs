//! What is published compiles for Windows and macOS, as far as a check on another system can show.

use storage_tests::programs;

use crate::result::Result;
use crate::shell::Shell;
use crate::workspace::{self, is_published};

const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];
/// In place of compilers and archivers of C: a check links nothing, so it needs no object files.
const DOES_NOTHING: &str = "true";

/// Checks for each system. Its standard library comes through rustup: where it cannot be had, nothing is checked, and that
/// is said.
pub(crate) fn each_compiles(shell: &Shell) -> Result<()> {
    for target in TARGETS {
        if let Err(error) = add(shell, target) {
            println!("{target} WAS NOT CHECKED: its standard library could not be installed.");
            println!("{}", error.to_string().lines().next().unwrap_or_default());
            continue;
        }
        check(shell, target)?;
    }
    Ok(())
}

fn add(shell: &Shell, target: &str) -> Result<()> {
    programs::find("rustup").ok_or("rustup was not found")?;
    shell.read(shell.command("rustup", &["--quiet", "target", "add", target])).map(drop)
}

fn check(shell: &Shell, target: &str) -> Result<()> {
    let metadata = workspace::members(shell)?;
    let published = metadata.packages.iter().filter(|package| is_published(package));
    let mut arguments = vec!["check", "--quiet", "--all-features", "--target", target];
    arguments.extend(published.flat_map(|package| ["-p", package.name.as_str()]));
    let mut command = shell.cargo(&arguments);
    for tool in ["CC", "CXX", "AR"] {
        command.env(format!("{tool}_{}", target.replace('-', "_")), DOES_NOTHING);
    }
    // Keeps macOS' compilers from being asked where its headers are.
    command.env("SDKROOT", "/");
    shell.run(command)
}
