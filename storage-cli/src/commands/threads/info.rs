//! What is known of a thread.

use serde_json::{Value, json};
use storage_agent::{AgentStorage, checkpoints::ThreadInfo};

use crate::{
    failure::{Failure, Result},
    output::moment,
};

pub(super) fn document(thread: &ThreadInfo) -> Value {
    json!({
        "thread": thread.thread_id,
        "checkpoints": thread.checkpoints,
        "items": thread.items,
        "bytes": thread.bytes,
        "updated_at": moment(thread.updated_at),
        "expires_at": thread.expires_at.map(moment),
    })
}

pub(super) async fn found(agent: &AgentStorage, thread: &str) -> Result<ThreadInfo> {
    let info = agent.checkpointer().thread(thread).await?;
    info.ok_or_else(|| {
        Failure::not_found(&format!("thread:{thread}")).hint("`storage threads list` shows which there are")
    })
}
