//! Long-term memory: JSON objects by namespace and key, over all sessions and users.

mod batch;
mod carry;
mod find;
mod item;
mod layout;
mod lease;
mod namespaces;
mod remove;
mod search;
mod store;
pub(crate) mod texts;
mod write;

use storage_core::{Json, Listing, Result};

pub use batch::{MemoryAnswer, MemoryOp};
pub(crate) use carry::{Carried, Place as MemoryPlace, check_carried, place_of};
pub use find::MemoryHit;
use item::{Content, Stored};
pub use item::{MemoryItem, MemoryTtl};
use layout::Place;
pub(crate) use layout::{KIND, LEASES};
pub use layout::{MAX_MEMORY_KEY_BYTES, MAX_NAMESPACE_BYTES};
pub use namespaces::ListNamespaces;
pub use search::SearchMemories;
pub use store::MemoryStore;
use write::{Expected, Write};

impl MemoryStore {
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
