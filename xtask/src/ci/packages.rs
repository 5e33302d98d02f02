//! Each published crate packs into what a registry would take.

use crate::result::Result;
use crate::shell::Shell;
use crate::workspace::{self, is_published};

/// Packs all published crates together, so that those that depend on each other find each other. The code was
/// built by other steps already.
pub(crate) fn each_packs(shell: &Shell) -> Result<()> {
    let metadata = workspace::members(shell)?;
    let published: Vec<_> = metadata.packages.iter().filter(|package| is_published(package)).collect();
    let mut arguments = vec!["package", "--quiet", "--no-verify", "--allow-dirty"];
    for package in &published {
        arguments.extend(["-p", package.name.as_str()]);
    }
    shell.run(shell.cargo(&arguments))?;
    for package in &published {
        let file = format!("{}-{}.crate", package.name, package.version);
        let path = metadata.target_directory.join("package").join(&file);
        let size = path.metadata().map_err(|error| format!("{file} was not packed: {error}"))?.len();
        println!("  {file:<36} {:>6} KiB", size.div_ceil(1024));
    }
    Ok(())
}
