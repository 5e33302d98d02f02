//! `cargo xtask test`: all tests, against servers of their own.

use crate::result::Result;
use crate::servers;
use crate::shell::Shell;

/// Starts the servers, runs `cargo test`, and stops the servers however that ends.
pub(crate) fn run(shell: &Shell, arguments: &[String]) -> Result<()> {
    let servers = servers::start(shell)?;
    let arguments = cargo_arguments(arguments);
    let mut command = shell.cargo(&arguments);
    command.envs(servers.variables());
    shell.run(command)
}

fn cargo_arguments(given: &[String]) -> Vec<&str> {
    // `--workspace` would override a choice of packages.
    let chooses = |argument: &String| argument.starts_with("-p") || argument.starts_with("--package");
    let scope = if given.iter().any(chooses) { None } else { Some("--workspace") };
    ["test", "--all-features"].into_iter().chain(scope).chain(given.iter().map(String::as_str)).collect()
}

#[cfg(test)]
mod tests {
    use super::cargo_arguments;

    #[test]
    fn a_choice_of_packages_replaces_the_workspace() {
        assert_eq!(cargo_arguments(&[]), ["test", "--all-features", "--workspace"]);
        let given = ["-p".into(), "storage-core".into()];
        assert_eq!(cargo_arguments(&given), ["test", "--all-features", "-p", "storage-core"]);
    }
}
