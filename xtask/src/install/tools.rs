//! Servers that no system packages: Azurite from npm and moto from PyPI, in a folder of the workspace's.

use storage_tests::programs;

use crate::result::Result;
use crate::shell::Shell;

const AZURITE: &str = "azurite@3.35.0";
const MOTO: &str = "moto[s3,server]==5.2.5";

/// Installs Azurite and moto as far as they are missing.
pub(super) fn install(shell: &Shell) -> Result<()> {
    if programs::azurite_blob().is_err() {
        azurite(shell)?;
    }
    if programs::moto_server().is_err() {
        moto(shell)?;
    }
    programs::azurite_blob()?;
    programs::moto_server()?;
    Ok(())
}

fn azurite(shell: &Shell) -> Result<()> {
    let npm =
        programs::find("npm").ok_or("npm was not found: install Node 20 or newer with npm, for Azurite")?;
    let folder = programs::tools_folder().join("azurite");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.to_str().ok_or("the path of the workspace is not UTF-8")?;
    run(
        shell,
        npm,
        &["install", "--prefix", folder, "--no-save", "--no-audit", "--no-fund", "--loglevel=error", AZURITE],
    )
}

fn moto(shell: &Shell) -> Result<()> {
    let python =
        programs::find("python3").ok_or("python3 was not found: install Python 3.10 or newer, for moto")?;
    let folder = programs::tools_folder().join("moto");
    run(shell, python, &["-m", "venv", folder.to_str().ok_or("the path of the workspace is not UTF-8")?])?;
    run(shell, folder.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", MOTO])
}

/// The standard output is for what the task itself has to say.
fn run(shell: &Shell, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<()> {
    let mut command = shell.command(program, arguments);
    command.stdout(std::io::stderr());
    shell.run(command)
}
