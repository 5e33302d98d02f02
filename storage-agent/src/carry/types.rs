//! What is exported and imported, and what became of it.

use serde::Serialize;
use storage_core::Error;

use crate::UserData;

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportScope {
    /// All entries, whoever wrote them, and all that agents keep.
    Everything {
        /// Further kinds of partitions, such as other programs have: a store cannot list which there are.
        other_kinds: Vec<String>,
    },
    /// What [`delete_user`](crate::AgentStorage::delete_user) would delete: a user's sessions with what belongs to them, threads and
    /// memories.
    User {
        /// The user's id.
        id: String,
        /// Where the user's threads and memories are.
        data: UserData,
    },
    /// What [`delete_session`](crate::AgentStorage::delete_session) would delete: a session, its conversation, its task contexts, and
    /// the threads that have its id.
    Session(String),
    /// The threads that have an id, of both kinds of checkpoints.
    Thread(String),
}

/// What becomes of what is there already and differs from the export. What is there and equal always stays, and what an
/// import that died has left is always written anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// Nothing is imported.
    #[default]
    Refuse,
    /// It stays as it is.
    Skip,
    /// The export takes its place.
    Replace,
}

/// What was exported.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Exported {
    /// Entries, such as the documents of sessions.
    pub entries: u64,
    /// Partitions: conversations, task contexts and threads.
    pub partitions: u64,
    /// The items in them.
    pub items: u64,
    /// Memories.
    pub memories: u64,
    /// Entries and memories that could not be read, and are not in the export.
    pub left_out: u64,
    /// Why, for the first hundred.
    #[serde(skip)]
    pub corrupt: Vec<Error>,
}

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Imported {
    /// Entries that were written.
    pub entries: u64,
    /// Partitions that were written.
    pub partitions: u64,
    /// The items in them.
    pub items: u64,
    /// Memories that were written.
    pub memories: u64,
    /// Entries, partitions and memories that were there, and equal.
    pub unchanged: u64,
    /// Those that were there, and stayed as they were.
    pub skipped: u64,
    /// Those that have expired since they were exported.
    pub expired: u64,
}
