//! Connections: how they are opened, who gets one, and what becomes of it.

pub(crate) mod connector;
pub(crate) mod executor;
pub(crate) mod pool;
pub(crate) mod session;
mod tls;
pub(crate) mod wire;
