//! What the crates depend on: drivers only where a feature asks for them, and no younger toolchain than ours.

use cargo_metadata::Package;
use cargo_metadata::semver::Version;

use crate::result::Result;
use crate::shell::Shell;
use crate::workspace;

const SQLITE: &str = "rusqlite";
/// Redis is spoken to by our own crate.
const SERVER_DRIVERS: [&str; 2] = ["storage-redis", "tokio-postgres"];

/// Who only wants a file builds no driver of a server; who wants production gets them all.
pub(crate) fn lean_build(shell: &Shell) -> Result<()> {
    let lean = drivers(shell, &[])?;
    if lean != [SQLITE] {
        return Err(
            format!("by default storage-factory must build {SQLITE} alone, but builds {lean:?}").into()
        );
    }
    let production = drivers(shell, &["--features", "production"])?;
    if production.len() != 1 + SERVER_DRIVERS.len() {
        return Err(
            format!("with `production` storage-factory must build all drivers, not {production:?}").into()
        );
    }
    println!("by default: {}; with `production`: {}", lean.join(", "), production.join(", "));
    Ok(())
}

/// The drivers among the crates that storage-factory builds with.
fn drivers(shell: &Shell, features: &[&str]) -> Result<Vec<&'static str>> {
    let arguments =
        [&["tree", "-p", "storage-factory", "-e", "normal", "--prefix", "none"], features].concat();
    let tree = shell.read(shell.cargo(&arguments))?;
    Ok(drivers_in(&tree))
}

fn drivers_in(tree: &str) -> Vec<&'static str> {
    let builds = |driver: &&str| tree.lines().any(|line| line.split_whitespace().next() == Some(driver));
    std::iter::once(SQLITE).chain(SERVER_DRIVERS).filter(builds).collect()
}

/// No dependency asks for a younger toolchain than the workspace does. (Clippy checks our own code.)
pub(crate) fn oldest_toolchain(shell: &Shell) -> Result<()> {
    let metadata = workspace::members_and_dependencies(shell)?;
    let ours = metadata.workspace_packages().iter().filter_map(|package| package.rust_version.clone()).min();
    let ours = ours.ok_or("no rust-version in the workspace")?;
    let younger = younger_than(&ours, &metadata.packages);
    if younger.is_empty() {
        println!("Rust {ours} builds all {} packages", metadata.packages.len());
        return Ok(());
    }
    Err(format!("rust-version is {ours}, but needed are: {}", younger.join(", ")).into())
}

fn younger_than(ours: &Version, packages: &[Package]) -> Vec<String> {
    let needs = packages.iter().filter_map(|package| Some((package, package.rust_version.as_ref()?)));
    needs
        .filter(|(_, needed)| *needed > ours)
        .map(|(package, needed)| format!("{needed} by {} {}", package.name, package.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_known_by_its_whole_name() {
        let tree = "storage-factory v0.1.0 (/somewhere)\nrusqlite v0.40.0\nstorage-redis-like v1.0.0\ntokio v1.0.0 (*)\n";
        assert_eq!(drivers_in(tree), ["rusqlite"]);
        assert_eq!(
            drivers_in("storage-redis v0.1.0\ntokio-postgres v0.7.0 (*)\n"),
            ["storage-redis", "tokio-postgres"]
        );
    }
}
