//! What cargo knows about the workspace.

use cargo_metadata::{Metadata, MetadataCommand, Package};

use crate::result::Result;
use crate::shell::Shell;

/// The workspace's packages.
pub(crate) fn members(shell: &Shell) -> Result<Metadata> {
    read(shell, &["metadata", "--format-version", "1", "--no-deps"])
}

/// The workspace's packages and all that they build on.
pub(crate) fn members_and_dependencies(shell: &Shell) -> Result<Metadata> {
    read(shell, &["metadata", "--format-version", "1", "--all-features"])
}

fn read(shell: &Shell, arguments: &[&str]) -> Result<Metadata> {
    Ok(MetadataCommand::parse(shell.read(shell.cargo(arguments))?)?)
}

/// Whether a package is meant for the registry.
pub(crate) fn is_published(package: &Package) -> bool {
    package.publish.as_ref().is_none_or(|registries| !registries.is_empty())
}
