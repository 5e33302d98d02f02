//! One interface to all of an agent's memory.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use storage_core::{Clock, Result, StorageBackend, SystemClock};

use crate::{
    AgentHealth, Cleanup, ConversationLimits, ConversationStore, MemoryStore, OperationMetrics, SESSION_TTL,
    SessionStore, TASK_VERSIONS, TaskContextStore, Totals,
    checkpoints::{CheckpointConfig, CheckpointStore, CheckpointerBackend},
    shared::Shared,
};

/// How an agent's memory is set up.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// How long a session stays after its last use; `None`: for good.
    pub session_ttl: Option<Duration>,
    /// What conversations may grow to.
    pub conversation_limits: ConversationLimits,
    /// How long a conversation stays after its last message; `None`: until it is deleted or cleaned up.
    pub conversation_ttl: Option<Duration>,
    /// How many versions of a task context are kept; one at least.
    pub task_versions: u64,
    /// How long a task context stays after its last version; `None`: until it is deleted or cleaned up.
    pub task_ttl: Option<Duration>,
    /// How long a memory stays that is put without a time to live of its own; `None`: until it is deleted.
    pub memory_ttl: Option<Duration>,
    /// Whether reading a memory makes its time to live begin anew.
    pub memory_refresh_on_read: bool,
    /// Whether messages and memories are written so that a search finds them, where the storage has an index: on by default. It costs
    /// room, about a third of the text, and time with each write.
    pub search: bool,
    /// How checkpoints are kept.
    pub checkpoints: CheckpointConfig,
    /// Where the times of sessions come from.
    pub clock: Arc<dyn Clock>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            session_ttl: Some(SESSION_TTL),
            conversation_limits: ConversationLimits::default(),
            conversation_ttl: None,
            task_versions: TASK_VERSIONS,
            task_ttl: None,
            memory_ttl: None,
            memory_refresh_on_read: true,
            search: true,
            checkpoints: CheckpointConfig::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// All of an agent's memory on one storage. Nothing is in the process alone: a store that fails is an error.
#[derive(Debug, Clone)]
pub struct AgentStorage {
    pub(crate) shared: Shared,
    sessions: SessionStore,
    conversations: ConversationStore,
    tasks: TaskContextStore,
    memories: MemoryStore,
    checkpoints: CheckpointStore,
    checkpointer: CheckpointerBackend,
}

/// What is stored, and what this process did.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AgentMetrics {
    /// What is in the storage, whoever wrote it.
    pub totals: Totals,
    /// What this [`AgentStorage`] did since it was made.
    pub operations: Vec<OperationMetrics>,
}

impl AgentStorage {
    /// Memory in `storage` with the default settings. Does no I/O.
    ///
    /// # Errors
    /// `Unsupported` where the storage has no partitions.
    pub fn new(storage: Arc<dyn StorageBackend>) -> Result<Self> {
        Self::with_config(storage, AgentConfig::default())
    }

    /// Memory in `storage`. Does no I/O.
    ///
    /// # Errors
    /// `Unsupported` where the storage has no partitions; `InvalidInput` for an expiry of zero or above 100 years, and for
    /// no versions.
    pub fn with_config(storage: Arc<dyn StorageBackend>, config: AgentConfig) -> Result<Self> {
        let shared =
            Shared { clock: config.clock, search: config.search, ..Shared::with_collections(storage)? };
        let sessions = SessionStore::on(shared.clone()).with_ttl(config.session_ttl)?;
        let conversations = ConversationStore::on(shared.clone(), sessions.clone())
            .with_limits(config.conversation_limits)
            .with_ttl(config.conversation_ttl)?;
        let tasks = TaskContextStore::on(shared.clone(), sessions.clone())
            .with_versions(config.task_versions)?
            .with_ttl(config.task_ttl)?;
        let memories = MemoryStore::on(shared.clone())
            .with_ttl(config.memory_ttl)?
            .with_refresh_on_read(config.memory_refresh_on_read);
        let checkpointer = CheckpointerBackend::on(shared.clone(), config.checkpoints);
        let checkpoints = CheckpointStore::beside(&checkpointer);
        Ok(Self { shared, sessions, conversations, tasks, memories, checkpoints, checkpointer })
    }

    /// Opens the storage. May be repeated.
    ///
    /// # Errors
    /// As [`connect`](StorageBackend::connect).
    pub async fn initialize(&self) -> Result<()> {
        self.shared.storage.connect().await
    }

    /// Waits for the writes under way and closes the storage. May be repeated.
    ///
    /// # Errors
    /// As [`disconnect`](StorageBackend::disconnect).
    pub async fn close(&self) -> Result<()> {
        self.shared.storage.disconnect().await
    }

    /// Sessions.
    #[must_use]
    pub fn sessions(&self) -> &SessionStore {
        &self.sessions
    }

    /// Conversations.
    #[must_use]
    pub fn conversations(&self) -> &ConversationStore {
        &self.conversations
    }

    /// Task contexts.
    #[must_use]
    pub fn tasks(&self) -> &TaskContextStore {
        &self.tasks
    }

    /// Long-term memory, over sessions and users.
    #[must_use]
    pub fn memories(&self) -> &MemoryStore {
        &self.memories
    }

    /// Checkpoints of any program.
    #[must_use]
    pub fn checkpoints(&self) -> &CheckpointStore {
        &self.checkpoints
    }

    /// Checkpoints by LangGraph's contract.
    #[must_use]
    pub fn checkpointer(&self) -> &CheckpointerBackend {
        &self.checkpointer
    }

    /// Writes, reads and deletes in each store. Never fails: what is wrong stands in the result.
    pub async fn health_check(&self) -> AgentHealth {
        AgentHealth::check(&self.shared).await
    }

    /// Counts what is stored, whoever wrote it, and says what this process did. Looks at every session and at every
    /// partition, though not at what is in it: for once in a minute, not for each request.
    ///
    /// # Errors
    /// What ends a scan.
    pub async fn get_metrics(&self) -> Result<AgentMetrics> {
        let totals = Totals::of(&self.shared, &self.sessions, &self.checkpointer);
        let totals = self.shared.measured("get_metrics", totals).await?;
        Ok(AgentMetrics { totals, operations: self.shared.recorder.operations() })
    }

    /// Removes the sessions that were not used for `max_idle`, with what belongs to them:
    /// [`cleanup_expired_sessions`](SessionStore::cleanup_expired_sessions) of [`SessionStore`].
    ///
    /// # Errors
    /// As there.
    pub async fn cleanup_expired_sessions(&self, max_idle: Duration) -> Result<Cleanup> {
        self.sessions.cleanup_expired_sessions(max_idle).await
    }
}
