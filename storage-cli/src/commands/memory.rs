//! `storage memory`.

use std::time::Duration;

use serde_json::json;
use storage_agent::{AgentStorage, ListNamespaces, MemoryItem, MemoryStore, MemoryTtl, SearchMemories};
use storage_core::{ErrorKind, Json, Listing};
use storage_factory::Settings;

use super::value;
use crate::{
    args::Memory,
    failure::{DONE, Failure, NO, Result},
    line::one_line,
    output::{Output, counted, humane, moment, table, visible, warn},
    store::{max_value_bytes, with_agent, with_made_agent},
};

pub(super) async fn run(command: Memory, settings: &Settings, out: &mut Output) -> Result<u8> {
    match command {
        Memory::Put { namespace, key, value, ttl, if_absent, if_version } => {
            let value = value::read(&value, max_value_bytes(settings))?;
            let only = if if_absent { Only::Absent } else { if_version.map_or(Only::Any, Only::Version) };
            put(Put { namespace, key, value, ttl, only }, settings, out).await
        }
        Memory::Get { namespace, key } => get(&namespace, &key, settings, out).await,
        Memory::Search { namespace, filter, query, limit, offset } => {
            let filter = filter.map(|text| value::read(&text, max_value_bytes(settings))).transpose()?;
            let search = SearchMemories { filter, limit, offset, refresh_ttl: None };
            find(&namespace, query.as_deref(), &search, settings, out).await
        }
        Memory::Namespaces { prefix, suffix, depth: max_depth, limit, offset } => {
            let (prefix, suffix) = (labels(&prefix)?, labels(&suffix)?);
            list(&ListNamespaces { prefix, suffix, max_depth, limit, offset }, settings, out).await
        }
        Memory::Delete { namespace, key, .. } => delete(&namespace, key.as_deref(), settings, out).await,
        Memory::Cleanup => cleanup(settings, out).await,
    }
}

struct Put {
    namespace: String,
    key: String,
    value: Json,
    ttl: Option<Duration>,
    only: Only,
}

enum Only {
    Any,
    Absent,
    Version(String),
}

async fn put(put: Put, settings: &Settings, out: &mut Output) -> Result<u8> {
    let Put { namespace, key, value, ttl, only } = put;
    let labels = labels(&namespace)?;
    let stays = ttl.map_or(MemoryTtl::Never, MemoryTtl::After);
    let write = with_made_agent(settings, async |agent| {
        let (memories, labels) = (agent.memories(), borrowed(&labels));
        let written = match &only {
            Only::Any => memories.put(&labels, &key, value, stays).await,
            Only::Absent => memories.compare_and_set(&labels, &key, None, value, stays).await,
            Only::Version(version) => {
                memories.compare_and_set(&labels, &key, Some(version), value, stays).await
            }
        };
        match written {
            Err(error) if error.kind() == ErrorKind::Conflict && !matches!(only, Only::Any) => Ok(None),
            written => Ok(Some(written?)),
        }
    });
    let version = write.await?;
    let document = json!({"namespace": labels, "key": key, "written": version.is_some(), "version": version});
    let shown = shown(&labels, &key);
    match (&version, ttl, only) {
        (Some(_), None, _) => out.answer(&document, format_args!("written: {shown}"))?,
        (Some(_), Some(ttl), _) => {
            out.answer(&document, format_args!("written: {shown}, for {}", humane(ttl)))?;
        }
        (None, _, Only::Version(_)) => {
            out.answer(&document, format_args!("not written: {shown} has another version, or is gone"))?;
        }
        (None, ..) => out.answer(&document, format_args!("not written: {shown} is there already"))?,
    }
    Ok(if version.is_some() { DONE } else { NO })
}

async fn get(namespace: &str, key: &str, settings: &Settings, out: &mut Output) -> Result<u8> {
    let labels = labels(namespace)?;
    let found = with_agent(settings, async |agent| Ok(looking(agent).get(&borrowed(&labels), key).await?));
    let found = found.await?.ok_or_else(|| absent(&labels, key))?;
    out.answer(&found, one_line(&found.value))?;
    Ok(DONE)
}

async fn find(
    namespace: &str,
    query: Option<&str>,
    search: &SearchMemories,
    settings: &Settings,
    out: &mut Output,
) -> Result<u8> {
    let labels = labels(namespace)?;
    let found = with_agent(settings, async |agent| {
        let (memories, labels) = (looking(agent), borrowed(&labels));
        let Some(query) = query else { return Ok(memories.search(&labels, search).await?) };
        let hits = memories.find(&labels, query, search).await?;
        let entries = hits.entries.into_iter().map(|hit| hit.memory).collect();
        Ok(Listing { entries, corrupt: hits.corrupt })
    });
    let found = found.await?;
    out.answer(&json!({"memories": found.entries}), memories_table(&found))?;
    for error in found.corrupt {
        warn(error.into(), out.json());
    }
    Ok(DONE)
}

