//! Finding the server programs, wherever a system keeps them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

const INSTALL_REDIS: &str = "install Redis 6.2 or newer (Debian, Ubuntu: `apt-get install redis-server`; \
                             macOS: `brew install redis`)";
const INSTALL_POSTGRES: &str = "install Postgres 13 or newer with its client (Debian, Ubuntu: `apt-get install \
                                postgresql postgresql-client`; macOS: `brew install postgresql`)";

const INSTALL_PGBOUNCER: &str =
    "install PgBouncer (Debian, Ubuntu: `apt-get install pgbouncer`; macOS: `brew install pgbouncer`)";

const INSTALL_NODE_TOOL: &str =
    "run `cargo xtask servers`, which installs it where Node 20 with npm is installed";
const INSTALL_VALKEY: &str = "install Valkey 8 or newer (Debian 13, Ubuntu: `apt-get install valkey-server`; macOS: \
                              `brew install valkey`), or Python 3.11 or newer with its venv module and run `cargo xtask servers`";
const INSTALL_PYTHON_TOOL: &str = "run `cargo xtask servers`, which installs it where Python 3.10 or newer with its venv module is installed";
const INSTALL_LITESTREAM: &str = "run `cargo xtask bench --only managed`, which installs it where Python 3.10 or newer with its venv module is installed";

/// Folders, besides those on the `PATH`, where package managers put programs.
const USUAL_FOLDERS: [&str; 4] = ["/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/usr/sbin"];
/// Folders with one folder per installed version of Postgres: Debian's, Red Hat's, and Homebrew's two.
const POSTGRES_FOLDERS: [&str; 4] = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"];
const POSTGRES_PROGRAMS: [&str; 3] = ["postgres", "initdb", "psql"];

/// Path of `redis-server`.
///
/// # Errors
///
/// [`Error::MissingProgram`], which says what to install.
pub fn redis_server() -> Result<PathBuf> {
    find("redis-server")
        .ok_or(Error::MissingProgram { program: "redis-server".into(), install: INSTALL_REDIS })
}

/// Path of `valkey-server`.
///
/// # Errors
///
/// [`Error::MissingProgram`], which says what to install.
pub fn valkey_server() -> Result<PathBuf> {
    tool("valkey/bin", "valkey-server", INSTALL_VALKEY)
}

/// The folder that holds `postgres`, `initdb` and `psql` of one version, the newest that is installed unless
/// the `PATH` names one.
///
/// # Errors
///
/// [`Error::MissingProgram`], which says what to install.
pub fn postgres_folder() -> Result<PathBuf> {
    // A link on the PATH leads to the folder where the other programs of its version are.
    let on_path = find("postgres").and_then(|program| program.canonicalize().ok());
    let on_path = on_path.and_then(|program| program.parent().map(Path::to_path_buf));
    on_path
        .into_iter()
        .chain(POSTGRES_FOLDERS.iter().flat_map(|folder| postgres_versions(Path::new(folder))))
        .find(|folder| POSTGRES_PROGRAMS.iter().all(|program| is_program(&folder.join(program))))
        .ok_or(Error::MissingProgram { program: POSTGRES_PROGRAMS.join(", "), install: INSTALL_POSTGRES })
}

/// Path of `pgbouncer`.
///
/// # Errors
///
/// [`Error::MissingProgram`], which says what to install.
pub fn pgbouncer() -> Result<PathBuf> {
    find("pgbouncer").ok_or(Error::MissingProgram { program: "pgbouncer".into(), install: INSTALL_PGBOUNCER })
}

/// The folder into which `cargo xtask` installs what the system's packages do not offer.
#[must_use]
pub fn tools_folder() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).join("target/tools")
}

/// Path of `azurite-blob`.
///
/// # Errors
///
/// [`Error::MissingProgram`], which says what to install.
pub fn azurite_blob() -> Result<PathBuf> {
    tool("azurite/node_modules/.bin", "azurite-blob", INSTALL_NODE_TOOL)
}

/// Path of `moto_server`.
///
/// # Errors
///
/// [`Error::MissingProgram`], which says what to install.
pub fn moto_server() -> Result<PathBuf> {
    tool("moto/bin", "moto_server", INSTALL_PYTHON_TOOL)
}

/// Path of `litestream`.
///
/// # Errors
///
/// [`Error::MissingProgram`], which says what to install.
pub fn litestream() -> Result<PathBuf> {
    tool("litestream/bin", "litestream", INSTALL_LITESTREAM)
}

/// A program of the tools' folder, whose version is known, or of the system.
fn tool(folder: &str, name: &str, install: &'static str) -> Result<PathBuf> {
    let installed = tools_folder().join(folder).join(name);
    let found = if is_program(&installed) { Some(installed) } else { find(name) };
    found.ok_or(Error::MissingProgram { program: name.into(), install })
}

/// Path of the program `name`: on the `PATH`, or where package managers put it.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "programs are found on the PATH")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(name, &path)
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .chain(USUAL_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| is_program(program))
}

/// The `bin` folders of the Postgres versions under `root`, newest first.
fn postgres_versions(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((postgres_version(entry.file_name().to_str()?)?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// The version that a folder's name states: `15`, `pgsql-15`, `postgresql@15`.
fn postgres_version(folder: &str) -> Option<u32> {
    let digits = ["pgsql-", "postgresql@"].iter().find_map(|prefix| folder.strip_prefix(prefix));
    digits.unwrap_or(folder).parse().ok()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_newest_postgres_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "15", "postgresql@17", "pgsql-13", "lib", "postgresql-common"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let found = postgres_versions(root.path());
        let expected =
            ["postgresql@17", "15", "pgsql-13", "9"].map(|name| root.path().join(name).join("bin"));
        assert_eq!(found, expected);
    }

    #[test]
    fn only_what_can_be_run_is_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("a-server");
        fs::write(&program, "").unwrap();
        assert_eq!(find_in("a-server", folder.path().as_os_str()), None);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in("a-server", folder.path().as_os_str()), Some(program));
    }

    #[test]
    fn a_missing_folder_has_no_versions() {
        assert!(postgres_versions(Path::new("/no/such/folder")).is_empty());
    }
}
