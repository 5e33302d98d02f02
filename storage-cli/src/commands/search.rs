//! `storage search`.

use serde_json::json;
use storage_agent::{MemoryHit, MessageHit, SearchMemories, SearchMessages};
use storage_core::Listing;
use storage_factory::Settings;

use super::memory::{borrowed, labels, looking, path};
use crate::{
    args::Finding,
    failure::{DONE, NO, Result},
    output::{Output, moment, table, visible, warn},
    store::with_agent,
};

pub(super) async fn run(finding: Finding, settings: &Settings, out: &mut Output) -> Result<u8> {
    let Finding { query, sessions, user, roles, since, until, namespace, limit, offset } = finding;
    let narrowed =
        !sessions.is_empty() || user.is_some() || !roles.is_empty() || since.is_some() || until.is_some();
    let messages = SearchMessages {
        sessions,
        user_id: user,
        roles,
        since,
        until,
        limit,
        offset,
        ..SearchMessages::new(query.clone())
    };
    let below = namespace.as_deref().map(labels).transpose()?;
    let memories = SearchMemories { filter: None, limit, offset, refresh_ttl: None };
    let found = with_agent(settings, async |agent| {
        let messages = match &below {
            Some(_) => Listing::default(),
            None => agent.conversations().search_messages(&messages).await?,
        };
        let memories = if narrowed {
            Listing::default()
        } else {
            let below = below.as_deref().unwrap_or_default();
            looking(agent).find(&borrowed(below), &query, &memories).await?
        };
        Ok((messages, memories))
    });
    let (messages, memories) = found.await?;
    let document = json!({"messages": messages.entries, "memories": memories.entries});
    let none = messages.is_empty() && memories.is_empty();
    let text = if none { "nothing was found".to_owned() } else { tables(&messages, &memories) };
    out.answer(&document, text)?;
    for error in messages.corrupt.into_iter().chain(memories.corrupt) {
        warn(error.into(), out.json());
    }
    Ok(if none { NO } else { DONE })
}

fn tables(messages: &[MessageHit], memories: &[MemoryHit]) -> String {
    let mut tables = Vec::new();
    if !messages.is_empty() {
        let mut rows = vec![["SESSION", "SEQ", "TIME", "ROLE", "MESSAGE"].map(str::to_owned)];
        rows.extend(messages.iter().map(|hit| {
            let message = &hit.message;
            let (session, role) = (visible(&hit.session_id), visible(&message.role));
            [
                session,
                message.sequence.to_string(),
                moment(message.created_at),
                role,
                visible(&hit.snippet.text),
            ]
        }));
        tables.push(table(&rows));
    }
    if !memories.is_empty() {
        let mut rows = vec![["NAMESPACE", "KEY", "UPDATED", "MEMORY"].map(str::to_owned)];
        rows.extend(memories.iter().map(|hit| {
            let MemoryHit { memory, snippet, .. } = hit;
            let snippet = visible(snippet.text.trim_end());
            [visible(&path(&memory.namespace)), visible(&memory.key), moment(memory.updated_at), snippet]
        }));
        tables.push(table(&rows));
    }
    tables.join("\n\n")
}
