//! What is done on connections: what callers share, and what each does by itself.

pub(crate) mod batch;
pub(crate) mod connected;
pub(crate) mod groups;
pub(crate) mod kinds;
pub(crate) mod queues;
pub(crate) mod replica;
pub(crate) mod scan;
mod set;
pub(crate) mod store;
pub(crate) mod sweep;
