//! Conversations: one partition each, `conversation:{session}`, with a message an item.

mod attributes;
mod change;
mod content;
mod edit;
mod find;
mod ids;
mod message;
mod read;
mod search;
pub(crate) mod texts;
mod tokens;

use std::{sync::Arc, time::Duration};

use storage_core::{Json, Operation, Partition, Result, StorageBackend, optional_ttl_millis};

use crate::{SessionStore, shared::Shared};
pub use attributes::MessageEdits;
pub use content::Content;
pub use edit::{MessageEdit, Redaction};
pub use find::{FoundMessages, MessageQuery};
pub use message::{Message, NewMessage};
pub use read::ConversationPage;
pub use search::{MessageHit, SearchMessages};
pub use tokens::UncountedTokens;

/// What the partition of each conversation is named by.
pub(crate) const KIND: &str = "conversation";

/// What a conversation may grow to. Each append drops the oldest messages beyond it, in the same atomic step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConversationLimits {
    /// So many messages at most.
    pub max_messages: Option<u64>,
    /// So many bytes at most, those of metadata and of numbering included. The last message stays, whatever it has.
    pub max_bytes: Option<u64>,
    /// No message older than this, by when it was written into this conversation. Judged at each append, from the oldest
    /// message on up to the first that is young enough; give the conversation an expiry to end it without one.
    pub max_age: Option<Duration>,
}

/// Conversations, on every store with partitions.
///
/// Messages are numbered by the store, one after the other, and stand in that order; concurrent writers lose nothing. A
/// conversation begins with its first message and needs no session, though a session of its name is kept alive by it.
/// Without limits nothing is ever dropped.
///
/// An empty session id, and one too long for a key, is `InvalidInput`. Other errors are those of the storage.
#[derive(Debug, Clone)]
pub struct ConversationStore {
    shared: Shared,
    sessions: SessionStore,
    limits: ConversationLimits,
    ttl: Option<Duration>,
}

impl ConversationStore {
    /// Conversations in `storage`, without limits and expiry.
    ///
    /// # Errors
    /// `Unsupported` where the storage has no partitions.
    pub fn new(storage: Arc<dyn StorageBackend>) -> Result<Self> {
        let shared = Shared::with_collections(storage)?;
        Ok(Self::on(shared.clone(), SessionStore::on(shared)))
    }

    pub(crate) fn on(shared: Shared, sessions: SessionStore) -> Self {
        Self { shared, sessions, limits: ConversationLimits::default(), ttl: None }
    }

    /// What conversations may grow to.
    #[must_use]
    pub fn with_limits(mut self, limits: ConversationLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a conversation stays after its last message; `None`: until it is deleted or cleaned up.
    ///
    /// # Errors
    /// `InvalidInput` for zero and for more than 100 years.
    pub fn with_ttl(mut self, ttl: Option<Duration>) -> Result<Self> {
        optional_ttl_millis(ttl)?;
        self.ttl = ttl;
        Ok(self)
    }

    /// Whose expiry a message refreshes; a store of sessions with its default settings unless set otherwise.
    #[must_use]
    pub fn with_sessions(mut self, sessions: SessionStore) -> Self {
        self.sessions = sessions;
        self
    }

    /// What keeps a conversation within its limits; the last step of each append.
    fn trim(&self) -> Option<Operation> {
        let ConversationLimits { max_messages: items, max_bytes: bytes, max_age } = self.limits;
        let bounded = items.is_some() || bytes.is_some() || max_age.is_some();
        bounded.then_some(Operation::Trim { items, bytes, max_age })
    }
}

/// The id that a message was written with, by the attributes of its item.
pub(crate) fn id_of(attributes: &Json) -> Option<String> {
    attributes.decode::<attributes::Attributes>().ok()?.id
}

fn partition(session: &str) -> Result<Partition> {
    if session.is_empty() {
        return Err(storage_core::Error::invalid_input("a session id may not be empty"));
    }
    Partition::new(KIND, &[session])
}
