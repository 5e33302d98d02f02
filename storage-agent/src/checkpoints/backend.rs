//! The checkpointer: how checkpoints and writes get in.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use storage_core::{
    Clock, CollectionStore, Commit, Error, ErrorKind, Expire, Item, Json, Operation, Precondition, PutMode,
    Result, StorageBackend, SystemClock,
};

use super::{
    blobs::{Staged, null},
    chunks::join_hashes,
    commit::{Failed, commit_all, retried},
    layout::{self, CheckpointAttributes, Head, Place, WriteAttributes},
    prepare::{Parts, TaskParts},
    record::{Packer, Prepared},
    types::{NewCheckpoint, TaskWrites},
};

/// Settings of a checkpointer.
#[derive(Debug, Clone)]
pub struct CheckpointConfig {
    /// How long a thread lives after it was written to last; `None`: until it is deleted.
    pub ttl: Option<Duration>,
    /// The zstd level for what is written; `None` stores it as it is. Whatever the setting, both kinds are read.
    pub zstd_level: Option<i32>,
    /// Where ages and epochs take the time from.
    pub clock: Arc<dyn Clock>,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { ttl: None, zstd_level: Some(3), clock: Arc::new(SystemClock) }
    }
}

/// The right to write to a thread, until somebody claims it anew or the thread is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    thread_id: String,
    number: u64,
    /// Tells apart epochs of one number, which a thread that is deleted and claimed anew within a tick of the clock has.
    nonce: u64,
}

impl Epoch {
    /// The epoch as a number that grows from claim to claim; when the thread was deleted in between, as clocks do.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    fn sort(&self) -> String {
        layout::epoch(self.number, self.nonce)
    }
}

/// LangGraph's checkpointer on any store: see the [module](super).
#[derive(Debug, Clone)]
pub struct CheckpointerBackend {
    storage: Arc<dyn StorageBackend>,
    pub(super) config: CheckpointConfig,
    epoch: Option<Epoch>,
}

impl CheckpointerBackend {
    /// A checkpointer on a backend that somebody connects.
    #[must_use]
    pub fn new(storage: Arc<dyn StorageBackend>) -> Self {
        Self::with_config(storage, CheckpointConfig::default())
    }

    /// The same with settings.
    #[must_use]
    pub fn with_config(storage: Arc<dyn StorageBackend>, config: CheckpointConfig) -> Self {
        Self { storage, config, epoch: None }
    }

