//! Exporting: what a scope holds, in one order on every store.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt};
use storage_core::{
    Error, ErrorKind, Item, Partition, PartitionInfo, Query, Result, Scan, StorageExt, escape_glob,
};
use tokio::io::AsyncWrite;

use super::{
    canonical::canonical,
    due,
    format::{EntryLine, Line, PartitionLine, ScopeName},
    kinds,
    names::least,
    types::{ExportScope, Exported},
    writer::Writer,
};
use crate::{
    AgentStorage, UserData,
    belongings::{self, Key},
    checkpoints::thread_partition,
    memories::{self, MemoryPlace},
    sessions,
    shared::{CHECKPOINTS, THREADS},
};

/// How many entries are read at a time: fewer where they have many bytes.
const ENTRIES: usize = 256;
const ENTRIES_AT_FIRST: usize = 16;
const ENTRIES_BYTES: usize = 4 * 1024 * 1024;
/// How many items are read at a time.
const ITEMS: usize = 1_000;
/// How often a partition is read that is written to meanwhile.
const TRIES: u32 = 8;
/// How many errors a report names.
const MOST_ERRORS: usize = 100;

/// An export under way.
pub(super) struct Export<'a, W> {
    agent: &'a AgentStorage,
    out: Writer<W>,
    corrupt: Vec<Error>,
    left_out: u64,
}

impl<'a, W: AsyncWrite + Unpin + Send> Export<'a, W> {
    pub(super) async fn run(agent: &'a AgentStorage, scope: &ExportScope, out: W) -> Result<Exported> {
        scope.check()?;
        let out = Writer::begin(out, scope.name()).await?;
        let mut export = Self { agent, out, corrupt: Vec::new(), left_out: 0 };
        match scope {
            ExportScope::Everything { other_kinds } => export.everything(other_kinds).await?,
            ExportScope::User { id, data } => export.user(id, data).await?,
            ExportScope::Session(id) => export.session(id).await?,
            ExportScope::Thread(id) => export.partitions(of_thread(id)?).await?,
        }
        let counts = export.out.end().await?;
        Ok(Exported {
            entries: counts.entries,
            partitions: counts.partitions,
            items: counts.items,
            memories: counts.memories,
            left_out: export.left_out,
            corrupt: export.corrupt,
        })
    }

    async fn everything(&mut self, other_kinds: &[String]) -> Result<()> {
        let mut after = None;
        loop {
            let all = self.agent.shared.storage.scan(Scan::keys("*")?.with_expiry());
            let keys = all.map_ok(|record| (record.key, record.expires_at)).boxed();
            let round = least(keys, after.as_deref()).await?;
            after = round.names.last_key_value().map(|(key, _)| key.clone());
            self.entries(round.names.into_iter().collect()).await?;
            if !round.more {
                break;
            }
        }
        // As their names order, which go on with a colon.
        let kinds = belongings::KINDS.map(str::to_owned);
        let kinds: BTreeSet<String> =
            kinds.iter().chain(other_kinds).map(|kind| format!("{kind}:")).collect();
        for kind in kinds {
            self.kind(kind.trim_end_matches(':')).await?;
        }
        let mut after = None;
        loop {
            let round = least(self.listed(memories::KIND), after.as_deref()).await?;
            after = round.names.last_key_value().map(|(name, ())| name.clone());
            for name in round.names.into_keys() {
                self.memories(&MemoryPlace { partition: Partition::from_text(&name)?, sorts: String::new() })
                    .await?;
            }
            if !round.more {
                return Ok(());
            }
        }
    }

