#![doc = include_str!("../README.md")]

mod backend;
mod routes;

pub use backend::HybridBackend;
pub use routes::{DEFAULT_EPHEMERAL, Routes, Store};
