//! Operations: which server each goes to, what it sends, and how often.

mod batch;
pub(crate) mod cluster;
pub(crate) mod operations;
pub(crate) mod router;
pub(crate) mod scan;
pub(crate) mod stats;
mod topology;
