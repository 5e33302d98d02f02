//! Connections to servers: opened, and driven by themselves.

pub(crate) mod connector;
mod dialer;
mod greeting;
pub(crate) mod lane;
pub(crate) mod node;
mod request;
pub(crate) mod sentinel;
mod tls;
pub(crate) mod wire;
