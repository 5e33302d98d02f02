//! The real program, in an empty folder and an empty environment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod agent;
mod carry;
mod completions;
mod demo;
mod entries;
mod export_import;
mod holds;
mod import_errors;
mod input;
mod intent;
mod managed;
mod memory;
mod program;
mod readme;
mod search;
mod settings;
mod signals;
mod status;
