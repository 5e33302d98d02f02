//! Which key goes where: pure code, no I/O.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use storage_core::{Error, Glob, Result, key_prefix};

/// The prefixes that are ephemeral unless said otherwise.
pub const DEFAULT_EPHEMERAL: [&str; 6] =
    ["session:", "session_index:", "cache:", "lock:", "pubsub:", "rate_limit:"];

/// One of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Business data: what must outlive everything.
    Durable,
    /// Sessions, caches, locks: what may be rebuilt and must be quick.
    Ephemeral,
}

/// The routing table: the prefixes, up to and including the first `:`, whose keys are ephemeral. All others, and keys
/// without a `:`, are durable.
///
/// ```
/// use storage_hybrid::{Routes, Store};
///
/// let routes = Routes::default().ephemeral("draft:")?.durable("session:")?;
/// assert_eq!(routes.store("draft:1"), Store::Ephemeral);
/// assert_eq!(routes.store("session:1"), Store::Durable);
/// assert_eq!(routes.store("cache"), Store::Durable);
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    ephemeral: BTreeSet<String>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { ephemeral: DEFAULT_EPHEMERAL.map(str::to_owned).into() }
    }
}

impl Routes {
    /// Makes a prefix ephemeral.
    ///
    /// # Errors
    /// `Config` where the prefix does not end with its first `:`, for then no key would be routed by it.
    pub fn ephemeral(mut self, prefix: &str) -> Result<Self> {
        self.ephemeral.insert(checked(prefix)?.to_owned());
        Ok(self)
    }

    /// Makes a prefix durable.
    ///
    /// # Errors
    /// As [`ephemeral`](Self::ephemeral).
    pub fn durable(mut self, prefix: &str) -> Result<Self> {
        self.ephemeral.remove(checked(prefix)?);
        Ok(self)
    }

    /// The ephemeral prefixes, in byte order.
    pub fn ephemeral_prefixes(&self) -> impl Iterator<Item = &str> {
        self.ephemeral.iter().map(String::as_str)
    }

    /// The store of a key.
    #[must_use]
    pub fn store(&self, key: &str) -> Store {
        if self.ephemeral.contains(key_prefix(key)) { Store::Ephemeral } else { Store::Durable }
    }

    /// The one store where all that match live, or `None` where they may live in both.
    #[must_use]
    pub fn store_of_pattern(&self, glob: &Glob) -> Option<Store> {
        let prefix = glob.literal_prefix();
        (prefix.contains(':') || glob.exact().is_some()).then(|| self.store(prefix))
    }
}

fn checked(prefix: &str) -> Result<&str> {
    if prefix.len() > 1 && prefix.find(':') == Some(prefix.len() - 1) {
        return Ok(prefix);
    }
    Err(Error::config(format!("`{}` is no routing prefix", prefix.escape_debug()))
        .with_hint("a prefix is a name and one colon at its end, such as `draft:`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_routed_by_their_first_prefix() {
        let routes = Routes::default();
        for (key, store) in [
            ("session:1", Store::Ephemeral),
            ("session_index:buyer:acme", Store::Ephemeral),
            ("cache:a:b", Store::Ephemeral),
            ("lock:x", Store::Ephemeral),
            ("pubsub:x", Store::Ephemeral),
            ("rate_limit:x", Store::Ephemeral),
            ("session", Store::Durable),
            ("sessions:1", Store::Durable),
            ("Session:1", Store::Durable),
            ("deal:session:1", Store::Durable),
            (":session:", Store::Durable),
            ("deal:1", Store::Durable),
            ("memory:ada", Store::Durable),
            ("memory_lease:1", Store::Durable),
        ] {
            assert_eq!(routes.store(key), store, "{key}");
        }
    }

    #[test]
    fn a_pattern_goes_to_one_store_where_its_prefix_is_known() {
        let routes = Routes::default();
        for (pattern, store) in [
            ("session:*", Some(Store::Ephemeral)),
            ("deal:*", Some(Store::Durable)),
            ("session", Some(Store::Durable)),
            ("session*", None),
            ("*", None),
            ("[s]ession:*", None),
            ("session?1", None),
        ] {
            assert_eq!(routes.store_of_pattern(&Glob::new(pattern).unwrap()), store, "{pattern}");
        }
    }

    #[test]
    fn what_no_key_is_routed_by_is_refused() {
        for prefix in ["", ":", "draft", "a:b:", "draft:x"] {
            assert!(Routes::default().ephemeral(prefix).is_err(), "{prefix}");
        }
    }
}
