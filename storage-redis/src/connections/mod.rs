//! Connections to servers: opened, and driven by themselves.

pub(crate) mod connector;
pub(crate) mod lane;
pub(crate) mod node;
