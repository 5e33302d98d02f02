//! Checkpoints without LangGraph: JSON by thread and id, the latest stored being the latest.
//!
//! | sort key | item |
//! |---|---|
//! | `s:{sequence}` | a checkpoint: id and metadata in the attributes, the payload in the body |
//! | `d:{id}` | its sequence number |
//! | `l` | the greatest sequence number |
//! | `k:…`, `m:…`, `h` | chunks, nodes and the hint, as in LangGraph's threads |

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storage_core::{
    CollectionStore, Commit, Error, ErrorKind, Item, Json, MAX_COMMIT_OPERATIONS, MAX_PAGE_ITEMS, Operation,
    Order, Partition, Precondition, PutMode, Query, Result, StorageBackend, sequence_key, sort_key,
};

use super::{
    CheckpointConfig, CheckpointerBackend,
    blobs::{Staged, TRIES, load, null},
    chunks::join_hashes,
    commit::{Failed, commit_all, retried, unless_moved},
    cuts::Cuts,
    layout::{self, corrupt},
    pages::all,
    prepare::off_thread,
    record::{Packer, Prepared, Record},
    sweep::{self, Marked, Plan},
    types::check_id,
};
use crate::{
    UserData,
    shared::{CHECKPOINTS, Shared, expire},
};

const HEAD: &str = "l";
const HINT: &str = "h:";
/// The largest metadata, in bytes of JSON text: the rest of an item's attributes is for ids.
const MAX_METADATA_BYTES: usize = 48 * 1024;

/// Checkpoints of any program: JSON by thread and id.
///
/// ```
/// use std::sync::Arc;
/// use storage_agent::checkpoints::CheckpointStore;
/// use storage_core::{Json, MemoryBackend, StorageBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let storage = Arc::new(MemoryBackend::new());
/// storage.connect().await?;
/// let checkpoints = CheckpointStore::new(storage);
/// let (data, metadata) = (Json::parse(r#"{"step": 1}"#)?, Json::parse("{}")?);
/// checkpoints.store_checkpoint("thread-1", "first", data.clone(), metadata).await?;
/// let latest = checkpoints.get_checkpoint("thread-1", None).await?;
/// assert_eq!(latest.map(|latest| (latest.id, latest.data)), Some(("first".to_owned(), Some(data))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    shared: Shared,
    config: CheckpointConfig,
    cuts: Arc<Cuts>,
}