    fn listed(&self, kind: &str) -> futures::stream::BoxStream<'static, Result<(String, ())>> {
        let listed = self.agent.shared.storage.partitions(kind, &[]);
        listed.map_ok(|info| (info.partition.as_str().to_owned(), ())).boxed()
    }

    async fn kind(&mut self, kind: &str) -> Result<()> {
        let mut after = None;
        loop {
            let round = least(self.listed(kind), after.as_deref()).await?;
            after = round.names.last_key_value().map(|(name, ())| name.clone());
            for name in round.names.into_keys() {
                self.partition(Partition::from_text(&name)?).await?;
            }
            if !round.more {
                return Ok(());
            }
        }
    }

    async fn user(&mut self, id: &str, data: &UserData) -> Result<()> {
        let mut keys = Vec::<Key>::new();
        let mut found = self.agent.sessions_of(id, true)?;
        while let Some(key) = found.next().await {
            match key {
                Err(error) if error.kind() == ErrorKind::Corrupt => self.leave_out(error),
                key => keys.push(key?),
            }
        }
        let ids: HashSet<String> =
            keys.iter().map(|(key, _)| belongings::session_id(key).to_owned()).collect();
        keys.sort();
        self.entries(keys).await?;
        let mut own: Vec<Partition> = ids.iter().flat_map(|id| belongings::of_session(id)).collect();
        own.extend(
            self.agent.tasks_of(&[], &ids).map_ok(|info| info.partition).try_collect::<Vec<_>>().await?,
        );
        own.extend(self.agent.threads_of(id, data).try_collect::<Vec<_>>().await?);
        self.partitions(own).await?;
        let mut places = BTreeSet::new();
        for namespace in &data.namespaces {
            places.extend(MemoryPlace::of(namespace)?);
        }
        let mut last: Option<MemoryPlace> = None;
        // In their order one that lies in another comes behind it.
        for place in places {
            if last.as_ref().is_some_and(|last| last.contains(&place)) {
                continue;
            }
            self.memories(&place).await?;
            last = Some(place);
        }
        Ok(())
    }

    async fn session(&mut self, id: &str) -> Result<()> {
        let scan = Scan::keys(&escape_glob(&sessions::key(id)?))?.with_expiry();
        let found = self.agent.shared.storage.scan(scan).map_ok(|record| (record.key, record.expires_at));
        self.entries(found.try_collect().await?).await?;
        let ids = HashSet::from([id.to_owned()]);
        let mut own: Vec<Partition> = belongings::of_session(id).collect();
        own.extend(
            self.agent.tasks_of(&[id], &ids).map_ok(|info| info.partition).try_collect::<Vec<_>>().await?,
        );
        self.partitions(own).await
    }

    async fn entries(&mut self, keys: Vec<Key>) -> Result<()> {
        let (mut left, mut most) = (&*keys, ENTRIES_AT_FIRST);
        while !left.is_empty() {
            let (some, others) = left.split_at(most.min(left.len()));
            left = others;
            let bytes = self.some_entries(some).await?;
            most = if bytes > ENTRIES_BYTES { (most / 4).max(1) } else { (most * 2).min(ENTRIES) };
        }
        Ok(())
    }

    /// How many bytes they had.
    async fn some_entries(&mut self, keys: &[Key]) -> Result<usize> {
        let (names, mut bytes): (Vec<&str>, _) = (keys.iter().map(|(key, _)| key.as_str()).collect(), 0);
        let found = self.agent.shared.storage.get_many(&names).await?;
        for ((key, expires_at), value) in keys.iter().zip(found) {
            match value.and_then(|value| value.map(|value| canonical(&value)).transpose()) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    bytes += value.len();
                    let expires_at = expires_at.map(due::second);
                    self.out.line(&Line::Entry(EntryLine { key: key.clone(), value, expires_at })).await?;
                    self.out.counts.entries += 1;
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => self.leave_out(error.with_key(key)),
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    async fn partitions(&mut self, mut partitions: Vec<Partition>) -> Result<()> {
        partitions.sort();
        partitions.dedup();
        for partition in partitions {
            self.partition(partition).await?;
        }
        Ok(())
    }

    /// One state of a partition. Where it is written to while more than a page of it is read, its line comes again, and all that
    /// was written of it before is void.
    async fn partition(&mut self, partition: Partition) -> Result<()> {
        for _ in 0..TRIES {
            let Some(info) = state(self.agent, &partition).await? else { return Ok(()) };
            let store = self.agent.shared.collections()?;
            let page = store.query(Query::all(partition.clone(), ITEMS)).await?;
            if page.more {
                self.begin(&info).await?;
                let items = self.pages(&partition).await?;
                if is_unchanged(self.agent, &info).await? {
                    self.count(items);
                    return Ok(());
                }
            } else if is_unchanged(self.agent, &info).await? {
                self.begin(&info).await?;
                let items = self.items(in_order(partition.kind(), page.items), &partition).await?;
                self.count(items);
                return Ok(());
            }
        }
        let message = "the partition is written to all the time";
        Err(Error::new(ErrorKind::Conflict, message).with_key(partition.as_str()))
    }

    fn count(&mut self, items: u64) {
        self.out.counts.partitions += 1;
        self.out.counts.items += items;
    }

    async fn begin(&mut self, info: &PartitionInfo) -> Result<()> {
        let line = PartitionLine {
            name: info.partition.as_str().to_owned(),
            sequence: info.sequence,
            expires_at: info.expires_at.map(due::second),
        };
        self.out.line(&Line::Partition(line)).await
    }

    async fn pages(&mut self, partition: &Partition) -> Result<u64> {
        let mut items = 0;
        for (from, to) in kinds::ranges(partition.kind()) {
            let mut next = Some(Query::range(partition.clone(), from, to, ITEMS));
            while let Some(query) = next {
                let page = self.agent.shared.collections()?.query(query.clone()).await?;
                next = query.after(&page);
                items += self.items(page.items, partition).await?;
            }
        }
        Ok(items)
    }

    async fn items(&mut self, items: Vec<Item>, partition: &Partition) -> Result<u64> {
        let count = items.len() as u64;
        for item in items {
            let line =
                kinds::line(partition.kind(), item).map_err(|error| error.with_key(partition.as_str()))?;
            self.out.line(&Line::Item(line)).await?;
        }
        Ok(count)
    }

    async fn memories(&mut self, place: &MemoryPlace) -> Result<()> {
        let mut next = Some(place.query());
        while let Some(query) = next {
            let (read, after) = self.agent.memories().carried(query).await?;
            next = after;
            for memory in read {
                match memory.and_then(kinds::memory_line) {
                    Ok(line) => {
                        self.out.line(&Line::Memory(Box::new(line))).await?;
                        self.out.counts.memories += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => self.leave_out(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, error: Error) {
        self.left_out += 1;
        if self.corrupt.len() < MOST_ERRORS {
            self.corrupt.push(error);
        }
    }
}

/// What is known of a partition; `None` where nothing is there, or only a mark of a thread.
async fn state(agent: &AgentStorage, partition: &Partition) -> Result<Option<PartitionInfo>> {
    let Some(info) = agent.shared.collections()?.partition(partition).await? else { return Ok(None) };
    let is_gone = match partition.kind() {
        THREADS => agent.checkpointer().described(info.clone()).await?.is_none(),
        _ => info.items == 0 && info.sequence == 0,
    };
    Ok((!is_gone).then_some(info))
}

async fn is_unchanged(agent: &AgentStorage, info: &PartitionInfo) -> Result<bool> {
    let now = agent.shared.collections()?.partition(&info.partition).await?;
    Ok(now.is_some_and(|now| now.version == info.version))
}

/// What makes a thread one comes last.
fn in_order(kind: &str, items: Vec<Item>) -> Vec<Item> {
    let (shown, mut ordered): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| kinds::is_shown(kind, &item.sort));
    ordered.extend(shown);
    ordered
}

fn of_thread(id: &str) -> Result<Vec<Partition>> {
    let mut partitions = vec![thread_partition(id)?];
    // Names are longer there than here.
    partitions.extend(Partition::new(CHECKPOINTS, &[id]));
    Ok(partitions)
}

impl ExportScope {
    fn check(&self) -> Result<()> {
        let empty = |what| Err(Error::invalid_input(format!("the id of a {what} may not be empty")));
        match self {
            Self::Everything { other_kinds } => other_kinds.iter().try_for_each(|kind| {
                Partition::new(kind, &[""])?;
                kinds::check(kind)
            }),
            Self::User { id, data } => data.check(id),
            Self::Session(id) if id.is_empty() => empty("session"),
            Self::Thread(id) if id.is_empty() => empty("thread"),
            Self::Session(_) | Self::Thread(_) => Ok(()),
        }
    }

    fn name(&self) -> ScopeName {
        match self {
            Self::Everything { .. } => ScopeName::Everything,
            Self::User { id, .. } => ScopeName::User(id.clone()),
            Self::Session(id) => ScopeName::Session(id.clone()),
            Self::Thread(id) => ScopeName::Thread(id.clone()),
        }
    }
}
