#![doc = include_str!("../README.md")]

mod agent;
mod belongings;
mod carry;
pub mod checkpoints;
mod conversations;
mod filter;
mod forget;
mod health;
mod hits;
mod memories;
mod metrics;
mod retention;
mod sessions;
mod shared;
mod tasks;
mod texts;
mod time;
mod totals;
mod user_data;

pub use agent::{AgentConfig, AgentMetrics, AgentStorage};
pub use carry::{Existing, ExportScope, Exported, Imported};
pub use conversations::{
    Content, ConversationLimits, ConversationPage, ConversationStore, FoundMessages, Message, MessageEdit,
    MessageEdits, MessageHit, MessageQuery, NewMessage, Redaction, SearchMessages, UncountedTokens,
};
pub use forget::Forgotten;
pub use health::{AgentHealth, StoreProbe};
pub use memories::{
    ListNamespaces, MAX_MEMORY_KEY_BYTES, MAX_NAMESPACE_BYTES, MemoryAnswer, MemoryHit, MemoryItem, MemoryOp,
    MemoryStore, MemoryTtl, SearchMemories,
};
pub use metrics::OperationMetrics;
pub use retention::{RetentionPolicy, RetentionReport};
pub use sessions::{
    ACTIVE, Cleanup, Metadata, NewSession, SESSION_TTL, Session, SessionCursor, SessionFilter,
    SessionMetrics, SessionPage, SessionStore, SessionUpdate,
};
pub use tasks::{TASK_VERSIONS, TaskContext, TaskContextStore};
pub use totals::Totals;
pub use user_data::UserData;
