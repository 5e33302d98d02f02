//! What the application of a policy did.

use serde::Serialize;

use crate::{Cleanup, checkpoints::PruneReport};

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetentionReport {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// The sessions that nobody used, with what belonged to them.
    pub removed: Cleanup,
    /// How many conversations that are beyond their limits were left whole, because their sessions are tagged.
    pub tagged_conversations: u64,
    /// How many checkpoints stayed because they are tagged.
    pub tagged_checkpoints: u64,
    /// How many conversations were cut.
    pub conversations: u64,
    /// How many messages they lost.
    pub messages: u64,
    /// How many threads were pruned.
    pub threads: u64,
    /// How many checkpoints they lost.
    pub checkpoints: u64,
    /// By how many bytes threads shrank in the store.
    pub bytes: u64,
    /// How many expired memories were removed; a dry run does not count them.
    pub memories: u64,
}

impl RetentionReport {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { dry_run, ..Self::default() }
    }

    pub(super) fn add(&mut self, pruned: &PruneReport) {
        self.threads += u64::from(!pruned.checkpoints.is_empty());
        self.checkpoints += pruned.checkpoints.len() as u64;
        self.bytes += pruned.bytes;
        self.tagged_checkpoints += pruned.tagged;
    }
}
