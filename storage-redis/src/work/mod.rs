//! Operations: which server each goes to, what it sends, and how often.

mod batch;
mod cluster;
mod members;
pub(crate) mod operations;
pub(crate) mod router;
pub(crate) mod scan;
mod sentinel;
mod slots;
pub(crate) mod stats;
pub(crate) mod topology;
pub(crate) mod walk;
