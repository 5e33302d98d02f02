//! A package, and what in it is to change.

use std::fmt;
use std::path::PathBuf;

use super::source::Source;

/// Something to change, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    pub(super) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// A package of the workspace.
pub(super) struct Member {
    pub(super) name: String,
    /// Its folder, relative to the workspace's.
    pub(super) folder: PathBuf,
    pub(super) sources: Vec<Source>,
}
