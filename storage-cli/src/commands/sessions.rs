//! `storage sessions`.

use std::sync::Arc;

use serde_json::json;
use storage_agent::{Session, SessionCursor, SessionFilter, SessionPage, SessionStore};
use storage_core::{Expiry, StorageBackend};
use storage_factory::Settings;

use super::users;
use crate::{
    args::Sessions,
    ask,
    failure::{DONE, Failure, Result},
    output::{Output, moment, table, visible, warn},
    store::{with_agent, with_shared},
};

pub(super) async fn run(command: Sessions, settings: &Settings, out: &mut Output) -> Result<u8> {
    match command {
        Sessions::List { user: user_id, status, idle: idle_for, limit, after } => {
            let after = after.map(SessionCursor::from);
            list(SessionFilter { user_id, status, idle_for, limit, after }, settings, out).await
        }
        Sessions::Show { id } => {
            let found = with_agent(settings, async |agent| Ok(agent.sessions().get_session(&id).await?));
            show(&id, found.await?, out)
        }
        Sessions::Delete { id, yes } => delete(&id, yes, settings, out).await,
        Sessions::End { id, status } => {
            let ended = with_shared(settings, async |storage| end(storage, &id, &status).await);
            show(&id, ended.await?, out)
        }
    }
}

async fn list(filter: SessionFilter, settings: &Settings, out: &mut Output) -> Result<u8> {
    let page = with_agent(settings, async |agent| Ok(agent.sessions().list_sessions(&filter).await?)).await?;
    let next = page.next.as_ref().map(SessionCursor::to_string);
    out.answer(&json!({"sessions": page.sessions, "next": next}), sessions_table(&page))?;
    if let Some(next) = next.filter(|_| !out.json()) {
        out.line(format_args!("more: --after {}", visible(&next)))?;
    }
    for error in page.corrupt {
        warn(error.into(), out.json());
    }
    Ok(DONE)
}

fn sessions_table(page: &SessionPage) -> String {
    let mut rows = vec![["SESSION", "USER", "STATUS", "REQUESTS", "ERRORS", "USED"].map(str::to_owned)];
    rows.extend(page.sessions.iter().map(|session| {
        [
            visible(&session.session_id),
            visible(&session.user_id),
            visible(&session.status),
            session.metrics.request_count.to_string(),
            session.metrics.error_count.to_string(),
            moment(session.updated_at),
        ]
    }));
    table(&rows)
}

/// Does not change when the session expires, which its program decides.
async fn end(storage: Arc<dyn StorageBackend>, id: &str, status: &str) -> Result<Option<Session>> {
    let ttl = match storage.ttl(&key(id)).await? {
        Some(Expiry::After(left)) => Some(left),
        Some(Expiry::Never) => None,
        None => return Ok(None),
    };
    Ok(SessionStore::new(storage).with_ttl(ttl)?.end_session(id, status).await?)
}

async fn delete(id: &str, yes: bool, settings: &Settings, out: &mut Output) -> Result<u8> {
    let what = format!("the session {} and its conversation, tasks and threads", visible(id));
    ask::to_delete(&what, yes)?;
    let forgotten = with_agent(settings, async |agent| Ok(agent.delete_session(id).await?)).await?;
    users::report(&forgotten, out)
}

fn key(id: &str) -> String {
    format!("session:{id}")
}

fn show(id: &str, session: Option<Session>, out: &mut Output) -> Result<u8> {
    let session = session.ok_or_else(|| {
        Failure::not_found(&key(id))
            .hint("`storage sessions list` shows which there are; others have expired")
    })?;
    let rows = [
        ("session", visible(&session.session_id)),
        ("user", visible(&session.user_id)),
        ("status", visible(&session.status)),
        ("created", moment(session.created_at)),
        ("used", moment(session.updated_at)),
        ("requests", session.metrics.request_count.to_string()),
        ("errors", session.metrics.error_count.to_string()),
        ("processing", format!("{:.3} s", session.metrics.total_processing_time)),
        ("metadata", json!(session.metadata).to_string()),
    ];
    out.answer(&session, table(&rows.map(|(name, text)| [name.to_owned(), text])))?;
    Ok(DONE)
}
