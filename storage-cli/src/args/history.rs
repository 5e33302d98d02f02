//! `storage history`.

use std::time::SystemTime;

use clap::Args;

use super::values::time;

/// Which messages are shown.
#[derive(Debug, Args)]
pub(crate) struct Messages {
    /// How many messages at most.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) limit: usize,
    /// Only messages before the one with this number.
    #[arg(long, value_name = "SEQ")]
    pub(crate) before: Option<u64>,
    /// Only messages since this time, such as '2026-11-28 12:00' (UTC), or since so long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<SystemTime>,
    /// Only messages before this time, or before so long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<SystemTime>,
    /// Only messages of this role, such as user; may be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// What their metadata must be, such as '{"model": "m-1", "score": {"$gte": 0.5}}'.
    #[arg(long, value_name = "JSON|-")]
    pub(crate) filter: Option<String>,
    /// Only messages that say this, the best of them, as `storage search` has it.
    #[arg(long, value_name = "QUERY", conflicts_with_all = ["before", "filter"])]
    pub(crate) search: Option<String>,
}
