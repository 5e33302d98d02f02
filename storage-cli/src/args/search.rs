//! `storage search`.

use std::time::SystemTime;

use clap::Args;

use super::values::time;

/// What to find, and where.
#[derive(Debug, Args)]
pub(crate) struct Finding {
    /// Words that all have to be there, "phrases", beginnings such as deal*, alternatives with OR, exclusions such as -draft.
    #[arg(allow_hyphen_values = true)]
    pub(crate) query: String,
    /// Only messages of this session; may be repeated.
    #[arg(long = "session", value_name = "ID")]
    pub(crate) sessions: Vec<String>,
    /// Only messages of this user's sessions.
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Only messages with this role; may be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Only messages since this time, such as '2026-11-28 12:00' (UTC), or since so long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<SystemTime>,
    /// Only messages before this time, or before so long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<SystemTime>,
    /// Only memories, in this namespace and in all below it, such as users/42.
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["sessions", "user", "roles", "since", "until"])]
    pub(crate) namespace: Option<String>,
    /// How many of each at most.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) limit: usize,
    /// How many of each to pass over.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) offset: usize,
}
