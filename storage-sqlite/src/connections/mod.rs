//! Connections to the file, each for one purpose.

pub(crate) mod file;
pub(crate) mod open;
pub(crate) mod wal;
