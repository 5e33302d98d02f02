//! Checkpoints of agents' state: LangGraph's contract and a general one, on any store.
//!
//! A thread is one partition, so a step is one commit: the checkpoint, the values of its channels and its writes are there
//! together or not at all. Large payloads are cut into chunks by their content, and the lists of chunks in the same way,
//! so that the next version of a growing list costs about what was added to it, whatever the length of the history and
//! without any knowledge of the serialiser.
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
mod chunks;
mod commit;
mod general;
mod history;
mod layout;
mod prepare;
mod read;
mod record;
mod retention;
mod step;
mod survey;
mod sweep;
mod threads;
mod types;

pub use backend::{CheckpointConfig, CheckpointerBackend, Epoch};
pub use general::{CheckpointStore, StoredCheckpoint};
pub use types::{
    ChannelValue, ChannelVersions, Checkpoint, CheckpointHeader, CheckpointKey, DeltaHistory, ERROR_CHANNEL,
    INTERRUPT_CHANNEL, ListCheckpoints, MAX_METADATA_BYTES, NewCheckpoint, Payload, PendingWrite,
    PruneReport, PruneStrategy, RESUME_CHANNEL, Retention, SCHEDULED_CHANNEL, TaskWrites, ThreadInfo,
    Version,
};
