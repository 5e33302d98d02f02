#![doc = include_str!("../README.md")]

mod backend;
mod call;
mod config;
mod error;
mod pool;
mod scan;
mod schema;
mod sql;
mod store;
#[cfg(test)]
mod tests;

pub use backend::SqliteBackend;
pub use config::{SqliteConfig, Synchronous};
