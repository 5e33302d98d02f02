//! What is Postgres's own: its schema, its TLS, its failures, its locks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[path = "../common/mod.rs"]
mod common;
mod connection;
mod failures;
mod liveness;
mod locks;
mod schema;
mod values;
