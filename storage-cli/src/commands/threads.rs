//! `storage threads`.

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_agent::{
    AgentStorage,
    checkpoints::{CheckpointHeader, ListCheckpoints, PruneReport, Retention, ThreadInfo},
};
use storage_factory::Settings;

use crate::{
    args::Threads,
    failure::{DONE, Failure, Result},
    line::one_line,
    output::{Output, counted, moment, table, visible},
    store::with_agent,
};

pub(super) async fn run(command: Threads, settings: &Settings, out: &mut Output) -> Result<u8> {
    match command {
        Threads::List { limit } => list(limit, settings, out).await,
        Threads::Show { thread, limit } => show(&thread, limit, settings, out).await,
        Threads::Prune { threads, keep: keep_last, max_age, dry_run } => {
            prune(&threads, Retention { keep_last, max_age }, dry_run, settings, out).await
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
    let documents: Vec<_> = threads.iter().map(thread_document).collect();
    out.answer(&json!({"threads": documents}), table(&rows))?;
    Ok(DONE)
}

fn thread_document(thread: &ThreadInfo) -> Value {
    json!({
        "thread": thread.thread_id,
        "checkpoints": thread.checkpoints,
        "items": thread.items,
        "bytes": thread.bytes,
        "updated_at": moment(thread.updated_at),
        "expires_at": thread.expires_at.map(moment),
    })
}

async fn show(thread: &str, limit: usize, settings: &Settings, out: &mut Output) -> Result<u8> {
    let read = with_agent(settings, async |agent| {
        let checkpointer = agent.checkpointer();
        let info = found(agent, thread).await?;
        let (thread_id, limit) = (Some(thread.to_owned()), Some(limit));
        let latest =
            checkpointer.list(&ListCheckpoints { thread_id, limit, ..ListCheckpoints::default() }).await?;
        Ok((info, latest))
    });
    let (info, latest) = read.await?;
    let mut document = thread_document(&info);
    if let Some(document) = document.as_object_mut() {
        document.insert("latest".to_owned(), latest.iter().map(checkpoint_document).collect());
    }
    let text = format!("{}\n\n{}", info_table(&info), checkpoints_table(&latest));
    out.answer(&document, text)?;
    Ok(DONE)
}

async fn found(agent: &AgentStorage, thread: &str) -> Result<ThreadInfo> {
    let info = agent.checkpointer().thread(thread).await?;
    info.ok_or_else(|| {
        Failure::not_found(&format!("thread:{thread}")).hint("`storage threads list` shows which there are")
    })
}

fn checkpoint_document(header: &CheckpointHeader) -> Value {
    json!({
        "namespace": header.key.checkpoint_ns,
        "checkpoint": header.key.checkpoint_id,
        "parent": header.parent_id,
        "written_at": moment(header.written_at),
        "metadata": header.metadata,
    })
}

fn info_table(info: &ThreadInfo) -> String {
    let rows = [
        ("thread", visible(&info.thread_id)),
        ("checkpoints", info.checkpoints.to_string()),
        ("size", HumanBytes(info.bytes).to_string()),
        ("used", moment(info.updated_at)),
        ("expires", info.expires_at.map_or_else(|| "never".to_owned(), moment)),
    ];
    table(&rows.map(|(name, text)| [name.to_owned(), text]))
}

fn checkpoints_table(latest: &[CheckpointHeader]) -> String {
    let mut rows = vec![["CHECKPOINT", "NAMESPACE", "PARENT", "WRITTEN", "METADATA"].map(str::to_owned)];
    rows.extend(latest.iter().map(|header| {
        let parent = header.parent_id.as_deref().unwrap_or("-");
        let (id, namespace) = (visible(&header.key.checkpoint_id), visible(&header.key.checkpoint_ns));
        [id, namespace, visible(parent), moment(header.written_at), one_line(&header.metadata).into_owned()]
    }));
    table(&rows)
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
            found(agent, thread).await?;
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
    })
}

fn report_line(thread: &str, verb: &str, report: &PruneReport) -> String {
    let checkpoints = counted(report.checkpoints.len() as u64, "checkpoint", "checkpoints");
    format!("{}: {verb} {checkpoints}, {}", visible(thread), HumanBytes(report.bytes))
}
