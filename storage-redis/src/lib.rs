#![doc = include_str!("../README.md")]

mod backend;
mod cluster;
mod collections;
mod config;
mod connect;
mod error;
mod group;
mod operations;
mod pool;
mod pub_sub;
mod reply;
mod router;
mod scan;
mod script;
mod stats;
mod url;

pub use backend::RedisBackend;
pub use config::RedisConfig;