fn memories_table(found: &Listing<MemoryItem>) -> String {
    let mut rows = vec![["NAMESPACE", "KEY", "UPDATED", "EXPIRES", "VALUE"].map(str::to_owned)];
    rows.extend(found.iter().map(|memory| {
        [
            visible(&path(&memory.namespace)),
            visible(&memory.key),
            moment(memory.updated_at),
            memory.expires_at.map_or_else(|| "never".to_owned(), moment),
            one_line(&memory.value).to_string(),
        ]
    }));
    table(&rows)
}

async fn list(list: &ListNamespaces, settings: &Settings, out: &mut Output) -> Result<u8> {
    let found = with_agent(settings, async |agent| Ok(agent.memories().list_namespaces(list).await?)).await?;
    if out.json() {
        return out.answer(&json!({"namespaces": found}), "").map(|()| DONE);
    }
    for namespace in found {
        out.line(visible(&path(&namespace)))?;
    }
    Ok(DONE)
}

async fn delete(namespace: &str, key: Option<&str>, settings: &Settings, out: &mut Output) -> Result<u8> {
    let labels = labels(namespace)?;
    let deleted = with_agent(settings, async |agent| {
        let (memories, labels) = (agent.memories(), borrowed(&labels));
        Ok(match key {
            Some(key) => u64::from(memories.delete(&labels, key).await?),
            None => memories.delete_namespace(&labels).await?,
        })
    });
    let deleted = deleted.await?;
    let document = json!({"namespace": labels, "key": key, "deleted": deleted});
    out.answer(&document, format_args!("deleted {}", counted(deleted, "memory", "memories")))?;
    Ok(if deleted > 0 { DONE } else { NO })
}

async fn cleanup(settings: &Settings, out: &mut Output) -> Result<u8> {
    let removed = with_agent(settings, async |agent| Ok(agent.memories().remove_expired().await?)).await?;
    let line = format!("removed {}", counted(removed, "expired memory", "expired memories"));
    out.answer(&json!({"removed": removed}), line)?;
    Ok(DONE)
}

/// Memories as who only looks reads them: their expiry is their program's.
pub(super) fn looking(agent: &AgentStorage) -> MemoryStore {
    agent.memories().clone().with_refresh_on_read(false)
}

fn absent(labels: &[String], key: &str) -> Failure {
    let namespace = path(labels);
    Failure::not_found(&format!("{namespace}: {key}"))
        .hint(format!("`storage memory search {namespace}` shows which there are; others have expired"))
}

fn shown(labels: &[String], key: &str) -> String {
    format!("{}: {}", visible(&path(labels)), visible(key))
}

pub(super) fn borrowed(labels: &[String]) -> Vec<&str> {
    labels.iter().map(String::as_str).collect()
}

/// The labels of a namespace as it is written here; none of an empty text.
pub(super) fn labels(text: &str) -> Result<Vec<String>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split('/').map(|label| unescaped(label, text)).collect()
}

fn unescaped(label: &str, text: &str) -> Result<String> {
    let plain = label.replace("%2F", "").replace("%2f", "").replace("%25", "");
    let wrong = if label.is_empty() {
        "has an empty label"
    } else if plain.contains('%') {
        "has a % that is no %2F and no %25"
    } else {
        return Ok(label.replace("%2F", "/").replace("%2f", "/").replace("%25", "%"));
    };
    Err(Failure::input(format!("the namespace `{}` {wrong}", visible(text)))
        .hint("write it as users/42/facts, a / in a label as %2F and a % as %25"))
}

/// A namespace as it is written here.
pub(super) fn path(labels: &[String]) -> String {
    let escaped = labels.iter().map(|label| label.replace('%', "%25").replace('/', "%2F"));
    escaped.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_written_with_slashes_and_escapes() {
        for (text, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a/b", &["a", "b"]),
            ("a%2Fb/50%25/%252F", &["a/b", "50%", "%2F"]),
        ] {
            let labels = labels(text).unwrap();
            assert_eq!(labels, expected, "{text}");
            assert_eq!(path(&labels), text);
        }
        for wrong in ["/", "a/", "/a", "a//b", "50%", "%41"] {
            assert!(labels(wrong).unwrap_err().hint.is_some(), "{wrong}");
        }
    }
}
