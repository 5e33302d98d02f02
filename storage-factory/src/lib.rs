#![doc = include_str!("../README.md")]

mod builtin;
mod environment;
mod options;
mod process;
mod registry;
mod resolve;
mod settings;

pub use process::{close_storage, get_storage};
pub use registry::register_backend;
pub use resolve::{StorageType, get_storage_backend, storage_type};
pub use settings::{SETTINGS, Setting, Settings};
