//! The work of concurrent callers, shared: who does it, and how much of it at once.

pub(crate) mod checkpoints;
pub(crate) mod points;
pub(crate) mod readers;
pub(crate) mod refreshes;
pub(crate) mod writes;
