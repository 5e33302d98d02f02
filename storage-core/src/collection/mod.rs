//! The second of the three traits: partitions of ordered items, the home of anything that grows.

mod commit;
mod partition;
mod query;
mod search;

use async_trait::async_trait;

use crate::{Cursor, Error, ErrorKind, Result, ScanPage};

pub use commit::{
    Commit, Committed, Expire, MAX_ATTRIBUTES_BYTES, MAX_COMMIT_BYTES, MAX_COMMIT_OPERATIONS, Operation,
    Outcome, Precondition, PutMode, sequence_key,
};
pub use partition::{Partition, PartitionInfo, next_version, sort_key, sort_key_segments};
pub use query::{Item, MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Order, Page, Query};
pub use search::{Hit, MAX_HIT_BODY_BYTES, MAX_HITS, Search};

/// Partitions of ordered items: logs, conversations, checkpoints, indexes.
///
/// A partition (such as `conversation:s-1`) is the unit of atomicity, placement, expiry and deletion. It comes into being
/// with its first commit and has a version, which each commit raises by one and no later partition of the name repeats.
/// An item has a sort key, small JSON attributes and a body of any bytes.
///
/// # Contract
///
/// - **Partitions** are built by [`Partition::new`] and follow the rules of keys. **Sort keys** are UTF-8 of 1 to 1,024
///   bytes without NUL, ordered byte for byte. **Attributes** have [`MAX_ATTRIBUTES_BYTES`] at most, **bodies** as many
///   bytes as the backend lets a value have. Anything else is `InvalidInput` before any I/O.
/// - **A commit** happens whole or not at all, also when its caller goes away, its connection breaks or the process dies.
///   Commits to one partition happen one after the other; its sequence has no gaps that are filled later.
/// - **A version** tells the states of a partition apart, and counts no commits: the first comes from the time, so that none
///   that a deleted or expired partition had comes again under its name. It is less than 2^63, but most often beyond the 2^53
///   up to which a reader of JSON that takes numbers for doubles is exact.
/// - **A read** sees the partition between two commits, never in the middle of one.
/// - **Expiry** is the partition's. An expired one is gone at once, version and sequence included; what was in it is
///   removed later, in bounded batches.
/// - Deadlines, cancellation, errors and lifecycle are those of [`StorageBackend`](crate::StorageBackend).
#[async_trait]
pub trait CollectionStore: Send + Sync + std::fmt::Debug {
    /// Checks the preconditions, then does the operations in their order, all or nothing, and raises the version by one.
    /// A commit without operations that finds no partition makes none.
    ///
    /// # Errors
    /// `Conflict`, changing nothing, where a precondition does not hold or an [`PutMode::Insert`] finds an item;
    /// `InvalidInput`, changing nothing, where an increment meets what is no integer or overflows.
    async fn commit(&self, commit: Commit) -> Result<Committed>;

    /// A page of the items of a partition; an absent partition has none.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero or more than [`MAX_PAGE_ITEMS`].
    async fn query(&self, query: Query) -> Result<Page>;

    /// The items at several sort keys, in their order; a key may stand there twice.
    ///
    /// # Errors
    /// `InvalidInput` for a key that is none.
    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>>;

    /// What is known of a partition without reading its items; `None` where there is none.
    ///
    /// # Errors
    /// As the trait says.
    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>>;

    /// A page of the partitions of a kind whose first segments are `segments`, as
    /// [`scan_page`](crate::StorageBackend::scan_page) has it of entries. [`StorageExt::partitions`] makes a stream of them.
    ///
    /// [`StorageExt::partitions`]: crate::StorageExt::partitions
    ///
    /// # Errors
    /// `InvalidInput` for segments that are none, a limit of zero, and a cursor that is none of this listing.
    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>>;

    /// Deletes a partition with all its items, at once for every reader; true where there was one.
    ///
    /// # Errors
    /// As the trait says.
    async fn delete_partition(&self, partition: &Partition) -> Result<bool>;

    /// Whether [`search`](Self::search) finds items in partitions of this kind. Where it does not, what a commit says of it is
    /// left out.
    fn searches(&self, kind: &str) -> bool {
        let _ = kind;
        false
    }

    /// The items that a query finds, the best first; of those that fit equally well in no certain order. An item is found from
    /// the commit on that wrote it until it is written over without words, deleted or expired.
    ///
    /// Which items are found is the same on every store; how they are ranked is each store's own.
    ///
    /// # Errors
    /// `Unsupported` where [`searches`](Self::searches) says so; `InvalidInput` as [`Search::check`] says.
    async fn search(&self, search: Search) -> Result<Vec<Hit>> {
        Err(Error::new(ErrorKind::Unsupported, "the store has no full-text search")
            .with_key(&search.kind)
            .with_hint("memory, SQLite and Postgres have it"))
    }
}
