//! `storage threads show`.

use std::collections::BTreeMap;

use indicatif::HumanBytes;
use serde_json::{Map, Value, json};
use storage_agent::checkpoints::{CheckpointOutline, ListCheckpoints, ThreadInfo};
use storage_factory::Settings;

use super::{
    info::{self, found},
    tree::{Lines, tree},
};
use crate::{
    failure::{DONE, Result},
    line::one_line,
    output::{Output, moment, table, visible},
    store::with_agent,
};

pub(super) async fn run(thread: &str, limit: usize, settings: &Settings, out: &mut Output) -> Result<u8> {
    let read = with_agent(settings, async |agent| {
        let info = found(agent, thread).await?;
        let (thread_id, limit) = (Some(thread.to_owned()), Some(limit));
        let latest = ListCheckpoints { thread_id, limit, ..ListCheckpoints::default() };
        Ok((info, agent.checkpointer().outline(&latest).await?))
    });
    let (thread, latest) = read.await?;
    let mut document = info::document(&thread);
    if let Some(document) = document.as_object_mut() {
        document.insert("latest".to_owned(), latest.iter().map(checkpoint_document).collect());
    }
    let lines = if out.is_terminal() { Lines::DRAWN } else { Lines::PLAIN };
    out.answer(&document, format_args!("{}{}", info_table(&thread), trees(&latest, lines)))?;
    if let (true, false) = ((latest.len() as u64) < thread.checkpoints, out.json()) {
        out.line(format_args!("\nmore: --limit {}", thread.checkpoints))?;
    }
    Ok(DONE)
}

fn checkpoint_document(checkpoint: &CheckpointOutline) -> Value {
    let header = &checkpoint.header;
    json!({
        "namespace": header.key.checkpoint_ns,
        "checkpoint": header.key.checkpoint_id,
        "parent": header.parent_id,
        "written_at": moment(header.written_at),
        "pending_writes": checkpoint.writes,
        "bytes": checkpoint.bytes,
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

/// A table for each namespace, the root's first.
fn trees(latest: &[CheckpointOutline], lines: Lines) -> String {
    let mut namespaces = BTreeMap::<&str, Vec<&CheckpointOutline>>::new();
    // The newest is the first of them, and the last of its tree.
    for checkpoint in latest.iter().rev() {
        namespaces.entry(&checkpoint.header.key.checkpoint_ns).or_default().push(checkpoint);
    }
    let shown = namespaces.into_iter().map(|(namespace, checkpoints)| {
        let name = if namespace.is_empty() { "the root".to_owned() } else { visible(namespace) };
        format!("\n\nnamespace: {name}\n{}", tree_table(&checkpoints, lines))
    });
    shown.collect()
}

fn tree_table(checkpoints: &[&CheckpointOutline], lines: Lines) -> String {
    let nodes: Vec<_> = checkpoints
        .iter()
        .map(|CheckpointOutline { header, .. }| {
            (header.key.checkpoint_id.as_str(), header.parent_id.as_deref())
        })
        .collect();
    let columns = ["CHECKPOINT", "SOURCE", "STEP", "PENDING", "SIZE", "WRITTEN", "METADATA"];
    let mut rows = vec![columns.map(str::to_owned)];
    for (place, before) in tree(&nodes, lines) {
        let Some(CheckpointOutline { header, writes, bytes, .. }) = checkpoints.get(place).copied() else {
            continue;
        };
        let members: Map<String, Value> = header.metadata.decode().unwrap_or_default();
        rows.push([
            format!("{before}{}", visible(&header.key.checkpoint_id)),
            said(members.get("source")),
            said(members.get("step")),
            writes.to_string(),
            HumanBytes(*bytes).to_string(),
            moment(header.written_at),
            one_line(&header.metadata).into_owned(),
        ]);
    }
    table(&rows)
}

fn said(member: Option<&Value>) -> String {
    match member {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => visible(text),
        Some(other) => other.to_string(),
    }
}
