//! The storage contract for agents.
//!
//! The trait [`StorageBackend`] says what a store of JSON entries by key does; the crates `storage-sqlite`,
//! `storage-redis`, `storage-postgres` and `storage-hybrid` do exactly that on their stores, and [`MemoryBackend`] here
//! does it in memory. [`CollectionStore`] is for what grows:
//! partitions of ordered items. On top of the trait stand typed calls ([`StorageExt`]) and the helpers of the ad domain
//! ([`domain`]).
//!
//! ```
//! use std::time::Duration;
//! use storage_core::{Json, MemoryBackend, StorageBackend};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> storage_core::Result<()> {
//! let storage = MemoryBackend::new();
//! storage.connect().await?;
//! storage.set("quote:q-1", Json::parse(r#"{"cpm": 12.5}"#)?, Some(Duration::from_secs(3600))).await?;
//! assert!(storage.exists("quote:q-1").await?);
//! assert_eq!(storage.keys("quote:*").await?, ["quote:q-1"]);
//! storage.disconnect().await
//! # }
//! ```

mod backend;
mod clock;
mod collection;
pub mod domain;
pub mod engine;
mod error;
mod ext;
mod glob;
mod json;
mod key;
mod listing;
mod memory;
mod pub_sub;
mod scan;
mod search;
mod timeout;
mod types;

pub use backend::{HEALTH_KEY, StorageBackend};
pub use clock::{
    Clock, MAX_TTL, ManualClock, SteadyClock, SystemClock, epoch_millis, epoch_seconds, from_epoch_seconds,
    optional_ttl_millis, ttl_millis,
};
pub use collection::{
    CollectionStore, Commit, Committed, Expire, Hit, Item, MAX_ATTRIBUTES_BYTES, MAX_COMMIT_BYTES,
    MAX_COMMIT_OPERATIONS, MAX_HIT_BODY_BYTES, MAX_HITS, MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Operation, Order,
    Outcome, Page, Partition, PartitionInfo, Precondition, PutMode, Query, Search, next_version,
    sequence_key, sort_key, sort_key_segments,
};
pub use engine::SweepConfig;
pub use error::{Error, ErrorKind, Result, Retry};
pub use ext::{Change, StorageExt, UPDATE_TRIES};
pub use glob::{Glob, MAX_PATTERN_BYTES, escape_glob, prefix_successor};
pub use json::{
    DEFAULT_MAX_VALUE_BYTES, Json, MAX_DEPTH, MAX_NUMBER_BYTES, add_integer, check_value_size, same_value,
};
pub use key::{MAX_KEY_BYTES, check_key, join_key, key_prefix};
pub use listing::{Cursor, ScanPage, check_page_limit};
pub use memory::{MemoryBackend, MemoryConfig};
pub use pub_sub::{Delivery, PubSub};
pub use scan::{Filter, Listing, Record, Scan};
pub use search::{MAX_LABELS, MAX_SEARCH_BYTES, MAX_TEXT_WORDS, Phrase, SearchQuery, SearchText, Snippet};
pub use timeout::{DEFAULT_OPERATION_TIMEOUT, MAX_TIMEOUT, check_timeout, with_deadline};
pub use types::{
    Batch, BatchOperation, Capabilities, Entry, Expected, Expiry, Health, HealthStatus, Stats, StoreHealth,
    check_entry, check_swap,
};
