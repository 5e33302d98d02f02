//! Importing: a file is read three times, to see that it is whole, to see what is there, and to write.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::{Entry, Error, Partition, Result, StorageExt};
use tokio::io::{AsyncRead, AsyncSeek};

use super::{
    due::{Now, is_late},
    format::{EntryLine, Line, MemoryLine, PartitionLine},
    look::{self, Beside, Verdict},
    reader::{Lines, verified},
    rebuild::{Rebuild, written_to},
    types::{Existing, Imported},
};
use crate::{
    AgentStorage,
    memories::{Carried, MemoryItem},
};

/// How many entries and memories are written at a time, and how many bytes of them.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How many requests are under way at a time.
const PARALLEL: usize = 32;
/// How long something stays whose time has passed while it was written.
const AT_ONCE: Duration = Duration::from_millis(1);

/// An import under way.
pub(super) struct Import<'a> {
    agent: &'a AgentStorage,
    existing: Existing,
    now: Now,
    /// What becomes of the file's partitions, in its order, and the versions that were there.
    verdicts: VecDeque<(Verdict, u64)>,
    report: Imported,
}

/// Lines that are written together.
#[derive(Default)]
struct Batch {
    entries: Vec<EntryLine>,
    memories: Vec<MemoryLine>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.entries.len() + self.memories.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

impl<'a> Import<'a> {
    pub(super) async fn run(
        agent: &'a AgentStorage,
        mut reader: impl AsyncRead + AsyncSeek + Unpin + Send,
        existing: Existing,
    ) -> Result<Imported> {
        let most = agent.shared.storage.max_value_bytes();
        verified(&mut Lines::new(&mut reader, most).await?, most, Now::about(&agent.shared)).await?;
        let now = Now::of(&agent.shared).await?;
        let mut import =
            Self { agent, existing, now, verdicts: VecDeque::new(), report: Imported::default() };
        import.look(Lines::new(&mut reader, most).await?).await?;
        import.write(Lines::new(&mut reader, most).await?).await?;
        Ok(import.report)
    }

