//! `storage history`.

use serde_json::json;
use storage_agent::{Content, ConversationPage};
use storage_factory::Settings;

use crate::{
    failure::{DONE, Failure, Result},
    output::{Output, moment, table, visible, warn},
    store::with_agent,
};

pub(super) async fn run(
    session: &str,
    limit: usize,
    before: Option<u64>,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let read = with_agent(settings, async |agent| {
        let conversations = agent.conversations();
        if conversations.get_conversation_info(session).await?.is_none() {
            let hint =
                "a conversation begins with its first message; `storage sessions list` shows the sessions";
            return Err(Failure::not_found(&format!("conversation:{session}")).hint(hint));
        }
        Ok(match before {
            Some(before) => conversations.get_messages_before(session, before, limit).await?,
            None => conversations.get_conversation_history(session, limit).await?,
        })
    });
    let page = read.await?;
    out.answer(&json!({"messages": page.messages, "more": page.more}), messages_table(&page))?;
    if let (true, false, Some(first)) = (page.more, out.json(), page.first()) {
        out.line(format_args!("more: --before {}", first.sequence))?;
    }
    for error in page.corrupt {
        warn(error.into(), out.json());
    }
    Ok(DONE)
}

fn messages_table(page: &ConversationPage) -> String {
    let mut rows = vec![["SEQ", "TIME", "ROLE", "CONTENT"].map(str::to_owned)];
    rows.extend(page.iter().map(|message| {
        let content = match &message.content {
            Content::Text(text) => visible(text),
            Content::Json(value) => visible(value.as_str()),
        };
        [message.sequence.to_string(), moment(message.created_at), visible(&message.role), content]
    }));
    table(&rows)
}
