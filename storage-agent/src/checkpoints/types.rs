//! What goes in and what comes out.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage_core::{Error, Json, Result};

use super::names::check_name;

/// The channel of a task's error; its write has the index −1.
pub const ERROR_CHANNEL: &str = "__error__";
/// The channel of a scheduled task; its write has the index −2.
pub const SCHEDULED_CHANNEL: &str = "__scheduled__";
/// The channel of an interrupt; its write has the index −3.
pub const INTERRUPT_CHANNEL: &str = "__interrupt__";
/// The channel of what an interrupted task goes on with; its write has the index −4.
pub const RESUME_CHANNEL: &str = "__resume__";

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckpointKey {
    /// The thread. It and the namespace may have 8 KiB.
    pub thread_id: String,
    /// The namespace within it; empty for the root graph. May hold `:` and `|`.
    pub checkpoint_ns: String,
    /// The checkpoint. Of two ids the greater one, byte for byte, is the newer one. 40 bytes fit beside any namespace.
    pub checkpoint_id: String,
}

impl CheckpointKey {
    /// A key of these three.
    pub fn new(
        thread_id: impl Into<String>,
        checkpoint_ns: impl Into<String>,
        checkpoint_id: impl Into<String>,
    ) -> Self {
        Self {
            thread_id: thread_id.into(),
            checkpoint_ns: checkpoint_ns.into(),
            checkpoint_id: checkpoint_id.into(),
        }
    }
}

pub(super) fn check_id(checkpoint_id: &str) -> Result<()> {
    if checkpoint_id.is_empty() {
        return Err(Error::invalid_input("a checkpoint needs an id"));
    }
    Ok(())
}

/// A serialised value: the serialiser's name for its type, and any bytes, or none at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// What the serialiser calls the type, such as `msgpack`.
    pub kind: String,
    /// The bytes; `None` is told apart from none.
    pub bytes: Option<Bytes>,
}

impl Payload {
    /// A payload of these bytes.
    pub fn new(kind: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { kind: kind.into(), bytes: Some(bytes.into()) }
    }
}

/// Sizes alone: bytes never appear in logs.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({}, {:?} bytes)", self.kind, self.bytes.as_ref().map(Bytes::len))
    }
}

/// The version of a channel; its type is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Version {
    /// An integer.
    Int(i64),
    /// A float between -2^53 and 2^53: beyond, it may stand for several integers.
    Float(f64),
    /// A text.
    Text(String),
}

/// Up to here each integer is a float of its own.
const LARGEST_FLOAT: f64 = 9_007_199_254_740_992.0;

impl Version {
    /// Told apart by type: 1, 1.0 and "1" are three versions.
    pub(super) fn segment(&self) -> String {
        match self {
            Self::Int(number) => format!("i{number}"),
            Self::Float(number) => format!("f{number:?}"),
            Self::Text(text) => format!("t{text}"),
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Text(text) => return check_name("channel's version", text),
            Self::Float(number) if number.abs() > LARGEST_FLOAT || number.is_nan() => {}
            _ => return Ok(()),
        }
        Err(Error::invalid_input(
            "a channel's version is an integer of 64 bits, a float up to 2^53, or a text",
        )
        .with_hint("a larger integer has become a float, which two of them may share: write it as a text"))
    }
}

/// The versions of the channels at a checkpoint.
pub type ChannelVersions = BTreeMap<String, Version>;

/// A channel's value at a version; `None` where the channel is empty at that version.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelValue {
    /// The channel.
    pub channel: String,
    /// Its version.
    pub version: Version,
    /// Its value.
    pub value: Option<Payload>,
}

/// A checkpoint to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCheckpoint {
    /// Where.
    pub key: CheckpointKey,
    /// The checkpoint it follows.
    pub parent_id: Option<String>,
    /// The serialised checkpoint, without the values of its channels.
    pub checkpoint: Payload,
    /// Its metadata, an object of up to [`MAX_METADATA_BYTES`]. What is large of it is stored as channels' values are: as long
    /// as it stays the same, the next checkpoint costs little.
    pub metadata: Json,
    /// The versions of all its channels.
    pub channel_versions: ChannelVersions,
    /// The values of the channels that changed. A value is written once: one that is there for the version stays. So versions
    /// need a random part, as LangGraph's have: two forks that count on from a whole number would share their values.
    pub new_values: Vec<ChannelValue>,
}

/// The largest metadata of a [`NewCheckpoint`], in bytes of JSON text: 16 MiB.
pub const MAX_METADATA_BYTES: usize = 16 * 1024 * 1024;

