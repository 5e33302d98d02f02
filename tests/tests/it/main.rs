//! Tests across crates, on real servers, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test, which says what it measured"
)]

mod agent;
mod checkpoints;
mod configured;
mod documents;
mod hybrid;
mod interop;
mod managed;
mod outages;
mod stores;
