//! `storage retention`.

use storage_agent::{RetentionPolicy, RetentionReport};
use storage_factory::Settings;

use crate::{
    failure::{DONE, Failure, Result},
    output::{Output, table},
    store::with_agent,
};

pub(super) async fn run(
    policy: Option<&str>,
    dry_run: bool,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let text = policy.or_else(|| settings.get("STORAGE_RETENTION")).ok_or_else(|| {
        Failure::input("there is no policy of what stays".to_owned())
            .hint("set STORAGE_RETENTION, or name one: storage retention 'sessions: 7d; threads: keep 50'")
    })?;
    let policy: RetentionPolicy = text.parse()?;
    let report =
        with_agent(settings, async |agent| Ok(agent.apply_retention(&policy, dry_run).await?)).await?;
    let verb = if dry_run { "would remove" } else { "removed" };
    out.answer(&report, format_args!("{verb}\n{}", rows(&report)))?;
    Ok(DONE)
}

fn rows(report: &RetentionReport) -> String {
    let rows = [
        ("sessions", report.removed.sessions),
        ("their conversations", report.removed.conversations),
        ("their tasks", report.removed.tasks),
        ("their threads", report.removed.threads),
        ("messages of other conversations", report.messages),
        ("checkpoints of other threads", report.checkpoints),
        ("expired memories", report.memories),
        ("tagged sessions that stay", report.removed.tagged),
        ("their conversations that stay whole", report.tagged_conversations),
        ("tagged checkpoints that stay", report.tagged_checkpoints),
    ];
    let tagged = |(name, count): &(&str, u64)| *count > 0 || !name.contains("stay");
    let rows = rows.into_iter().filter(tagged);
    table(&rows.map(|(name, count)| [name.to_owned(), count.to_string()]).collect::<Vec<_>>())
}
