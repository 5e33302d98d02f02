#![doc = include_str!("../README.md")]

mod backend;
mod collections;
mod config;
mod connections;
mod error;
mod options;
mod pub_sub;
mod statements;
mod url;
mod work;

pub use backend::RedisBackend;
pub use config::RedisConfig;
pub use options::{Protocol, TlsVerify};
