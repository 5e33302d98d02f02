//! Where a database is written to.

use std::path::Path;

use storage_managed::{Error, check_new_file};

use crate::failure::{Failure, Result};

/// Refuses a file in a folder that is not there, a file that is there, and one whose log of earlier days is there.
pub(super) fn check_new(to: &Path) -> Result<()> {
    let folder = folder_of(to);
    if !folder.is_dir() {
        let failure = Failure::input(format!("there is no folder `{}` to write to", folder.display()));
        return Err(failure.hint("make it, or name a file in one that is there"));
    }
    check_new_file(to).map_err(|error| match error {
        Error::Unsupported(message) => Failure::input(message).hint(
            "name a file that is not there; a -wal, -shm or -journal of an earlier database would be taken for a part of it",
        ),
        error => error.into(),
    })
}

fn folder_of(to: &Path) -> &Path {
    to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file whole or not at all.
pub(super) async fn written<T>(to: &Path, write: impl AsyncFnOnce(&Path) -> Result<T>) -> Result<T> {
    check_new(to)?;
    let beside = folder_of(to);
    // The error itself names a file that nobody has asked for.
    let folder = tempfile::tempdir_in(beside).map_err(|error| {
        Failure::input(format!("the folder `{}` cannot be written to: {}", beside.display(), error.kind()))
    })?;
    let file = folder.path().join("restored.db");
    let done = write(&file).await?;
    check_new(to)?;
    std::fs::rename(&file, to).map_err(|error| Failure::output(&error))?;
    Ok(done)
}
