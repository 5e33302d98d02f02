#![doc = include_str!("../README.md")]

mod backend;
mod call;
mod collections;
mod config;
mod connections;
mod error;
mod publisher;
mod statements;
mod store;
#[cfg(test)]
mod tests;
mod work;

pub use backend::SqliteBackend;
pub use config::{SqliteConfig, Synchronous};
pub use publisher::{Publication, Publisher};
