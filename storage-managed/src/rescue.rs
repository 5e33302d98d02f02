//! Databases that were kept because they had diverged.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rusqlite::Connection;

use crate::{
    cache::{Paths, State},
    error::{Error, Result},
    target::check_new_file,
};

/// A database that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rescued {
    /// The folder that holds it: `database.db`, and `database.db-wal` with what was committed last.
    pub path: PathBuf,
    /// When it was kept, where the file system tells.
    pub kept_at: Option<SystemTime>,
    /// Its size in bytes, the log included.
    pub bytes: u64,
}

pub(crate) fn list(paths: &Paths) -> Result<Vec<Rescued>> {
    rescued(&paths.folder)
}

/// The databases that were kept in a cache folder, the oldest first.
///
/// # Errors
/// [`Error::Io`].
pub fn rescued(cache: &Path) -> Result<Vec<Rescued>> {
    let folder = Paths::new(cache).rescue();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", &folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        let length = |name: &str| fs::metadata(path.join(name)).map_or(0, |file| file.len());
        let bytes = length("database.db") + length("database.db-wal");
        let kept_at = fs::metadata(&path).and_then(|folder| folder.modified()).ok();
        found.push(Rescued { path, kept_at, bytes });
    }
    found.sort_by_key(|rescued| rescued.kept_at);
    Ok(found)
}

/// Removes a database that was kept in a cache folder, for good. One that is gone already is no error.
///
/// # Errors
/// [`Error::Unsupported`] for a folder that is none of [`rescued`]; [`Error::Diverged`] for the one that a person still has to
/// decide about; [`Error::Io`].
pub fn remove_rescued(cache: &Path, rescued: &Path) -> Result<()> {
    let paths = Paths::new(cache);
    if rescued.parent() != Some(paths.rescue().as_path()) {
        return Err(Error::Unsupported(format!("`{}` was not kept by this cache", rescued.display())));
    }
    let undecided = State::read(&paths.state())?.and_then(|state| state.diverged);
    if undecided.as_deref() == Some(rescued) {
        return Err(Error::Diverged { path: rescued.to_owned() });
    }
    match fs::remove_dir_all(rescued) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", rescued)(error)),
        _ => Ok(()),
    }
}

/// Writes a database that was kept to a new file without a log, for any tool to read. What was kept stays as it is.
///
/// # Errors
/// [`Error::Unsupported`] where [`check_new_file`] refuses the file; [`Error::Sqlite`] and [`Error::Io`].
pub fn export(rescued: &Path, to: &Path) -> Result<()> {
    check_new_file(to)?;
    let folder = tempfile::tempdir_in(rescued).map_err(Error::io("create a folder in", rescued))?;
    for name in ["database.db", "database.db-wal"] {
        let from = rescued.join(name);
        match fs::copy(&from, folder.path().join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied.map_err(Error::io("copy", from))?),
        }
    }
    let db =
        Connection::open(folder.path().join("database.db")).map_err(Error::sqlite("open what was kept"))?;
    let written = db.execute("VACUUM INTO ?1", [to.to_string_lossy()]);
    written.map(drop).map_err(Error::sqlite("write what was kept"))
}
