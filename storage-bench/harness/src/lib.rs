#![doc = include_str!("../README.md")]

mod contender;
mod data;
mod job;
mod load;
mod meter;
mod usage;
mod worker;

pub use contender::{Contender, Finding};
pub use data::{Data, Deal, KEY_BASE};
pub use job::{Job, Measured, Task};
pub use meter::{Meter, Stopwatch, Window};
pub use usage::{Children, children};
pub use worker::{measure, run_worker};

/// Whatever went wrong: it is shown to people, never matched on.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The answer of a contender.
pub type Result<T> = std::result::Result<T, Error>;
