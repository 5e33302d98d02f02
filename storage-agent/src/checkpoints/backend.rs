//! The checkpointer: how checkpoints and writes get in.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use storage_core::{
    Clock, CollectionStore, Commit, Error, ErrorKind, Expire, Item, Json, MAX_COMMIT_OPERATIONS, Operation,
    Precondition, PutMode, Result, StorageBackend, SystemClock,
};

use super::{
    blobs::{Staged, null},
    commit::{Failed, commit_all, retried},
    cuts::Cuts,
    layout::{self, Head, Place, conflict},
    marks::Marks,
    prepare::{Parts, off_thread},
    record::Packer,
    step::{Before, Step, stage_writes},
    types::{ChannelValue, NewCheckpoint, TaskWrites},
};
use crate::shared::{Shared, expire};

/// What helps where two forks of a thread give their values the same version.
const RANDOM_VERSIONS: &str =
    "versions need a random part, as LangGraph's have: forks count on from the same one";

/// Settings of a checkpointer.
#[derive(Debug, Clone)]
pub struct CheckpointConfig {
    /// How long a thread lives after it was written to last; `None`: until it is deleted. Each write says so anew.
    pub ttl: Option<Duration>,
    /// The zstd level for what is written; `None` stores it as it is. Whatever the setting, both kinds are read.
    pub zstd_level: Option<i32>,
    /// How many bytes of channels' last values stay in memory, so that only what changed of a large value is cut anew;
    /// 0 for none. What was used least recently goes first. It counts a value's own bytes: where they are a part of a
    /// larger buffer, all of that stays.
    pub cache_bytes: usize,
    /// How long a thread that was deleted refuses what goes on from a checkpoint that was deleted with it: a step or writes
    /// of somebody who has not noticed, and the first step of a subgraph's call. `None`: not at all, and nothing is left of the
    /// thread; for programs whose ids begin anew with a thread.
    pub deleted_for: Option<Duration>,
    /// Where epochs take the time from.
    pub clock: Arc<dyn Clock>,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            ttl: None,
            zstd_level: Some(3),
            cache_bytes: 64 * 1024 * 1024,
            deleted_for: Some(Duration::from_secs(60 * 60)),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A fencing token for writing to a thread: valid until somebody claims the thread anew or it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    thread_id: String,
    number: u64,
    /// Tells apart epochs of one number, which a thread that is deleted and claimed anew within a tick of the clock has.
    nonce: u64,
}

/// The epoch as text, to be handed to another process: [`FromStr`] reads it.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}:{}", self.number, self.nonce, self.thread_id)
    }
}