    /// A checkpointer whose writes to the epoch's thread are a `Conflict` once somebody has claimed the thread anew.
    #[must_use]
    pub fn fenced(&self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self.clone() }
    }

    /// Stores a checkpoint and the values of its channels, in one step. One that is there is written over; a value that is
    /// there for its version stays. Any parent will do: see [`advance`](Self::advance) for the one that is checked.
    ///
    /// # Errors
    /// `InvalidInput` for an empty id, metadata that is no object or too large, an infinite version, and ids too long
    /// for a key; `Conflict` for an outdated epoch; else as the store.
    pub async fn put(&self, new: &NewCheckpoint) -> Result<()> {
        self.write(new, &[], false).await
    }

    /// Stores a checkpoint and writes in one step, if the checkpoint's parent is the latest of its namespace (or it has
    /// none and is the first): of workers that go on from one checkpoint exactly one succeeds.
    ///
    /// # Errors
    /// `Conflict` where another checkpoint is the latest; `InvalidInput` also for an id that is not greater than the
    /// parent's; else as [`put`](Self::put). After `OutcomeUnknown`, read the latest before trying again.
    pub async fn advance(&self, new: &NewCheckpoint, writes: &[TaskWrites]) -> Result<()> {
        if new.parent_id.as_ref().is_some_and(|parent| *parent >= new.key.checkpoint_id) {
            return Err(Error::invalid_input("the id of a checkpoint is greater than its parent's"));
        }
        self.write(new, writes, true).await
    }

    /// Stores what a task wrote, before or after its checkpoint. Of regular writes with the same task and index the first
    /// stays; a special one is written over.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_writes(&self, thread_id: &str, checkpoint_ns: &str, writes: &TaskWrites) -> Result<()> {
        let place = Place::new(thread_id, checkpoint_ns)?;
        let parts = Parts::of(None, std::slice::from_ref(writes)).await?;
        let mut commit = Commit::new(place.partition.clone()).expire(self.expire());
        if let Some(epoch) = self.epoch_of(thread_id) {
            commit.preconditions.push(Precondition::Present(epoch.sort()));
        }
        let mut packer = Packer::new(self.config.zstd_level)?;
        let mut staged = Staged::default();
        let operations = stage_writes(&place, &parts.tasks, &mut staged, &mut packer)?;
        commit.operations = staged.operations;
        commit.operations.extend(operations);
        commit_all(self.store()?, commit).await.map(drop)
    }

    /// Claims a thread: writers with an earlier epoch of it get `Conflict` from now on. Writers without one are not stopped.
    ///
    /// # Errors
    /// `Conflict` when others claim it all the time; else as the store.
    pub async fn claim(&self, thread_id: &str) -> Result<Epoch> {
        let partition = layout::thread(thread_id)?;
        let store = self.store()?;
        retried(|_| async {
            let query = storage_core::Query::prefix(partition.clone(), "e:", 1)
                .order(storage_core::Order::Descending);
            let last = store.query(query).await?.items.into_iter().next();
            let held = last.as_ref().and_then(|item| layout::epoch_number(&item.sort));
            // The time keeps epochs growing when the thread was deleted in between.
            let number = epoch_micros(self.config.clock.now()).max(held.map_or(0, |held| held + 1));
            let epoch = Epoch { thread_id: thread_id.to_owned(), number, nonce: fastrand::u64(..) };
            let mut commit = Commit::new(partition.clone()).expire(self.expire());
            if let Some(item) = last {
                commit = commit
                    .only_if(Precondition::ItemVersion(item.sort.clone(), item.version))
                    .with(Operation::Delete { sort: item.sort });
            }
            let claimed = Operation::put(epoch.sort(), null(), "", PutMode::Insert);
            store.commit(commit.with(claimed)).await?;
            Ok(epoch)
        })
        .await
    }

    pub(super) fn store(&self) -> Result<&dyn CollectionStore> {
        self.storage.collections().ok_or_else(|| Error::unsupported(self.storage.name(), "collections"))
    }

    pub(super) fn expire(&self) -> Expire {
        self.config.ttl.map_or(Expire::Keep, Expire::After)
    }

    fn epoch_of(&self, thread_id: &str) -> Option<&Epoch> {
        self.epoch.as_ref().filter(|epoch| epoch.thread_id == thread_id)
    }

    async fn write(&self, new: &NewCheckpoint, writes: &[TaskWrites], advance: bool) -> Result<()> {
        new.check()?;
        let place = Place::new(&new.key.thread_id, &new.key.checkpoint_ns)?;
        let parts = Parts::of(Some(new), writes).await?;
        let store = self.store()?;
        let (place, parts) = (&place, &parts);
        retried(|tries| async move {
            let before = self.before(store, place, new, parts).await?;
            let latest = before.head.as_ref().map(|(head, _)| &head.id);
            if advance && latest != new.parent_id.as_ref() {
                return Err(Failed::For(conflict(place, "another checkpoint is the latest")));
            }
            let commit = self.step(place, new, parts, before, tries)?;
            commit_all(store, commit).await.map(drop).map_err(Failed::from)
        })
        .await
    }

    /// What a step has to know, in one read.
    async fn before(
        &self,
        store: &dyn CollectionStore,
        place: &Place,
        new: &NewCheckpoint,
        parts: &Parts,
    ) -> Result<Before, Failed> {
        let mut sorts = vec![place.head(), place.checkpoint(&new.key.checkpoint_id)];
        sorts.extend(parts.hints(place));
        let epoch = self.epoch_of(&new.key.thread_id).map(|epoch| epoch.sort());
        sorts.extend(epoch.clone());
        let keys: Vec<&str> = sorts.iter().map(String::as_str).collect();
        let found = store.items(&place.partition, &keys).await?;
        let mut found: HashMap<String, Item> =
            found.into_iter().flatten().map(|item| (item.sort.clone(), item)).collect();
        if epoch.as_ref().is_some_and(|epoch| !found.contains_key(epoch)) {
            return Err(Failed::For(conflict(place, "the thread was claimed anew")));
        }
        let head = found.remove(&place.head());
        let head =
            head.map(|item| Ok::<_, Error>((layout::decode::<Head>(&item)?, item.version))).transpose()?;
        let replaces = found.remove(&place.checkpoint(&new.key.checkpoint_id)).is_some();
        Ok(Before { head, replaces, hints: found, epoch })
    }

    fn step(
        &self,
        place: &Place,
        new: &NewCheckpoint,
        parts: &Parts,
        before: Before,
        tries: u32,
    ) -> Result<Commit, Failed> {
        let mut packer = Packer::new(self.config.zstd_level)?;
        let mut staged = Staged::default();
        let mut hints = Vec::new();
        for (channel, prepared) in parts.payloads() {
            let Prepared::Tree(cut) = prepared else { continue };
            let hint = place.hint(channel);
            // A hint may name what was removed meanwhile: the second try does without.
            let known = if tries == 0 { before.known(&hint) } else { HashSet::new() };
            staged.add(cut, &known, &mut packer)?;
            hints.push(Operation::put(hint, null(), join_hashes(cut.edges().into_iter()), PutMode::Upsert));
        }
        let mut operations = stage_writes(place, &parts.tasks, &mut staged, &mut packer)?;
        operations.extend(values(place, new, parts, &mut packer)?);
        operations.extend(hints);
        operations.extend(checkpoint(place, new, parts, &mut packer)?);
        let mut commit = Commit::new(place.partition.clone()).expire(self.expire());
        commit.operations = staged.operations;
        commit.operations.extend(operations);
        commit.operations.extend(before.head_after(place, &new.key.checkpoint_id)?);
        commit.preconditions = staged.preconditions;
        commit.preconditions.push(match &before.head {
            Some((_, version)) => Precondition::ItemVersion(place.head(), *version),
            None => Precondition::Absent(place.head()),
        });
        commit.preconditions.extend(before.epoch.map(Precondition::Present));
        Ok(commit)
    }
}

