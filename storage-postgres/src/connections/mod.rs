//! Connections: how they are opened, who gets one, and what becomes of it.

pub(crate) mod connector;
pub(crate) mod executor;
pub(crate) mod freshness;
pub(crate) mod pool;
mod retired;
mod search;
pub(crate) mod session;
mod tls;
pub(crate) mod wire;
