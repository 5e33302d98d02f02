//! What backends are built with. Programs that only use one need none of it.
//!
//! The rule behind all of it: **work belongs to something that runs by itself**, a thread or a [task], and never to the
//! future of a caller, which may be polled once and kept, dropped, or carried to another runtime. A caller waits for an
//! answer, up to its [`Deadline`], and holds nothing that others wait for.
//!
//! - [`Combiner`]: callers put operations into a queue, workers take what has gathered.
//! - [`task::spawn`]: work that goes on where its runtime ends or stands still; [`background`]: the runtime of the process
//!   for what depends on no other.
//! - [`Homes`]: connections for callers on the runtime that connected, and for all others.
//! - [`Lifecycle`]: connecting and disconnecting, as work of its own.
//! - [`latest`]: reads that decide what is written, for stores that may read from a copy.
//! - [`all_written`]: what the caller of a write in several parts is told.

mod background;
mod combiner;
mod deadline;
mod homes;
mod key_queue;
mod latest;
mod lifecycle;
#[cfg(test)]
mod models;
mod parts;
mod pulse;
mod queue;
mod sweeper;
mod sync;
pub mod task;
#[cfg(test)]
mod tests;

pub use background::{background, spawn_thread};
pub use combiner::{Combiner, Entry, Replies, Reply, Unanswered, Work, Worker};
pub use deadline::{Deadline, back_off};
pub use homes::{Home, Homes, current_runtime, unreachable};
pub(crate) use key_queue::{Order, Passed, Place};
pub use latest::{latest, wants_latest};
pub use lifecycle::{Guard, Lease, Lifecycle};
pub use parts::all_written;
pub use queue::Limits;
pub use sweeper::{SweepConfig, spawn_sweeper};
