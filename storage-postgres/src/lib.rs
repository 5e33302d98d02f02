#![doc = include_str!("../README.md")]

mod backend;
mod collections;
mod config;
mod error;
mod group;
mod kinds;
mod pool;
mod scan;
mod schema;
mod session;
mod sql;
mod store;
mod tls;
mod value;

pub use backend::PostgresBackend;
pub use config::{PostgresConfig, SslMode, SslRoots};
