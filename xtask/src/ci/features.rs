//! Each feature of the crates that have some builds alone: none leans on what another brings in.

use crate::result::Result;
use crate::shell::Shell;
use crate::workspace;

const GATED: [&str; 2] = ["storage-factory", "storage-managed"];

/// Checks them without features, and with each of their features alone.
pub(crate) fn each_alone(shell: &Shell) -> Result<()> {
    for package in GATED {
        check(shell, package, &[])?;
        for feature in features_of(shell, package)? {
            check(shell, package, &["--features", &feature])?;
        }
    }
    Ok(())
}

/// Clippy, because it builds like `cargo check` does, and can refuse the warnings of our own code alone.
fn check(shell: &Shell, package: &str, features: &[&str]) -> Result<()> {
    let build = ["clippy", "--quiet", "-p", package, "--no-default-features"];
    shell.run(shell.cargo(&[&build, features, &["--", "-D", "warnings"]].concat()))
}

fn features_of(shell: &Shell, package: &str) -> Result<Vec<String>> {
    let metadata = workspace::members(shell)?;
    let found = metadata.packages.into_iter().find(|found| found.name.as_str() == package);
    let features = found.ok_or_else(|| format!("there is no {package}"))?.features;
    Ok(features.into_keys().filter(|feature| feature != "default").collect())
}
