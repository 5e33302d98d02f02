//! Connections to the file, each for one purpose.

pub(crate) mod open;
pub(crate) mod wal;
