#![doc = include_str!("../README.md")]

mod backend;
mod calls;
mod collections;
mod config;
mod connections;
mod error;
mod statements;
mod work;

pub use backend::PostgresBackend;
pub use config::{PostgresConfig, SslMode, SslRoots, TargetSessionAttrs, TlsVerify};
