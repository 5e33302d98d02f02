//! Servers that fail over, names that move, connections that go silent, poolers in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed expectation is a failed test"
)]

#[path = "../common/mod.rs"]
mod common;
mod idle;
mod names;
mod pooler;
mod promotion;
mod reads;
mod standby;
