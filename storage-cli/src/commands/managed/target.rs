//! Where a database is written to.

use std::path::Path;

use storage_managed::{Error, check_new_file};

use crate::failure::{Failure, Result};

/// Refuses a file that is there, and one whose log of earlier days is there.
pub(super) fn check_new(to: &Path) -> Result<()> {
    check_new_file(to).map_err(|error| match error {
        Error::Unsupported(message) => Failure::input(message).hint(
            "name a file that is not there; a -wal, -shm or -journal of an earlier database would be taken for a part of it",
        ),
        error => error.into(),
    })
}
