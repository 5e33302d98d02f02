//! `storage threads`.

mod info;
mod show;
mod tree;

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_agent::checkpoints::{PruneReport, Retention};
use storage_factory::Settings;

use crate::{
    args::Threads,
    failure::{DONE, Result},
    output::{Output, counted, moment, table, visible},
    store::with_agent,
};

pub(super) async fn run(command: Threads, settings: &Settings, out: &mut Output) -> Result<u8> {
    match command {
        Threads::List { limit } => list(limit, settings, out).await,
        Threads::Show { thread, limit } => show::run(&thread, limit, settings, out).await,
        Threads::Prune { threads, keep: keep_last, max_age, keep_tagged, dry_run } => {
            prune(&threads, Retention { keep_last, max_age, keep_tagged }, dry_run, settings, out).await
        }
    }
}

async fn list(limit: usize, settings: &Settings, out: &mut Output) -> Result<u8> {
    let threads = with_agent(settings, async |agent| Ok(agent.checkpointer().threads(limit).await?)).await?;
    let mut rows = vec![["THREAD", "CHECKPOINTS", "SIZE", "USED", "EXPIRES"].map(str::to_owned)];
    rows.extend(threads.iter().map(|thread| {
        let expires = thread.expires_at.map_or_else(|| "never".to_owned(), moment);
        let (id, size) = (visible(&thread.thread_id), HumanBytes(thread.bytes).to_string());
        [id, thread.checkpoints.to_string(), size, moment(thread.updated_at), expires]
    }));
    let documents: Vec<_> = threads.iter().map(info::document).collect();
    out.answer(&json!({"threads": documents}), table(&rows))?;
    Ok(DONE)
}

async fn prune(
    threads: &[String],
    policy: Retention,
    dry_run: bool,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let pruned = with_agent(settings, async |agent| {
        // A name that is misspelt prunes nothing of the others.
        for thread in threads {
            info::found(agent, thread).await?;
        }
        let mut pruned = Vec::with_capacity(threads.len());
        for thread in threads {
            pruned.push((thread, agent.checkpointer().retain(thread, &policy, dry_run).await?));
        }
        Ok(pruned)
    });
    let pruned = pruned.await?;
    let documents: Vec<_> = pruned.iter().map(|(thread, report)| report_document(thread, report)).collect();
    let verb = if dry_run { "would remove" } else { "removed" };
    let lines: Vec<_> = pruned.iter().map(|(thread, report)| report_line(thread, verb, report)).collect();
    out.answer(&json!({"dry_run": dry_run, "threads": documents}), lines.join("\n"))?;
    Ok(DONE)
}

fn report_document(thread: &str, report: &PruneReport) -> Value {
    let keys = report.checkpoints.iter();
    let checkpoints: Vec<_> =
        keys.map(|key| json!({"namespace": key.checkpoint_ns, "checkpoint": key.checkpoint_id})).collect();
    json!({
        "thread": thread,
        "checkpoints": checkpoints,
        "writes": report.writes,
        "values": report.values,
        "bytes": report.bytes,
        "tagged": report.tagged,
    })
}

fn report_line(thread: &str, verb: &str, report: &PruneReport) -> String {
    let checkpoints = counted(report.checkpoints.len() as u64, "checkpoint", "checkpoints");
    format!("{}: {verb} {checkpoints}, {}", visible(thread), HumanBytes(report.bytes))
}
