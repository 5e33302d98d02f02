//! Checkpoints of agents' state: LangGraph's contract and a general one, on any store.
//!
//! A thread is one partition, so a step is one commit: the checkpoint, the values of its channels and its writes are there
//! together or not at all. Large payloads are cut into chunks by their content, and the lists of chunks in the same way,
//! so that the next version of a growing list costs about what was added to it, whatever the length of the history and
//! without any knowledge of the serialiser.
//!
//! # Where it differs from LangGraph's savers
//!
//! On purpose, against langgraph-checkpoint-sqlite 3.1 and -postgres 3.2:
//!
//! - **Writes** are judged one by one: a special one is written over, and a regular one stays as it was, also when a call
//!   brings both. The savers overwrite only where all writes of a call are special.
//! - **Metadata** filters compare JSON values, `1` and `1.0` being equal, `true` and `1` not, unless
//!   `bools_are_numbers` says so; a filter for null also matches where the member is missing. Nested members are compared as a whole, not looked for.
//! - **Large metadata**, such as a system prompt that LangGraph copies there from `configurable`, is stored as channels' values
//!   are: an unchanged one costs each checkpoint about as much as a small one. It may have 16 MiB.
//! - **A delta channel's history** never passes a checkpoint twice, even where parents form a circle, and is one state of
//!   the thread: a pruning meanwhile means another look, never a part of the history.
//! - **Pruning to the latest** works for threads with delta channels, which the Postgres saver refuses: their ancestors stay
//!   as far as they are needed. A leaf with writes stays too, for an interrupted branch may be taken up. Parents' ids stay
//!   as they are when the parent goes. What checkpoints from before version 4 read of their parent's sends cannot be told
//!   from opaque bytes: such a parent goes.
//! - **`delete_for_runs`** spares what other runs' delta channels need; the contract leaves that to break.
//! - **A copy** goes to a thread that does not exist yet, is one state of its source, and counts as written now. Epochs and
//!   the expiry stay with the source.
//! - **A value is written once**, as the savers have it: another one for a version that is there is not stored. `put` warns of it
//!   with `tracing`; [`advance`](CheckpointerBackend::advance) refuses it. Versions need a random part, as LangGraph's have.
//! - **Text** (ids, channels, types, metadata) holds no NUL. Thread ids, namespaces, task ids, channels and versions have up to
//!   8 KiB: for those that do not fit a key of 1,024 bytes a hash stands there. Checkpoint ids order, and so must fit: 40 bytes
//!   do beside every namespace, some 900 beside most. Versions that are integers fit 64 bits.
//! - **`put` takes any parent**, as the savers do, and values that it does not bring are those that are stored: a parent that
//!   is pruned before its child comes takes its values along. [`advance`](CheckpointerBackend::advance) cannot meet that.
//!
//! ```
//! use std::sync::Arc;
//! use storage_agent::checkpoints::{ChannelValue, CheckpointKey, CheckpointerBackend, NewCheckpoint, Payload, Version};
//! use storage_core::{Json, MemoryBackend, StorageBackend};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> storage_core::Result<()> {
//! let storage = Arc::new(MemoryBackend::new());
//! storage.connect().await?;
//! let checkpointer = CheckpointerBackend::new(storage);
//! let first = NewCheckpoint {
//!     key: CheckpointKey::new("thread-1", "", "0001"),
//!     parent_id: None,
//!     checkpoint: Payload::new("msgpack", vec![0x80]),
//!     metadata: Json::parse(r#"{"source": "input", "step": -1}"#)?,
//!     channel_versions: [("messages".to_owned(), Version::Int(1))].into(),
//!     new_values: vec![ChannelValue {
//!         channel: "messages".to_owned(),
//!         version: Version::Int(1),
//!         value: Some(Payload::new("msgpack", vec![0x90])),
//!     }],
//! };
//! checkpointer.advance(&first, &[]).await?;
//! let latest = checkpointer.get("thread-1", "", None).await?;
//! assert_eq!(latest.map(|latest| latest.header.key), Some(first.key));
//! # Ok(())
//! # }
//! ```

mod backend;
mod blobs;
mod body;
mod chunks;
mod commit;
mod cuts;
mod general;
mod history;
mod layout;
mod marks;
mod metadata;
mod names;
mod outline;
mod pages;
mod prepare;
mod read;
mod record;
mod retention;
#[cfg(test)]
mod simulated;
mod step;
mod survey;
mod sweep;
mod threads;
mod types;

pub use backend::{CheckpointConfig, CheckpointerBackend, Epoch};
pub use general::{CheckpointStore, StoredCheckpoint};
pub(crate) use layout::{COPYING, thread as thread_partition};
pub use outline::CheckpointOutline;
pub use types::{
    ChannelValue, ChannelVersions, Checkpoint, CheckpointHeader, CheckpointKey, DeltaHistory, ERROR_CHANNEL,
    INTERRUPT_CHANNEL, ListCheckpoints, MAX_METADATA_BYTES, NewCheckpoint, Payload, PendingWrite,
    PruneReport, PruneStrategy, RESUME_CHANNEL, Retention, SCHEDULED_CHANNEL, TaskWrites, ThreadInfo,
    Version,
};
