//! The store and how it is set up.

use std::{sync::Arc, time::Duration};

use storage_core::{Result, StorageBackend, optional_ttl_millis};

use super::item::MemoryTtl;
use crate::shared::Shared;

/// How many requests of one call are under way at a time.
pub(super) const PARALLEL: usize = 32;

/// What agents remember over sessions and users, with the semantics of LangGraph's `BaseStore`, on every store with partitions.
///
/// ```
/// use std::sync::Arc;
///
/// use storage_agent::{MemoryStore, MemoryTtl, SearchMemories};
/// use storage_core::{Json, MemoryBackend, StorageBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let storage = Arc::new(MemoryBackend::new());
/// storage.connect().await?;
/// let memories = MemoryStore::new(storage)?;
/// let facts = ["ada", "facts"];
/// memories.put(&facts, "tea", Json::parse(r#"{"text": "likes tea", "score": 0.9}"#)?, MemoryTtl::Default).await?;
///
/// let sure = SearchMemories { filter: Some(Json::parse(r#"{"score": {"$gte": 0.5}}"#)?), ..SearchMemories::default() };
/// let found = memories.search(&["ada"], &sure).await?;
/// assert_eq!(found[0].key, "tea");
///
/// // Only where nobody has changed it since.
/// let less = Json::parse(r#"{"text": "likes green tea", "score": 0.7}"#)?;
/// memories.compare_and_set(&facts, "tea", Some(&found[0].version), less, MemoryTtl::Default).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Namespaces and keys
///
/// A namespace is one label or more, none of them empty, with [`MAX_NAMESPACE_BYTES`](crate::MAX_NAMESPACE_BYTES) at most. A key is
/// any text without NUL with [`MAX_MEMORY_KEY_BYTES`](crate::MAX_MEMORY_KEY_BYTES) at most; it may be empty. Anything else is
/// `InvalidInput`. As at LangGraph, nothing can be put below `langgraph`. Other than there, labels may hold a `.`, such as
/// `ada@example.com`, for they are not joined by one; U+0001 they may not; and reading in the empty namespace is refused instead of
/// answered with nothing.
///
/// # Expiry
///
/// A memory expires after its time to live, counted from when it was put, or read last where reads refresh it, which they do
/// unless [`with_refresh_on_read`](Self::with_refresh_on_read) says otherwise. The store's clock decides. An expired one is gone
/// at once for every call; what is left of it is removed by searches that meet it, by whoever puts it anew, and by
/// [`remove_expired`](Self::remove_expired).
///
/// # Where LangGraph's own stores disagree
///
/// Its stores in memory, on SQLite and on Postgres differ in the following; here it holds whatever the store:
///
/// - Putting again keeps `created_at` (as on Postgres), and what was put last is found first (as on both databases).
/// - An expired memory is never returned or listed (as on Postgres with `omit_expired`), and a namespace without memories is not.
/// - A plain value asks for an equal one: numbers by value, so `1` is `1.0`, though no boolean is a number (as on Postgres).
/// - An object without operators asks for these members, also within members and elements of arrays; an array for as many
///   elements, each of which fits (as in memory). `$eq` and `$ne` compare all of a value.
/// - A missing member is null: it equals null and is `$ne` to all else (as in memory).
/// - `$gt`, `$gte`, `$lt` and `$lte` order numbers by value and texts by their characters; other types, and different ones, are
///   in no order and never fit (in memory `"10"` is the number 10, and what is none is an error).
/// - Names are those of members: `a.b` is not `b` in `a` (on SQLite it is).
///
/// # What is atomic
///
/// All memories of one first label are in one partition: what a [`batch`](Self::batch) writes below one first label happens whole
/// or not at all. Its reads, and those of a search of more than a page, see states of their own. A first label such as the user's
/// name lets users' memories be written to at the same time and, on Redis Cluster, lie on several nodes.
///
/// # What it costs
///
/// A get is one round trip, a put is two, and one or two more where there is a time to live. A search reads all memories below
/// its prefix, 1,000 in a round trip, and looks at the expiry of those alone that it may return; without a prefix it also lists
/// the partitions, which on Redis is a scan of all keys.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    pub(super) shared: Shared,
    ttl: Option<Duration>,
    pub(super) refresh_on_read: bool,
}

impl MemoryStore {
    /// Memories in `storage`, which do not expire unless put with a time to live, and that reads refresh.
    ///
    /// # Errors
    /// `Unsupported` where the storage has no partitions.
    pub fn new(storage: Arc<dyn StorageBackend>) -> Result<Self> {
        Ok(Self::on(Shared::with_collections(storage)?))
    }

    pub(crate) fn on(shared: Shared) -> Self {
        Self { shared, ttl: None, refresh_on_read: true }
    }

    /// How long memories stay that are put with [`MemoryTtl::Default`]; `None`: until they are deleted.
    ///
    /// # Errors
    /// `InvalidInput` for zero and for more than 100 years.
    pub fn with_ttl(mut self, ttl: Option<Duration>) -> Result<Self> {
        optional_ttl_millis(ttl)?;
        self.ttl = ttl;
        Ok(self)
    }

    /// Whether getting or finding a memory makes its time to live begin anew, where the call says nothing else.
    #[must_use]
    pub fn with_refresh_on_read(mut self, refresh: bool) -> Self {
        self.refresh_on_read = refresh;
        self
    }

    pub(super) fn ttl_of(&self, ttl: MemoryTtl) -> Option<Duration> {
        match ttl {
            MemoryTtl::Default => self.ttl,
            MemoryTtl::Never => None,
            MemoryTtl::After(ttl) => Some(ttl),
        }
    }
}