    /// Finds out what becomes of each partition, and refuses what is there already before anything is written.
    async fn look(&mut self, mut lines: Lines<impl AsyncRead + AsyncSeek + Unpin + Send>) -> Result<()> {
        let store = self.agent.shared.collections()?;
        let (mut batch, mut beside) = (Batch::default(), None::<(PartitionLine, Beside<'_>)>);
        while let Some(line) = lines.next().await? {
            if let Line::Item(item) = line {
                let (_, beside) = beside.as_mut().ok_or_else(|| changed(&lines))?;
                beside.item(item).await?;
                continue;
            }
            if let Some((before, beside)) = beside.take() {
                let again = matches!(&line, Line::Partition(line) if line.name == before.name);
                if !again {
                    self.verdicts.push_back(beside.verdict(self.existing, self.now).await?);
                }
            }
            match line {
                Line::Partition(line) => {
                    beside = Some((line.clone(), Beside::new(store, line, self.now).await?));
                }
                line => batch.add(line),
            }
            // What is replaced or stays as it is needs no look before.
            if batch.is_full() && self.existing == Existing::Refuse {
                self.judged(&batch).await?;
            }
            if batch.is_full() {
                batch = Batch::default();
            }
        }
        if self.existing == Existing::Refuse {
            self.judged(&batch).await?;
        }
        Ok(())
    }

    async fn judged(&self, batch: &Batch) -> Result<(Vec<Verdict>, Vec<Verdict>)> {
        let storage = &*self.agent.shared.storage;
        let entries = look::of_entries(storage, &batch.entries, self.existing, self.now).await?;
        let mut looks = Vec::with_capacity(batch.memories.len());
        for memory in &batch.memories {
            looks.push(look::of_memory(self.agent, memory, self.existing, self.now));
        }
        let memories = stream::iter(looks).buffered(PARALLEL).try_collect().await?;
        Ok((entries, memories))
    }

    async fn write(&mut self, mut lines: Lines<impl AsyncRead + AsyncSeek + Unpin + Send>) -> Result<()> {
        let (mut batch, mut rebuild) = (Batch::default(), None::<(String, Option<Rebuild<'_>>)>);
        while let Some(line) = lines.next().await? {
            if let Line::Item(item) = line {
                let (_, rebuild) = rebuild.as_mut().ok_or_else(|| changed(&lines))?;
                if let Some(rebuild) = rebuild {
                    rebuild.item(&item).await?;
                }
                continue;
            }
            rebuild = match (line, rebuild.take()) {
                (Line::Partition(line), Some((name, before))) if name == line.name => {
                    let again = match before {
                        Some(before) => Some(before.again(line).await?),
                        None => None,
                    };
                    Some((name, again))
                }
                (line, before) => {
                    if let Some((_, Some(before))) = before {
                        self.report.items += before.end(self.now).await?;
                        self.report.partitions += 1;
                    }
                    match line {
                        Line::Partition(line) => {
                            // Sessions before what belongs to them: who deletes their user finds it.
                            self.put(std::mem::take(&mut batch)).await?;
                            Some((line.name.clone(), self.begin(line).await?))
                        }
                        line => {
                            batch.add(line);
                            None
                        }
                    }
                }
            };
            if batch.is_full() {
                self.put(std::mem::take(&mut batch)).await?;
            }
        }
        self.put(batch).await
    }

    /// Begins to write a partition, where it is written.
    async fn begin(&mut self, line: PartitionLine) -> Result<Option<Rebuild<'a>>> {
        let (verdict, version) = self.verdicts.pop_front().unwrap_or((Verdict::Leave, 0));
        if !self.is_written(verdict) {
            return Ok(None);
        }
        let shared = &self.agent.shared;
        let there = shared.collections()?.partition(&Partition::from_text(&line.name)?).await?;
        let is_seen = there.as_ref().map_or(0, |there| there.version) == version;
        if !is_seen && self.existing != Existing::Replace {
            return Err(written_to(&line.name));
        }
        Rebuild::begin(shared, line, there).await.map(Some)
    }

    /// Counts what is not.
    fn is_written(&mut self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Write => return true,
            Verdict::Same => self.report.unchanged += 1,
            Verdict::Leave => self.report.skipped += 1,
            Verdict::Expired => self.report.expired += 1,
        }
        false
    }

    async fn put(&mut self, batch: Batch) -> Result<()> {
        let (entries, memories) = self.judged(&batch).await?;
        let mut writes = Vec::new();
        for (entry, verdict) in batch.entries.into_iter().zip(entries) {
            if self.is_written(verdict) {
                writes.push(entry);
            }
        }
        self.put_entries(writes).await?;
        let mut puts = Vec::new();
        for (memory, verdict) in batch.memories.into_iter().zip(memories) {
            if self.is_written(verdict) {
                puts.push(memory);
            }
        }
        self.report.memories += puts.len() as u64;
        let mut written = Vec::with_capacity(puts.len());
        for memory in puts {
            written.push(self.put_memory(memory));
        }
        stream::iter(written).buffer_unordered(PARALLEL).try_collect().await
    }

    async fn put_entries(&mut self, lines: Vec<EntryLine>) -> Result<()> {
        let (now, storage) = (self.now, &self.agent.shared.storage);
        let left = |second| now.left(second).unwrap_or(AT_ONCE);
        let (began, count) = (Instant::now(), lines.len() as u64);
        let (mut expiring, mut entries) = (Vec::new(), Vec::with_capacity(lines.len()));
        for EntryLine { key, value, expires_at } in lines {
            expiring.extend(expires_at.map(|second| (key.clone(), second)));
            entries.push(Entry { key, value, ttl: expires_at.map(left) });
        }
        let mut written = count;
        if self.existing == Existing::Replace {
            storage.set_many(entries).await?;
        } else {
            let mut puts = Vec::with_capacity(entries.len());
            for Entry { key, value, ttl } in entries {
                puts.push(async move { storage.set_if_absent(&key, value, ttl).await });
            }
            let put: Vec<bool> = stream::iter(puts).buffer_unordered(PARALLEL).try_collect().await?;
            written = put.into_iter().map(u64::from).sum();
        }
        if is_late(began) {
            for (key, second) in &expiring {
                storage.expire(key, left(*second)).await?;
            }
        }
        self.report.entries += written;
        // Somebody else wrote the others in between.
        self.report.skipped += count - written;
        Ok(())
    }

    async fn put_memory(&self, memory: MemoryLine) -> Result<()> {
        let left = memory.expires_at.map(|second| self.now.left(second).unwrap_or(AT_ONCE));
        let MemoryLine { namespace, key, value, version, created_at, updated_at, ttl, .. } = memory;
        let item = MemoryItem { namespace, key, value, created_at, updated_at, version, expires_at: None };
        let carried = Carried { item, ttl: ttl.map(Duration::from_millis) };
        self.agent.memories().restore(carried, left, self.existing == Existing::Replace).await
    }
}

impl Batch {
    fn add(&mut self, line: Line) {
        match line {
            Line::Entry(entry) => {
                self.bytes += entry.key.len() + entry.value.len();
                self.entries.push(entry);
            }
            Line::Memory(memory) => {
                self.bytes += memory.value.len();
                self.memories.push(*memory);
            }
            _ => {}
        }
    }
}

fn changed<R: AsyncRead + AsyncSeek + Unpin + Send>(lines: &Lines<R>) -> Error {
    lines.wrong("the file was changed while it was imported")
}