impl NewCheckpoint {
    pub(super) fn check(&self) -> Result<()> {
        if self.metadata.len() > MAX_METADATA_BYTES {
            let message =
                format!("metadata may have {MAX_METADATA_BYTES} bytes; this has {}", self.metadata.len());
            return Err(Error::invalid_input(message).with_hint("large data belongs into a channel"));
        }
        if !self.metadata.as_str().trim_start().starts_with('{') {
            return Err(Error::invalid_input("metadata is a JSON object"));
        }
        let values = self.new_values.iter().map(|value| (&value.channel, &value.version));
        self.channel_versions.iter().chain(values).try_for_each(|(channel, version)| {
            check_name("channel's name", channel)?;
            version.check()
        })
    }
}

/// What one task wrote while a checkpoint was the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskWrites {
    /// The checkpoint the task ran on.
    pub checkpoint_id: String,
    /// The task.
    pub task_id: String,
    /// Where it is in the graph; may be empty.
    pub task_path: String,
    /// Channels and what was written to them. A write's index is its position, but −1 to −4 for the special channels.
    pub writes: Vec<(String, Payload)>,
}

/// A write that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingWrite {
    /// The task.
    pub task_id: String,
    /// Where it is in the graph.
    pub task_path: String,
    /// Its index.
    pub index: i64,
    /// The channel.
    pub channel: String,
    /// What was written.
    pub value: Payload,
}

/// What is known of a checkpoint without loading its values.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointHeader {
    /// Where it is.
    pub key: CheckpointKey,
    /// The checkpoint it follows, which may have been pruned.
    pub parent_id: Option<String>,
    /// Its metadata.
    pub metadata: Json,
    /// When it was written, by the store's clock.
    pub written_at: SystemTime,
}

/// A checkpoint with all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Where it is, what it follows, its metadata.
    pub header: CheckpointHeader,
    /// The serialised checkpoint, without the values of its channels.
    pub checkpoint: Payload,
    /// The versions of its channels.
    pub channel_versions: ChannelVersions,
    /// The values of its channels that have one.
    pub channel_values: BTreeMap<String, Payload>,
    /// Its writes, ordered by task path, task id and index.
    pub pending_writes: Vec<PendingWrite>,
}

/// Which checkpoints to list; by default all of them.
#[derive(Debug, Clone, Default)]
pub struct ListCheckpoints {
    /// Of one thread.
    pub thread_id: Option<String>,
    /// Of one namespace.
    pub checkpoint_ns: Option<String>,
    /// With this checkpoint id.
    pub checkpoint_id: Option<String>,
    /// Older than this checkpoint id.
    pub before: Option<String>,
    /// How many at most.
    pub limit: Option<usize>,
    /// Whose metadata has these members; null also matches a missing one.
    pub filter: BTreeMap<String, Value>,
    /// Whether the filter takes true for 1 and false for 0, wherever they stand, as Python's equality and LangGraph's savers do.
    pub bools_are_numbers: bool,
}

/// What an ancestor walk found of one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeltaHistory {
    /// The writes on the path, the oldest first.
    pub writes: Vec<PendingWrite>,
    /// The value at the nearest ancestor that has one; `None` where the walk reached the root.
    pub seed: Option<Payload>,
}

/// What is known of a thread without reading its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadInfo {
    /// The thread.
    pub thread_id: String,
    /// How many checkpoints it has, in all namespaces.
    pub checkpoints: u64,
    /// How many items it has in the store.
    pub items: u64,
    /// The bytes it has in the store: keys, attributes and bodies.
    pub bytes: u64,
    /// When it was written to last.
    pub updated_at: SystemTime,
    /// When it expires, where it does.
    pub expires_at: Option<SystemTime>,
}

/// What stays of a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many of the latest checkpoints of each namespace; 0 counts as 1.
    pub keep_last: Option<usize>,
    /// Those that are not older, by the clock of the store; the latest of each namespace stays, however old.
    pub max_age: Option<Duration>,
    /// Besides, those whose metadata has this member, neither null nor false.
    pub keep_tagged: Option<String>,
}

/// What pruning a thread leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneStrategy {
    /// The latest checkpoint of each namespace, and what it and unresolved writes need.
    KeepLatest,
    /// Nothing.
    Delete,
}

/// What a pruning removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The checkpoints.
    pub checkpoints: Vec<CheckpointKey>,
    /// How many writes go with them.
    pub writes: u64,
    /// How many channel values go with them.
    pub values: u64,
    /// By how many bytes the thread shrinks in the store.
    pub bytes: u64,
    /// How many checkpoints the policy keeps only because they are tagged.
    pub tagged: u64,
}

impl PruneReport {
    pub(super) fn add(&mut self, more: Self) {
        self.checkpoints.extend(more.checkpoints);
        self.writes += more.writes;
        self.values += more.values;
        self.bytes += more.bytes;
        // Each step counts them anew.
        self.tagged = more.tagged;
    }
}