/// A checkpoint of a [`CheckpointStore`].
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCheckpoint {
    /// Its id.
    pub id: String,
    /// Its data; `None` in a list, which does not load it.
    pub data: Option<Json>,
    /// Its metadata.
    pub metadata: Json,
    /// When it was written, by the store's clock.
    pub written_at: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Attributes {
    id: String,
    #[serde(rename = "m")]
    metadata: Json,
}

impl CheckpointStore {
    /// A store on a backend that somebody connects.
    #[must_use]
    pub fn new(storage: Arc<dyn StorageBackend>) -> Self {
        Self::with_config(storage, CheckpointConfig::default())
    }

    /// The same with settings.
    #[must_use]
    pub fn with_config(storage: Arc<dyn StorageBackend>, config: CheckpointConfig) -> Self {
        Self::beside(&CheckpointerBackend::with_config(storage, config))
    }

    /// A store that shares the storage, the settings and the memory of a checkpointer.
    pub(crate) fn beside(checkpointer: &CheckpointerBackend) -> Self {
        let CheckpointerBackend { shared, config, cuts, .. } = checkpointer.clone();
        Self { shared, config, cuts }
    }

    /// Stores a checkpoint, which becomes the thread's latest; an earlier one of the same id is replaced.
    ///
    /// # Errors
    /// `InvalidInput` for an empty id and metadata over 48 KiB; else as the store.
    pub async fn store_checkpoint(
        &self,
        thread_id: &str,
        id: &str,
        data: Json,
        metadata: Json,
    ) -> Result<()> {
        let work = async {
            check_id(id)?;
            if metadata.len() > MAX_METADATA_BYTES {
                let message =
                    format!("metadata may have {MAX_METADATA_BYTES} bytes; this has {}", metadata.len());
                return Err(Error::invalid_input(message).with_hint("large data belongs into the data"));
            }
            let partition = Partition::new(CHECKPOINTS, &[thread_id])?;
            let attributes = Json::from_serialize(&Attributes { id: id.to_owned(), metadata })?;
            let bytes = data.into_text().into_bytes();
            let work = self.cuts.work(&partition, HINT.to_owned(), &bytes);
            let (cuts, thread) = (Arc::clone(&self.cuts), partition.clone());
            let cut = move || Prepared::bytes(&bytes, |bytes| cuts.cut(&thread, HINT.to_owned(), bytes));
            let prepared = off_thread(work, cut).await?;
            let store = self.store()?;
            let (partition, attributes, prepared) = (&partition, &attributes, &prepared);
            retried(|tries| async move {
                let own = sort_key(&["d", id]);
                let found = store.items(partition, &[HEAD, &own, HINT]).await?;
                let [head, earlier, hint] = found.as_slice() else { return Err(Failed::For(corrupt(HEAD))) };
                let before = Before { head: head.as_ref(), earlier: earlier.as_ref(), hint: hint.as_ref() };
                let (pieces, commit) = self.step(partition, &own, attributes, prepared, &before, tries)?;
                Ok(commit_all(store, pieces, commit, MAX_COMMIT_OPERATIONS).await?)
            })
            .await
        };
        self.shared.measured("checkpoints.store_checkpoint", work).await
    }

    fn step(
        &self,
        partition: &Partition,
        own: &str,
        attributes: &Json,
        prepared: &Prepared,
        before: &Before<'_>,
        tries: u32,
    ) -> Result<(Vec<Operation>, Commit)> {
        let mut packer = Packer::new(self.config.zstd_level)?;
        let mut staged = Staged::default();
        let mut commit = Commit::new(partition.clone()).expire(expire(self.config.ttl));
        let sequence = before.head.map(number).transpose()?.map_or(1, |last| last + 1);
        if let Prepared::Tree(cut) = prepared {
            // A hint may name what was removed meanwhile: the second try does without.
            staged.add(cut, before.hint.filter(|_| tries == 0), &mut packer)?;
            let edges = join_hashes(cut.edges().into_iter());
            commit.operations.push(Operation::put(HINT, null(), edges, PutMode::Upsert));
        }
        let record = prepared.record(&mut packer)?;
        if let Some(earlier) = before.earlier {
            commit = commit.with(Operation::Delete { sort: sequence_key("s:", number(earlier)?) });
        }
        let numbered = Json::from_serialize(&sequence)?;
        let sort = sequence_key("s:", sequence);
        commit = commit
            .with(Operation::put(sort, attributes.clone(), record, PutMode::Upsert))
            .with(Operation::put(own, numbered.clone(), "", PutMode::Upsert))
            .with(Operation::put(HEAD, numbered, "", PutMode::Upsert));
        commit.preconditions = staged.preconditions;
        commit.preconditions.push(match before.head {
            Some(item) => Precondition::ItemVersion(HEAD.to_owned(), item.version),
            None => Precondition::Absent(HEAD.to_owned()),
        });
        Ok((staged.operations, commit))
    }

    /// A checkpoint, or without an id the one that was stored last.
    ///
    /// # Errors
    /// `Corrupt` naming an item that is damaged; else as the store.
    pub async fn get_checkpoint(
        &self,
        thread_id: &str,
        id: Option<&str>,
    ) -> Result<Option<StoredCheckpoint>> {
        let work = async {
            let partition = Partition::new(CHECKPOINTS, &[thread_id])?;
            let store = self.store()?;
            let mut tries = 1;
            loop {
                let Some(item) = self.found(&partition, id).await? else { return Ok(None) };
                match complete(store, &partition, &item).await {
                    // Somebody may have replaced it and removed its chunks meanwhile.
                    Err(error) if error.kind() == ErrorKind::Corrupt && tries < TRIES => tries += 1,
                    answer => return answer.map(Some),
                }
            }
        };
        self.shared.measured("checkpoints.get_checkpoint", work).await
    }

    async fn found(&self, partition: &Partition, id: Option<&str>) -> Result<Option<Item>> {
        let store = self.store()?;
        let Some(id) = id else {
            let latest = Query::prefix(partition.clone(), "s:", 1).order(Order::Descending);
            return Ok(store.query(latest).await?.items.into_iter().next());
        };
        let mut sought = None;
        for _ in 0..TRIES {
            let numbered =
                store.items(partition, &[&sort_key(&["d", id])]).await?.into_iter().next().flatten();
            let Some(numbered) = numbered else { return Ok(None) };
            let sort = sequence_key("s:", number(&numbered)?);
            let found = store.items(partition, &[&sort]).await?.into_iter().next().flatten();
            if found.is_some() {
                return Ok(found);
            }
            // Somebody has replaced it meanwhile, unless the number is the same again.
            if sought.replace(sort.clone()) == Some(sort.clone()) {
                return Err(corrupt(&sort));
            }
        }
        let message = "the checkpoint is replaced all the time";
        Err(Error::new(ErrorKind::Conflict, message).with_key(partition.as_str()))
    }

    /// The checkpoints that were stored last, the latest first, without their data; 10 where no limit is given.
    ///
    /// # Errors
    /// As the store.
    pub async fn list_checkpoints(
        &self,
        thread_id: &str,
        limit: Option<usize>,
    ) -> Result<Vec<StoredCheckpoint>> {
        let work = async {
            let limit = limit.unwrap_or(10);
            let partition = Partition::new(CHECKPOINTS, &[thread_id])?;
            let page = Query::prefix(partition, "s:", limit.min(MAX_PAGE_ITEMS));
            let mut next = (limit > 0).then(|| page.order(Order::Descending).without_bodies());
            let mut listed = Vec::new();
            while let Some(query) = next.filter(|_| listed.len() < limit) {
                let page = self.store()?.query(query.clone()).await?;
                next = query.after(&page);
                let found = page.items.iter().take(limit - listed.len()).map(|item| described(item, None));
                listed.extend(found.collect::<Result<Vec<_>>>()?);
            }
            Ok(listed)
        };
        self.shared.measured("checkpoints.list_checkpoints", work).await
    }

    /// Removes all but the latest `keep` checkpoints of a thread, and what only they needed; says how many were removed.
    ///
    /// # Errors
    /// `Conflict` when the thread is written to all the time; else as the store.
    pub async fn prune_checkpoints(&self, thread_id: &str, keep: usize) -> Result<usize> {
        let work = async {
            let partition = Partition::new(CHECKPOINTS, &[thread_id])?;
            let store = self.store()?;
            let partition = &partition;
            let mut removed = 0;
            loop {
                let (some, more) = retried(|_| async move {
                    let Some(info) = store.partition(partition).await? else { return Ok((0, false)) };
                    let mut plan = Plan::new(MAX_COMMIT_OPERATIONS);
                    let removed = match removal(store, partition, keep, &mut plan).await {
                        Ok(removed) => removed,
                        Err(error) => return Err(unless_moved(store, &info, error).await?),
                    };
                    if !plan.operations.is_empty() {
                        let mut commit = Commit::new(partition.clone());
                        commit.preconditions.push(Precondition::Version(info.version));
                        commit.operations = plan.operations;
                        store.commit(commit).await?;
                    }
                    Ok((removed, plan.more))
                })
                .await?;
                removed += some;
                if !more {
                    return Ok(removed);
                }
            }
        };
        self.shared.measured("checkpoints.prune_checkpoints", work).await
    }

    /// Deletes a thread; true where there was one.
    ///
    /// # Errors
    /// As the store.
    pub async fn delete_thread(&self, thread_id: &str) -> Result<bool> {
        let work =
            async { self.store()?.delete_partition(&Partition::new(CHECKPOINTS, &[thread_id])?).await };
        self.shared.measured("checkpoints.delete_thread", work).await
    }

    /// Whether a thread is a user's: by its id, or by a checkpoint whose metadata says so.
    pub(crate) async fn is_of(&self, thread: &Partition, user_id: &str, data: &UserData) -> Result<bool> {
        if thread.segments().first().is_some_and(|id| data.has_thread(id)) {
            return Ok(true);
        }
        if data.thread_member.is_none() {
            return Ok(false);
        }
        for item in all(self.store()?, Query::prefix(thread.clone(), "s:", 1000).without_bodies()).await? {
            let metadata = layout::decode::<Attributes>(&item)?.metadata.decode()?;
            if data.names(user_id, &metadata) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn store(&self) -> Result<&dyn CollectionStore> {
        self.shared.collections()
    }
}

/// What a step finds.
struct Before<'a> {
    head: Option<&'a Item>,
    earlier: Option<&'a Item>,
    hint: Option<&'a Item>,
}

fn number(item: &Item) -> Result<u64> {
    layout::decode(item)
}

async fn complete(
    store: &dyn CollectionStore,
    partition: &Partition,
    item: &Item,
) -> Result<StoredCheckpoint> {
    let bytes: Option<Bytes> = load(store, partition, Record::decode(&item.sort, &item.body)?).await?;
    let text =
        bytes.and_then(|bytes| String::from_utf8(bytes.into()).ok()).ok_or_else(|| corrupt(&item.sort))?;
    described(item, Some(Json::from_stored(&item.sort, text)?))
}

fn described(item: &Item, data: Option<Json>) -> Result<StoredCheckpoint> {
    let Attributes { id, metadata } = layout::decode(item)?;
    Ok(StoredCheckpoint { id, data, metadata, written_at: item.written_at })
}

/// Plans the removal of what is older than the latest `keep`, and says how many go.
async fn removal(
    store: &dyn CollectionStore,
    partition: &Partition,
    keep: usize,
    plan: &mut Plan,
) -> Result<usize> {
    let stored = all(store, Query::prefix(partition.clone(), "s:", 1000).order(Order::Descending)).await?;
    let older = stored.get(keep..).unwrap_or_default();
    let mut removed = 0;
    // The oldest first: what is left for the next commit is what was stored last.
    for item in older.iter().rev().take(MAX_COMMIT_OPERATIONS / 3) {
        let Attributes { id, .. } = layout::decode(item)?;
        plan.operations
            .extend([item.sort.clone(), sort_key(&["d", &id])].map(|sort| Operation::Delete { sort }));
        removed += 1;
    }
    plan.more = removed < older.len();
    let mut roots = Vec::new();
    for item in stored.iter().take(stored.len() - removed) {
        roots.push(Record::decode(&item.sort, &item.body)?);
    }
    let mut marked = Marked::default();
    sweep::walk(store, partition, roots, &mut marked).await?;
    plan.pieces(store, partition, &marked).await?;
    Ok(removed)
}
