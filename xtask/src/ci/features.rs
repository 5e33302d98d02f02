//! Each feature of storage-factory builds alone: none leans on what another brings in.

use crate::shell::Shell;
use crate::{Result, workspace};

const FACTORY: &str = "storage-factory";

/// Checks the factory without features, and with each of its features alone.
pub(crate) fn each_alone(shell: &Shell) -> Result<()> {
    check(shell, &[])?;
    for feature in factory_features(shell)? {
        check(shell, &["--features", &feature])?;
    }
    Ok(())
}

/// Clippy, because it builds like `cargo check` does, and can refuse the warnings of our own code alone.
fn check(shell: &Shell, features: &[&str]) -> Result<()> {
    let build = ["clippy", "--quiet", "-p", FACTORY, "--no-default-features"];
    shell.run(shell.cargo(&[&build, features, &["--", "-D", "warnings"]].concat()))
}

fn factory_features(shell: &Shell) -> Result<Vec<String>> {
    let metadata = workspace::members(shell)?;
    let factory = metadata.packages.into_iter().find(|package| package.name.as_str() == FACTORY);
    let features = factory.ok_or("there is no storage-factory")?.features;
    Ok(features.into_keys().filter(|feature| feature != "default").collect())
}
