//! Long-term memory: JSON objects by namespace and key, over all sessions and users.

mod batch;
mod filter;
mod item;
mod layout;
mod lease;
mod namespaces;
mod remove;
mod search;
mod write;

use std::{sync::Arc, time::Duration};

use storage_core::{Json, Listing, Result, StorageBackend, optional_ttl_millis};

use crate::shared::Shared;
pub use batch::{MemoryAnswer, MemoryOp};
use item::{Content, Stored};
pub use item::{MemoryItem, MemoryTtl};
pub(crate) use layout::KIND;
use layout::Place;
pub use layout::{MAX_MEMORY_KEY_BYTES, MAX_NAMESPACE_BYTES};
pub use namespaces::ListNamespaces;
pub use search::SearchMemories;
use write::{Expected, Write};

/// How many requests of one call are under way at a time.
const PARALLEL: usize = 32;

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
/// A namespace is one label or more, none of them empty, of [`MAX_NAMESPACE_BYTES`] together. A key is any text without NUL of
/// [`MAX_MEMORY_KEY_BYTES`]; it may be empty. Anything else is `InvalidInput`. As at LangGraph, nothing can be put below
/// `langgraph`. Other than there, labels may hold a `.`, such as `ada@example.com`, for they are not joined by one; U+0001 they
/// may not; and reading in the empty namespace is refused instead of answered with nothing.
///
/// # Expiry
///
/// A memory expires after its time to live, counted from when it was put, or read last where reads refresh it, which they do
/// unless [`with_refresh_on_read`](Self::with_refresh_on_read) says otherwise. The store's clock decides. An expired one is gone
/// at once for every call; what is left of it is removed by searches that meet it, by whoever puts it anew, and by
/// [`remove_expired`](Self::remove_expired).
///
/// # Filters
///
/// LangGraph's three stores compare differently; here, whatever the store:
///
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
    shared: Shared,
    ttl: Option<Duration>,
    refresh_on_read: bool,
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

    /// Puts a memory, over one that is there, whose `created_at` stays; returns the version of the new value.
    ///
    /// # Errors
    /// `InvalidInput` for a value that is no object or longer than the storage lets one be, and for a time to live of zero or
    /// above 100 years; `Conflict` where hundreds of tries in a row found that others had put it.
    pub async fn put(&self, namespace: &[&str], key: &str, value: Json, ttl: MemoryTtl) -> Result<String> {
        let write = self.put_if(namespace, key, Expected::Anything, value, ttl);
        self.shared.measured("memories.put", write).await
    }

    /// Puts a memory only if the one that is there has the version `expected`; `None`: only if there is none. A version is
    /// never given twice: one of a memory that was deleted, or has expired, never fits again.
    ///
    /// # Errors
    /// `Conflict`, changing nothing, where it is another; else as [`put`](Self::put).
    pub async fn compare_and_set(
        &self,
        namespace: &[&str],
        key: &str,
        expected: Option<&str>,
        value: Json,
        ttl: MemoryTtl,
    ) -> Result<String> {
        let expected = expected.map_or(Expected::Nothing, |version| Expected::Version(version.to_owned()));
        let write = self.put_if(namespace, key, expected, value, ttl);
        self.shared.measured("memories.compare_and_set", write).await
    }

    async fn put_if(
        &self,
        namespace: &[&str],
        key: &str,
        expected: Expected,
        value: Json,
        ttl: MemoryTtl,
    ) -> Result<String> {
        let place = Place::to_write(namespace, key)?;
        let content = Content::new(value, self.ttl_of(ttl))?;
        let (partition, version) = (place.partition.clone(), content.version.clone());
        self.write(&partition, &[Write { place, content: Some(content), expected }]).await?;
        Ok(version)
    }

    fn ttl_of(&self, ttl: MemoryTtl) -> Option<Duration> {
        match ttl {
            MemoryTtl::Default => self.ttl,
            MemoryTtl::Never => None,
            MemoryTtl::After(ttl) => Some(ttl),
        }
    }

    /// The memory, or `None` where there is none or it has expired.
    ///
    /// # Errors
    /// `Corrupt` where the item is no memory.
    pub async fn get(&self, namespace: &[&str], key: &str) -> Result<Option<MemoryItem>> {
        let read = async { self.read(&Place::new(namespace, key)?, self.refresh_on_read).await };
        self.shared.measured("memories.get", read).await
    }

    async fn read(&self, place: &Place, refresh: bool) -> Result<Option<MemoryItem>> {
        let found = self.shared.collections()?.items(&place.partition, &[&place.sort]).await?;
        match found.into_iter().flatten().next() {
            Some(item) => self.living(Stored::decode(&place.partition, item)?, refresh).await,
            None => Ok(None),
        }
    }

    /// Deletes a memory; true where there was one.
    ///
    /// # Errors
    /// As [`MemoryStore`] says.
    pub async fn delete(&self, namespace: &[&str], key: &str) -> Result<bool> {
        let delete = async {
            let place = Place::new(namespace, key)?;
            let partition = place.partition.clone();
            let write = Write { place, content: None, expected: Expected::Anything };
            Ok(self.write(&partition, &[write]).await?.contains(&true))
        };
        self.shared.measured("memories.delete", delete).await
    }

    /// The memories in a namespace and in all that begin with it, or in every namespace where `prefix` is empty: those put last
    /// first, those put together in the order of namespaces and keys. What is no memory is listed apart, as `corrupt`.
    ///
    /// # Errors
    /// `InvalidInput` for a filter with other operators, or that is no object, and for a limit or an offset that is too large.
    pub async fn search(&self, prefix: &[&str], search: &SearchMemories) -> Result<Listing<MemoryItem>> {
        self.shared.measured("memories.search", self.found(prefix, search)).await
    }

    /// The namespaces that have memories, each once, in the order of their labels.
    ///
    /// # Errors
    /// `InvalidInput` for a depth of zero, and for a limit or an offset that is too large.
    pub async fn list_namespaces(&self, list: &ListNamespaces) -> Result<Vec<Vec<String>>> {
        self.shared.measured("memories.list_namespaces", self.listed(list)).await
    }

    /// Does several operations and answers each, in their order. The reads come first, at the same time, and see nothing of the
    /// writes; of several writes to one memory the last is done. What is written below one first label happens whole or not at
    /// all.
    ///
    /// # Errors
    /// `InvalidInput`, changing nothing, for any operation that is none, and for more than 5,000 writes below one first label;
    /// `OutcomeUnknown` where what belongs below one first label was written and below another was not.
    pub async fn batch(&self, operations: Vec<MemoryOp>) -> Result<Vec<MemoryAnswer>> {
        self.shared.measured("memories.batch", self.all(operations)).await
    }

    /// Deletes the memories in a namespace and in all that begin with it, and returns how many there were. It goes in steps of
    /// 500: after an error the rest is there, and the next call goes on. What is put meanwhile may stay.
    ///
    /// # Errors
    /// `InvalidInput` for the empty namespace.
    pub async fn delete_namespace(&self, prefix: &[&str]) -> Result<u64> {
        self.shared.measured("memories.delete_namespace", self.emptied(prefix)).await
    }

    /// Removes what is left of expired memories everywhere, and returns of how many. Looks at all memories: for once in an hour.
    ///
    /// # Errors
    /// What ends the listing.
    pub async fn remove_expired(&self) -> Result<u64> {
        self.shared.measured("memories.remove_expired", self.swept()).await
    }
}