impl FromStr for Epoch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = || {
            let (number, rest) = text.split_once(':')?;
            let (nonce, thread_id) = rest.split_once(':')?;
            let nonce = u64::from_str_radix(nonce, 16).ok()?;
            Some(Self { thread_id: thread_id.to_owned(), number: number.parse().ok()?, nonce })
        };
        let message = "the text is no epoch of a thread";
        parts().ok_or_else(|| Error::invalid_input(message).with_hint("bring what `to_string` of one gave"))
    }
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
    pub(super) shared: Shared,
    pub(super) config: CheckpointConfig,
    pub(super) cuts: Arc<Cuts>,
    /// The operations and preconditions of one commit; fewer in simulations.
    pub(super) most: usize,
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
        Self::on(Shared::new(storage), config)
    }

    pub(crate) fn on(shared: Shared, config: CheckpointConfig) -> Self {
        let cuts = Arc::new(Cuts::new(config.cache_bytes));
        Self { shared, config, cuts, most: MAX_COMMIT_OPERATIONS, epoch: None }
    }

    /// A checkpointer whose writes to the epoch's thread, prunings and deletion included, are a `Conflict` once somebody has
    /// claimed the thread anew.
    #[must_use]
    pub fn fenced(&self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self.clone() }
    }

    /// Stores a checkpoint and the values of its channels, in one step. One that is there is written over; a value that is
    /// there for its version stays, as LangGraph's savers have it; where that is another one, a warning says so. Any parent
    /// will do, as in LangGraph: [`advance`](Self::advance) checks it.
    ///
    /// # Errors
    /// `InvalidInput` for an empty id, metadata that is no object or over
    /// [`MAX_METADATA_BYTES`](super::MAX_METADATA_BYTES), an infinite version, names over 8 KiB, and a checkpoint id too long
    /// for a key; `Conflict` for an outdated epoch; else as the store.
    pub async fn put(&self, new: &NewCheckpoint) -> Result<()> {
        self.shared.measured("checkpointer.put", self.write(new, &[], false)).await
    }

    /// Stores a checkpoint and writes in one step, if the checkpoint's parent is the latest of its namespace (or it has
    /// none and is the first): of workers that go on from one checkpoint exactly one succeeds.
    ///
    /// # Errors
    /// `Conflict` where another checkpoint is the latest, and where another value is there for a channel's version;
    /// `InvalidInput` also for an id that is not greater than the parent's; else as [`put`](Self::put). After `OutcomeUnknown`, read the latest before trying again.
    pub async fn advance(&self, new: &NewCheckpoint, writes: &[TaskWrites]) -> Result<()> {
        self.shared.measured("checkpointer.advance", self.write(new, writes, true)).await
    }

    /// Stores what a task wrote, before or after its checkpoint. Of regular writes with the same task and index the first
    /// stays; a special one is written over. That is decided write by write.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_writes(&self, thread_id: &str, checkpoint_ns: &str, writes: &TaskWrites) -> Result<()> {
        let work = self.write_tasks(thread_id, checkpoint_ns, writes);
        self.shared.measured("checkpointer.put_writes", work).await
    }

    async fn write_tasks(&self, thread_id: &str, checkpoint_ns: &str, writes: &TaskWrites) -> Result<()> {
        let place = Place::new(thread_id, checkpoint_ns)?;
        let parts = Parts::of(&place, None, std::slice::from_ref(writes), &self.cuts).await?;
        let (store, epoch) = (self.store()?, self.epoch_of(thread_id));
        let (bytes, level) = (parts.bytes, self.config.zstd_level);
        let named = layout::named(&place.partition, thread_id)?;
        let work = {
            let place = place.clone();
            move || {
                let mut staged = Staged::default();
                let mut records = stage_writes(&place, &parts.tasks, &mut staged, &mut Packer::new(level)?)?;
                records.extend(named);
                Ok::<_, Error>((staged.operations, records))
            }
        };
        let (pieces, records) = off_thread(bytes, work).await??;
        let (place, records, pieces, epoch) = (&place, &records, &pieces, &epoch);
        retried(|tries| async move {
            // The first try asks for nothing: most threads have no marks.
            let marks = if tries == 0 { Marks::default() } else { Marks::of(store, place).await? };
            marks.admit(&self.shared, place, Some(&writes.checkpoint_id)).await?;
            let expire = if marks.is_gone() { Expire::Keep } else { self.expire() };
            let (mut first, mut commit) = (Vec::new(), Commit::new(place.partition.clone()).expire(expire));
            marks.apply(&mut first, &mut commit);
            commit.preconditions.extend(epoch.clone().map(Precondition::Present));
            commit.operations.clone_from(records);
            first.extend_from_slice(pieces);
            let done = commit_all(store, first, commit, self.most).await;
            match (done, epoch) {
                (Err(error), Some(epoch)) if error.kind() == ErrorKind::Conflict => {
                    let found = store.items(&place.partition, &[epoch]).await?;
                    Err(if found == [None] { Failed::For(fenced_out(place)) } else { Failed::Moved(error) })
                }
                (done, _) => Ok(done?),
            }
        })
        .await
    }

    /// Claims a thread: writers with an earlier epoch of it get `Conflict` from now on. Writers without one are not stopped.
    ///
    /// # Errors
    /// `Conflict` when others claim it all the time; else as the store.
    pub async fn claim(&self, thread_id: &str) -> Result<Epoch> {
        self.shared.measured("checkpointer.claim", self.claimed(thread_id)).await
    }

    async fn claimed(&self, thread_id: &str) -> Result<Epoch> {
        let partition = layout::thread(thread_id)?;
        let store = self.store()?;
        retried(|_| async {
            let last = store.items(&partition, &[layout::CLAIM]).await?.into_iter().next().flatten();
            let held = last.as_ref().map(layout::decode::<(u64, u64)>).transpose()?;
            // The time keeps epochs growing when the thread was deleted in between.
            let number = epoch_micros(self.config.clock.now()).max(held.map_or(0, |(number, _)| number + 1));
            let epoch = Epoch { thread_id: thread_id.to_owned(), number, nonce: fastrand::u64(..) };
            let claim = Json::from_serialize(&(number, epoch.nonce))?;
            let outdated = held.map(|(number, nonce)| layout::epoch(number, nonce));
            let mut commit = Commit::new(partition.clone())
                .expire(self.expire())
                .only_if(last.map_or(Precondition::Absent(layout::CLAIM.to_owned()), |item| {
                    Precondition::ItemVersion(item.sort, item.version)
                }))
                .with(Operation::put(layout::CLAIM, claim, "", PutMode::Upsert))
                .with(Operation::put(epoch.sort(), null(), "", PutMode::Insert));
            commit.operations.extend(outdated.map(|sort| Operation::Delete { sort }));
            commit.operations.extend(layout::named(&partition, thread_id)?);
            store.commit(commit).await?;
            Ok(epoch)
        })
        .await
    }

    pub(super) fn store(&self) -> Result<&dyn CollectionStore> {
        self.shared.collections()
    }

    pub(super) fn expire(&self) -> Expire {
        expire(self.config.ttl)
    }

    /// The sort key of the epoch that writes to a thread depend on.
    fn epoch_of(&self, thread_id: &str) -> Option<String> {
        self.epoch.as_ref().filter(|epoch| epoch.thread_id == thread_id).map(Epoch::sort)
    }

    /// Refuses an outdated epoch of a thread, also to delete and to prune; the precondition that it holds.
    pub(super) async fn check_epoch(&self, thread_id: &str) -> Result<Option<Precondition>> {
        let Some(epoch) = self.epoch_of(thread_id) else { return Ok(None) };
        let place = Place::new(thread_id, "")?;
        if self.store()?.items(&place.partition, &[&epoch]).await? == [None] {
            return Err(fenced_out(&place));
        }
        Ok(Some(Precondition::Present(epoch)))
    }

    async fn write(&self, new: &NewCheckpoint, writes: &[TaskWrites], advance: bool) -> Result<()> {
        new.check()?;
        if advance && new.parent_id.as_ref().is_some_and(|parent| *parent >= new.key.checkpoint_id) {
            return Err(Error::invalid_input("the id of a checkpoint is greater than its parent's"));
        }
        let place = Place::new(&new.key.thread_id, &new.key.checkpoint_ns)?;
        let parts = Parts::of(&place, Some(new), writes, &self.cuts).await?;
        let store = self.store()?;
        let step = Arc::new(Step { place, new: new.clone(), parts });
        let step = &step;
        let other = retried(|tries| async move {
            let mut before = self.before(store, step, tries > 0).await?;
            let latest = before.head.as_ref().map(|(head, _)| &head.id);
            if advance && latest != step.new.parent_id.as_ref() {
                let conflict = conflict(&step.place, "another checkpoint is the latest");
                return Err(Failed::For(conflict.with_hint("read the latest and go on from there")));
            }
            let other = step.other_is_there(&before);
            if let Some(other) = other.filter(|_| advance) {
                return Err(Failed::For(another_value(&step.place, other)));
            }
            if tries > 0 {
                // They may name what was removed meanwhile.
                before.hints.clear();
            }
            let (cutting, level, expire) = (Arc::clone(step), self.config.zstd_level, self.expire());
            let hinted = before.hints.len() == step.parts.hints(&step.place).count();
            let bytes = if hinted { step.parts.fresh() } else { step.parts.bytes };
            let cut = off_thread(bytes, move || cutting.commit(before, level, expire)).await?;
            let (pieces, commit) = cut?;
            commit_all(store, pieces, commit, self.most).await?;
            Ok(other)
        })
        .await?;
        if let Some(ChannelValue { channel, version, .. }) = other {
            let thread_id = new.key.thread_id.as_str();
            let message = "another value is there for a channel's version, and stays";
            tracing::warn!(thread_id, channel, ?version, hint = RANDOM_VERSIONS, "{message}");
        }
        Ok(())
    }

    /// What a step has to know, in one read; also of its values, where it says so.
    async fn before(
        &self,
        store: &dyn CollectionStore,
        step: &Step,
        with_values: bool,
    ) -> Result<Before, Failed> {
        let place = &step.place;
        let (head, own) = (place.head(), place.checkpoint(&step.new.key.checkpoint_id));
        let epoch = self.epoch_of(&step.new.key.thread_id);
        let mut sorts = vec![head.clone(), own.clone()];
        sorts.extend(step.parts.hints(place));
        sorts.extend(Marks::SORTS.map(str::to_owned));
        sorts.extend(epoch.clone());
        sorts.extend(step.value_sorts().filter(|_| with_values));
        let keys: Vec<&str> = sorts.iter().map(String::as_str).collect();
        let found = store.items(&place.partition, &keys).await?.into_iter().flatten();
        let mut found: HashMap<String, Item> = found.map(|item| (item.sort.clone(), item)).collect();
        if epoch.as_ref().is_some_and(|epoch| !found.contains_key(epoch)) {
            return Err(Failed::For(fenced_out(place)));
        }
        let marks = Marks::take(&mut found, place);
        marks.admit(&self.shared, place, step.new.parent_id.as_deref()).await?;
        let head = found.remove(&head);
        let head =
            head.map(|item| Ok::<_, Error>((layout::decode::<Head>(&item)?, item.version))).transpose()?;
        let replaces = found.remove(&own).is_some();
        let values = with_values.then(|| found.extract_if(|sort, _| sort.starts_with("v:")).collect());
        Ok(Before { head, replaces, hints: found, values, epoch, marks })
    }
}

fn epoch_micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn another_value(place: &Place, value: &ChannelValue) -> Error {
    let ChannelValue { channel, version, .. } = value;
    let message = format!("another value is there for the version {version:?} of the channel {channel:?}");
    Error::new(ErrorKind::Conflict, message).with_key(place.partition.as_str()).with_hint(RANDOM_VERSIONS)
}

fn fenced_out(place: &Place) -> Error {
    conflict(place, "the thread was claimed anew").with_hint("leave it to who has it now, or claim it again")
}
