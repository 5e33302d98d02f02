//! The servers: each a child process with a port, a folder, and a way to end and to come back.

pub mod azurite;
pub mod certificates;
pub mod moto;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;
pub mod shared;

mod account;
pub(crate) mod http;
mod ports;
mod process;
#[cfg(test)]
mod tests;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// `text` as it may stand in the user or the password of a URL.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
