//! Where a database is written to that others shall open.

use std::{ffi::OsString, fs, path::Path};

use crate::{
    error::{Error, Result},
    spawned::while_awaited,
};

/// Fails where there is a file `to`, or one beside it that SQLite would take for a part of it, such as the log that an
/// earlier database left: what is written to `to` would be mixed with it.
///
/// # Errors
/// [`Error::Unsupported`] naming what is there; [`Error::Io`].
pub fn check_new_file(to: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = OsString::from(to);
        name.push(suffix);
        // Not what a symbolic link leads to: the link itself is in the way.
        if fs::symlink_metadata(&name).is_ok() {
            return Err(Error::Unsupported(format!("`{}` exists already", Path::new(&name).display())));
        }
    }
    Ok(())
}

/// Writes a new file; nothing is left of one that was begun.
pub(crate) async fn write_new<T: Send + 'static>(
    to: &Path,
    write: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    check_new_file(to)?;
    let written = while_awaited(write).await;
    if written.is_err() {
        // It would be in the way of the next try.
        let _ = fs::remove_file(to);
    }
    written
}
