#![doc = include_str!("../README.md")]

mod backend;
mod call;
mod checkpoint;
mod collections;
mod config;
mod error;
mod hold;
mod inline;
mod pool;
mod publisher;
mod read;
mod scan;
mod schema;
mod sql;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use backend::SqliteBackend;
pub use config::{SqliteConfig, Synchronous};
pub use publisher::{Publisher, Turn};
