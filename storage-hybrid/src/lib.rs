#![doc = include_str!("../README.md")]

mod backend;
mod collections;
mod routes;

pub use backend::HybridBackend;
pub use routes::{DEFAULT_EPHEMERAL, Routes, Store};
