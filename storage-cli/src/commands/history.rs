//! `storage history`.

use serde_json::json;
use storage_agent::{AgentStorage, Content, FoundMessages, Message, MessageQuery, SearchMessages};
use storage_factory::Settings;

use super::value;
use crate::{
    args::Messages,
    failure::{DONE, Failure, Result},
    output::{Output, moment, table, visible, warn},
    store::{max_value_bytes, with_agent},
};

/// What was found, the oldest message first.
#[derive(Default)]
struct Shown {
    messages: Vec<Message>,
    corrupt: Vec<storage_core::Error>,
    more: bool,
}

pub(super) async fn run(session: &str, which: Messages, settings: &Settings, out: &mut Output) -> Result<u8> {
    let Messages { limit, before: after, since, until, roles, filter, search } = which;
    let filter = filter.map(|text| value::read(&text, max_value_bytes(settings))).transpose()?;
    let searched = search.is_some();
    let query = MessageQuery { limit, after, since, until, roles, filter, ..MessageQuery::default() };
    let Shown { messages, corrupt, more } = match search {
        Some(search) => said(session, search, query, settings).await?,
        None => found(session, query, settings).await?,
    };
    out.answer(&json!({"messages": messages, "more": more}), messages_table(&messages))?;
    if let (true, false, false, Some(first)) = (more, searched, out.json(), messages.first()) {
        out.line(format_args!("more: --before {}", first.sequence))?;
    }
    for error in corrupt {
        warn(error.into(), out.json());
    }
    Ok(DONE)
}

/// The best that say what is asked for.
async fn said(session: &str, search: String, query: MessageQuery, settings: &Settings) -> Result<Shown> {
    let MessageQuery { since, until, roles, limit, .. } = query;
    let sessions = vec![session.to_owned()];
    let more = limit.saturating_add(1);
    let search = SearchMessages { sessions, since, until, roles, limit: more, ..SearchMessages::new(search) };
    let read = with_agent(settings, async |agent| {
        there(agent, session).await?;
        let hits = agent.conversations().search_messages(&search).await?;
        let more = hits.len() > limit;
        let mut messages: Vec<_> = hits.entries.into_iter().take(limit).map(|hit| hit.message).collect();
        messages.sort_by_key(|message| message.sequence);
        Ok(Shown { messages, corrupt: hits.corrupt, more })
    });
    read.await
}

async fn there(agent: &AgentStorage, session: &str) -> Result<()> {
    if agent.conversations().get_conversation_info(session).await?.is_some() {
        return Ok(());
    }
    let hint = "a conversation begins with its first message; `storage sessions list` shows the sessions";
    Err(Failure::not_found(&format!("conversation:{session}")).hint(hint))
}

/// As many as are asked for, however many calls that takes.
async fn found(session: &str, mut query: MessageQuery, settings: &Settings) -> Result<Shown> {
    let read = with_agent(settings, async |agent| {
        let conversations = agent.conversations();
        there(agent, session).await?;
        let mut shown = Shown::default();
        loop {
            let FoundMessages { messages, corrupt, next, .. } =
                conversations.find_messages(session, &query).await?;
            query.limit -= messages.len();
            shown.messages.extend(messages);
            shown.corrupt.extend(corrupt);
            (query.after, shown.more) = (next, next.is_some());
            if next.is_none() || query.limit == 0 {
                break;
            }
        }
        shown.messages.reverse();
        shown.corrupt.reverse();
        Ok(shown)
    });
    read.await
}

fn messages_table(messages: &[Message]) -> String {
    let mut rows = vec![["SEQ", "TIME", "ROLE", "CONTENT"].map(str::to_owned)];
    rows.extend(messages.iter().map(|message| {
        let content = match &message.content {
            Content::Text(text) => visible(text),
            Content::Json(value) => visible(value.as_str()),
        };
        let content = match &message.edits {
            Some(edits) if edits.redacted => "(redacted)".to_owned(),
            Some(_) => format!("(edited) {content}"),
            None => content,
        };
        [message.sequence.to_string(), moment(message.created_at), visible(&message.role), content]
    }));
    table(&rows)
}
