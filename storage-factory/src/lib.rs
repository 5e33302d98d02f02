#![doc = include_str!("../README.md")]

mod builtin;
mod dot_env;
mod environment;
mod existing;
#[cfg(feature = "managed")]
mod keys;
mod managed;
mod options;
mod process;
mod registry;
mod resolve;
mod settings;
mod url;

pub use existing::connect_existing;
#[cfg(feature = "managed")]
pub use managed::{managed_database, new_managed_key};
pub use process::{close_storage, get_storage};
pub use registry::register_backend;
pub use resolve::{StorageType, get_storage_backend, storage_type};
pub use settings::{CLOUD_VARIABLES, POSTGRES_VARIABLES, SETTINGS, Setting, Settings};
