#![doc = include_str!("../README.md")]

mod builtin;
mod environment;
mod managed;
mod options;
mod process;
mod registry;
mod resolve;
mod settings;
mod url;

#[cfg(feature = "managed")]
pub use managed::managed_database;
pub use process::{close_storage, get_storage};
pub use registry::register_backend;
pub use resolve::{StorageType, get_storage_backend, storage_type};
pub use settings::{CLOUD_VARIABLES, SETTINGS, Setting, Settings};
