//! The second look at a file, beside the store: what is there already, and what becomes of it.

use std::collections::HashMap;

use storage_core::{
    CollectionStore, Error, ErrorKind, Item, Json, Partition, PartitionInfo, Result, StorageBackend,
};

use super::{
    canonical::canonical,
    due::Now,
    format::{EntryLine, ItemLine, Line, MemoryLine, PartitionLine},
    kinds,
    rebuild::STAGED,
    types::Existing,
};
use crate::{AgentStorage, checkpoints::COPYING, shared::THREADS};

/// How many items are compared at a time, and how many bytes of lines.
const ITEMS: usize = 500;
const BYTES: usize = 8 * 1024 * 1024;

/// What becomes of something in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written.
    Write,
    /// It is there, and equal.
    Same,
    /// Something else is there, which stays.
    Leave,
    /// It has expired since.
    Expired,
}

/// What becomes of something that is there and differs.
pub(super) fn differs(existing: Existing, what: &str, key: &str) -> Result<Verdict> {
    match existing {
        Existing::Skip => Ok(Verdict::Leave),
        Existing::Replace => Ok(Verdict::Write),
        Existing::Refuse => {
            let message = format!("{what} is there already, and differs");
            let hint = "import with `--skip`, `Existing::Skip`, to leave it, or with `--replace`, `Existing::Replace`";
            Err(Error::new(ErrorKind::Conflict, message).with_key(key).with_hint(hint))
        }
    }
}

/// The verdicts of entries, by what is there.
pub(super) async fn of_entries(
    storage: &dyn StorageBackend,
    entries: &[EntryLine],
    existing: Existing,
    now: Now,
) -> Result<Vec<Verdict>> {
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    let mut verdicts = Vec::with_capacity(entries.len());
    for (entry, found) in entries.iter().zip(storage.get_many(&keys).await?) {
        let has_expired = entry.expires_at.is_some_and(|second| now.left(second).is_none());
        verdicts.push(match found {
            _ if has_expired => Verdict::Expired,
            Ok(None) => Verdict::Write,
            Ok(Some(value)) if is_same(&value, &entry.value)? => Verdict::Same,
            Ok(Some(_)) => differs(existing, "the entry", &entry.key)?,
            Err(error) if error.kind() == ErrorKind::Corrupt => differs(existing, "the entry", &entry.key)?,
            Err(error) => return Err(error),
        });
    }
    Ok(verdicts)
}

fn is_same(found: &Json, value: &Json) -> Result<bool> {
    // What others write need not be spelled as exports are.
    Ok(canonical(found)?.as_str() == canonical(value)?.as_str())
}

/// The verdict of a memory, by what is there.
pub(super) async fn of_memory(
    agent: &AgentStorage,
    memory: &MemoryLine,
    existing: Existing,
    now: Now,
) -> Result<Verdict> {
    if memory.expires_at.is_some_and(|second| now.left(second).is_none()) {
        return Ok(Verdict::Expired);
    }
    let there = match agent.memories().carried_at(&memory.namespace, &memory.key).await {
        Ok(None) => return Ok(Verdict::Write),
        Ok(Some(there)) => Some(kinds::memory_line(there)?),
        Err(error) if error.kind() == ErrorKind::Corrupt => None,
        Err(error) => return Err(error),
    };
    // When it expires is of no account: reading it may have prolonged it.
    let is_same = there.is_some_and(|there| {
        (&there.version, there.value.as_str(), there.updated_at, there.created_at, there.ttl)
            == (&memory.version, memory.value.as_str(), memory.updated_at, memory.created_at, memory.ttl)
    });
    if is_same { Ok(Verdict::Same) } else { differs(existing, "the memory", &memory.namespace.join("/")) }
}

/// A partition of a file beside the one of its name.
pub(super) struct Beside<'a> {
    store: &'a dyn CollectionStore,
    line: PartitionLine,
    partition: Partition,
    /// What is there; `None` where nothing needs to be compared.
    there: Option<PartitionInfo>,
    has_expired: bool,
    lines: HashMap<String, String>,
    bytes: usize,
    items: u64,
    same: u64,
}

impl<'a> Beside<'a> {
    pub(super) async fn new(store: &'a dyn CollectionStore, line: PartitionLine, now: Now) -> Result<Self> {
        let partition = Partition::from_text(&line.name)?;
        let has_expired = line.expires_at.is_some_and(|second| now.left(second).is_none());
        let there = if has_expired { None } else { store.partition(&partition).await? };
        Ok(Self {
            store,
            line,
            partition,
            there,
            has_expired,
            lines: HashMap::new(),
            bytes: 0,
            items: 0,
            same: 0,
        })
    }

    pub(super) async fn item(&mut self, mut item: ItemLine) -> Result<()> {
        self.items += 1;
        if self.there.is_none() {
            return Ok(());
        }
        item.attributes = item.attributes.as_ref().map(canonical).transpose()?;
        item.text = item.text.filter(|text| !text.is_empty());
        let (sort, text) = (item.sort.clone(), Line::Item(item).text()?);
        self.bytes += text.len();
        self.lines.insert(sort, text);
        if self.lines.len() >= ITEMS || self.bytes >= BYTES { self.compare().await } else { Ok(()) }
    }

    async fn compare(&mut self) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let sorts: Vec<&str> = self.lines.keys().map(String::as_str).collect();
        for found in self.store.items(&self.partition, &sorts).await?.into_iter().flatten() {
            let (sort, line) = (found.sort.clone(), self.text(found)?);
            self.same += u64::from(self.lines.get(&sort) == Some(&line));
        }
        self.lines.clear();
        self.bytes = 0;
        Ok(())
    }

    fn text(&self, found: Item) -> Result<String> {
        Line::Item(kinds::line(self.partition.kind(), found)?).text()
    }

    /// What becomes of it, and the version that is there.
    pub(super) async fn verdict(mut self, existing: Existing, now: Now) -> Result<(Verdict, u64)> {
        self.compare().await?;
        let version = self.there.as_ref().map_or(0, |there| there.version);
        self.judged(existing, now).await.map(|verdict| (verdict, version))
    }

    async fn judged(&self, existing: Existing, now: Now) -> Result<Verdict> {
        if self.has_expired {
            return Ok(Verdict::Expired);
        }
        let Some(there) = &self.there else { return Ok(Verdict::Write) };
        if self.is_unfinished(there, now).await? {
            return Ok(Verdict::Write);
        }
        let is_same =
            (self.same, self.items, self.line.sequence) == (there.items, there.items, there.sequence);
        if is_same { Ok(Verdict::Same) } else { differs(existing, "the partition", &self.line.name) }
    }

    /// Whether an import that died has left this: a part of what the file has, which is about to expire.
    async fn is_unfinished(&self, there: &PartitionInfo, now: Now) -> Result<bool> {
        let Some(expires_at) = there.expires_at.filter(|ends| *ends <= now.in_time(STAGED)) else {
            return Ok(false);
        };
        let stays_longer = self.line.expires_at.is_none_or(|second| second > super::due::second(expires_at));
        let mark = match self.partition.kind() {
            THREADS => self.store.items(&self.partition, &[COPYING]).await? != [None],
            _ => false,
        };
        Ok(stays_longer && self.same + u64::from(mark) == there.items && there.sequence <= self.line.sequence)
    }
}