fn epoch_micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What a step finds.
struct Before {
    head: Option<(Head, u64)>,
    replaces: bool,
    hints: HashMap<String, Item>,
    epoch: Option<String>,
}

impl Before {
    fn known(&self, hint: &str) -> HashSet<u128> {
        let hashes = self.hints.get(hint).and_then(|item| super::chunks::split_hashes(&item.body));
        hashes.unwrap_or_default().into_iter().collect()
    }

    /// Always written, so that of two steps that saw the same head one fails.
    fn head_after(&self, place: &Place, id: &str) -> Result<Option<Operation>> {
        let head = match &self.head {
            Some((head, _)) => Head {
                id: head.id.as_str().max(id).to_owned(),
                count: head.count + u64::from(!self.replaces),
            },
            None => Head { id: id.to_owned(), count: 1 },
        };
        Ok(Some(Operation::put(place.head(), Json::from_serialize(&head)?, "", PutMode::Upsert)))
    }
}

fn checkpoint(
    place: &Place,
    new: &NewCheckpoint,
    parts: &Parts,
    packer: &mut Packer,
) -> Result<[Operation; 2]> {
    let id = &new.key.checkpoint_id;
    let attributes = CheckpointAttributes {
        parent: new.parent_id.clone(),
        kind: new.checkpoint.kind.clone(),
        metadata: new.metadata.clone(),
    };
    let record = parts.checkpoint.record(packer)?;
    let body = super::read::join_body(&new.channel_versions, &record)?;
    let attributes = Json::from_serialize(&attributes)?;
    Ok([
        Operation::put(layout::index(id, &place.ns), null(), "", PutMode::Upsert),
        Operation::put(place.checkpoint(id), attributes, body, PutMode::Upsert),
    ])
}

fn values(place: &Place, new: &NewCheckpoint, parts: &Parts, packer: &mut Packer) -> Result<Vec<Operation>> {
    let stored = new.new_values.iter().zip(&parts.values).map(|(value, prepared)| {
        let kind = Json::from_serialize(&value.value.as_ref().map(|payload| &payload.kind))?;
        let sort = place.value(&value.channel, &value.version);
        Ok(Operation::put(sort, kind, prepared.record(packer)?, PutMode::InsertIfAbsent))
    });
    stored.collect()
}

fn stage_writes(
    place: &Place,
    tasks: &[TaskParts],
    staged: &mut Staged,
    packer: &mut Packer,
) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for task in tasks {
        for write in &task.writes {
            if let Prepared::Tree(cut) = &write.prepared {
                staged.add(cut, &HashSet::new(), packer)?;
            }
            let attributes = WriteAttributes {
                path: task.task_path.clone(),
                channel: write.channel.clone(),
                kind: write.kind.clone(),
            };
            let sort = place.write(&task.checkpoint_id, &task.task_id, write.index);
            let mode = if write.index < 0 { PutMode::Upsert } else { PutMode::InsertIfAbsent };
            let record = write.prepared.record(packer)?;
            operations.push(Operation::put(sort, Json::from_serialize(&attributes)?, record, mode));
        }
    }
    Ok(operations)
}

fn conflict(place: &Place, what: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, what).with_key(place.partition.as_str())
}
