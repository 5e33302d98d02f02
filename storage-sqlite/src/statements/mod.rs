//! The SQL, and what its rows mean. Nothing here opens a connection or waits.

pub(crate) mod entries;
pub(crate) mod pages;
pub(crate) mod schema;
