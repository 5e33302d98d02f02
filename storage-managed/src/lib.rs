#![doc = include_str!("../README.md")]

mod adopt;
mod backend;
mod batch;
mod cache;
mod compact;
mod content;
mod download;
mod error;
mod fold;
mod format;
mod freshen;
mod gather;
mod history;
mod holds;
pub mod home;
mod judge;
#[cfg(feature = "lazy")]
pub mod lazy;
mod lease;
mod levels;
mod local;
mod merge;
mod open;
mod options;
mod plain;
mod proofs;
mod publish;
mod rebuild;
mod reconcile;
mod recover;
mod remote;
mod repair;
mod rescue;
mod shared;
mod spawned;
mod steady;
mod store;
mod system;
mod target;
mod telemetry;
mod verify;
mod wal;

#[doc = include_str!("../PROTOCOL.md")]
pub mod protocol {}

pub use adopt::{Adopted, adopt};
pub use backend::Managed;
pub use cache::is_in_use;
pub use download::Download;
pub use error::{Error, Result};
pub use history::Generation;
pub use holds::{Hold, VerifiedHold, holds, restore_hold};
pub use local::prepare;
pub use options::{Options, RetryPolicy};
pub use repair::{Damage, Lost, Repair, Sound, Source, repair};
pub use rescue::{Rescued, export, remove_rescued, rescued};
pub use steady::Steady;
pub use store::{DatabaseStore, Status, exists};
pub use target::check_new_file;
pub use verify::Verified;
