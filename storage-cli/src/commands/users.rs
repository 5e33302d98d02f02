//! `storage users`.

use storage_agent::{Forgotten, UserData};
use storage_factory::Settings;

use crate::{
    args::Users,
    ask,
    failure::{DONE, NO, Result},
    output::{Output, table, visible},
    store::with_agent,
};

pub(super) async fn run(command: Users, settings: &Settings, out: &mut Output) -> Result<u8> {
    let Users::Delete { user, thread_prefix, yes } = command;
    let what = format!("the user {}: sessions, conversations, tasks, threads and memories", visible(&user));
    ask::to_delete(&what, yes)?;
    let data = UserData { thread_prefixes: thread_prefix, ..UserData::of(&user) };
    let forgotten = with_agent(settings, async |agent| Ok(agent.delete_user(&user, &data).await?)).await?;
    report(&forgotten, out)
}

/// Says what was deleted; nothing is an answer, too.
pub(super) fn report(forgotten: &Forgotten, out: &mut Output) -> Result<u8> {
    let rows = [
        ("sessions", forgotten.sessions),
        ("conversations", forgotten.conversations),
        ("messages", forgotten.messages),
        ("tasks", forgotten.tasks),
        ("threads", forgotten.threads),
        ("memories", forgotten.memories),
    ];
    let any = rows.iter().any(|(_, count)| *count > 0);
    out.answer(forgotten, table(&rows.map(|(name, count)| [name.to_owned(), count.to_string()])))?;
    Ok(if any { DONE } else { NO })
}
