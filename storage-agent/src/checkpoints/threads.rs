//! Threads as a whole.

use std::{collections::BinaryHeap, future::ready, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::{
    CollectionStore, Commit, Cursor, Error, ErrorKind, Expire, Item, Json, Operation, Partition,
    PartitionInfo, Precondition, PutMode, Query, Result, ScanPage, StorageExt, ttl_millis,
};

use super::{
    CheckpointerBackend,
    blobs::null,
    commit::groups,
    layout::{self, Deleted},
    marks::{State, all_but_epochs_and_deletion},
    pages::all,
    types::ThreadInfo,
};
use crate::shared::{THREADS, expire};

/// What a copy takes along, what others refer to first. Epochs are of the source alone.
const COPIED: [&str; 7] = ["k:", "m:", "h:", "v:", "w:", "n:", "i:"];
/// What makes them a thread: the last commit, which brings all of it.
const SHOWN: [&str; 2] = ["l:", "c:"];
/// How long what a copy has brought stays unless it is ended: a program that dies leaves nothing.
const COPYING_FOR: Duration = Duration::from_secs(300);
const TRIES: u32 = 8;
/// How many threads of a page are looked at at a time.
const PARALLEL: usize = 16;

impl CheckpointerBackend {
    /// What is known of a thread; `None` where there is none.
    ///
    /// # Errors
    /// As the store.
    pub async fn thread(&self, thread_id: &str) -> Result<Option<ThreadInfo>> {
        self.shared.measured("checkpointer.thread", self.info(thread_id)).await
    }

    async fn info(&self, thread_id: &str) -> Result<Option<ThreadInfo>> {
        match self.store()?.partition(&layout::thread(thread_id)?).await? {
            Some(info) => self.described(info).await,
            None => Ok(None),
        }
    }

    /// What is known of a partition's thread; `None` where a mark alone is.
    pub(crate) async fn described(&self, info: PartitionInfo) -> Result<Option<ThreadInfo>> {
        let state = State::of(self.store()?, &info.partition).await?;
        let is_gone = state.is_gone();
        let thread_id = layout::thread_id(&info.partition).or(state.name).filter(|_| !is_gone);
        Ok(thread_id.map(|thread_id| ThreadInfo {
            thread_id,
            checkpoints: state.checkpoints,
            items: info.items,
            bytes: info.bytes,
            updated_at: info.updated_at,
            expires_at: info.expires_at,
        }))
    }

    /// The threads that were written to last, the latest first. Looks at all threads, without their items.
    ///
    /// # Errors
    /// As the store.
    pub async fn threads(&self, limit: usize) -> Result<Vec<ThreadInfo>> {
        let work = async {
            let store = self.store()?;
            let mut latest = BinaryHeap::new();
            let mut listed = self.shared.storage.partitions(THREADS, &[]);
            while let Some(info) = listed.try_next().await? {
                // Nothing but a deletion's mark, perhaps.
                if info.items == 1 && State::of(store, &info.partition).await?.is_gone() {
                    continue;
                }
                latest.push(std::cmp::Reverse((info.updated_at, info.partition.as_str().to_owned())));
                if latest.len() > limit {
                    latest.pop();
                }
            }
            let mut threads = Vec::with_capacity(latest.len());
            for std::cmp::Reverse((_, text)) in latest.into_sorted_vec() {
                let partition = Partition::from_text(&text)?;
                if let Some(info) = store.partition(&partition).await? {
                    threads.extend(self.described(info).await?);
                }
            }
            Ok(threads)
        };
        self.shared.measured("checkpointer.threads", work).await
    }

    /// A page of all threads, in no order that means anything: as [`partitions_page`](CollectionStore::partitions_page) has it.
    /// The cursor may be brought back by another process. A page may have fewer threads than it could, or none, and go on.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero, and for a cursor of another listing; else as the store.
    pub async fn threads_page(&self, after: Option<&Cursor>, limit: usize) -> Result<ScanPage<ThreadInfo>> {
        let work = async {
            let ScanPage { items, next, may_repeat, .. } =
                self.store()?.partitions_page(THREADS, &[], after, limit).await?;
            let threads = stream::iter(items).map(async |info| match info {
                Ok(info) => self.described(info).await.transpose(),
                Err(error) => Some(Err(error)),
            });
            let items = threads.buffered(PARALLEL).filter_map(ready).collect().await;
            let mut page = ScanPage::new(items, next);
            page.may_repeat = may_repeat;
            Ok(page)
        };
        self.shared.measured("checkpointer.threads_page", work).await
    }

    /// Deletes a thread with all that is in it, at once for every reader; true where there was one.
    ///
    /// For [`deleted_for`](super::CheckpointConfig::deleted_for) a mark stays, because of which a step that goes on from a
    /// checkpoint of before, and writes to one, are a `Conflict`, and so is the first checkpoint of
    /// a subgraph's call. A checkpoint of the root without a parent begins the thread anew. A program that dies right within may leave
    /// no mark.
    ///
    /// # Errors
    /// `Conflict` where the thread is written to all the time; else as the store.
    pub async fn delete_thread(&self, thread_id: &str) -> Result<bool> {
        let work = async {
            self.check_epoch(thread_id).await?;
            self.delete(&layout::thread(thread_id)?).await
        };
        self.shared.measured("checkpointer.delete_thread", work).await
    }

    pub(super) async fn delete(&self, partition: &Partition) -> Result<bool> {
        let (store, mut greatest, mut was_there) = (self.store()?, String::new(), false);
        for _ in 0..TRIES {
            let state = State::of(store, partition).await?;
            let is_gone = state.is_gone();
            greatest = greatest.max(state.greatest);
            was_there |= !is_gone && store.delete_partition(partition).await?;
            let Some(deleted_for) = self.config.deleted_for.filter(|_| was_there) else {
                return Ok(was_there);
            };
            let mark =
                Json::from_serialize(&Deleted { id: greatest.clone(), millis: ttl_millis(deleted_for)? })?;
            let commit = Commit::new(partition.clone())
                .only_if(Precondition::Version(0))
                .with(Operation::put(layout::DELETED, mark, "", PutMode::Insert))
                .expire(Expire::After(deleted_for));
            match store.commit(commit).await {
                // Somebody has written to it in between.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                done => return done.map(|_| was_there),
            }
        }
        Err(written_to_all_the_time(partition))
    }

    /// Sets when a thread expires, or that it does not; false where there is none. The next write to it sets that anew, to
    /// the [`ttl`](super::CheckpointConfig::ttl): a thread that is in use again stays.
    ///
    /// # Errors
    /// As the store.
    pub async fn expire_thread(&self, thread_id: &str, after: Option<Duration>) -> Result<bool> {
        let work = async {
            let partition = layout::thread(thread_id)?;
            let epoch = self.check_epoch(thread_id).await?;
            if State::of(self.store()?, &partition).await?.is_gone() {
                return Ok(false);
            }
            let mut commit = Commit::new(partition).expire(expire(after));
            commit.preconditions.extend(epoch);
            Ok(self.store()?.commit(commit).await?.version > 0)
        };
        self.shared.measured("checkpointer.expire_thread", work).await
    }

    /// Copies a thread, its checkpoints with all namespaces, values and writes, to a new one; false where there is none.
    /// The copy is one state of the source, and appears in one step: a call that dies before leaves nothing that anybody sees,
    /// and what it brought goes within five minutes.
    ///
    /// # Errors
    /// `Conflict` where the target exists, or the source is written to all the time; `InvalidInput` for a source of more than
    /// about 9,900 checkpoints or 64 MiB of them, their values apart; else as the store.
    pub async fn copy_thread(&self, source: &str, target: &str) -> Result<bool> {
        let work = async {
            let store = self.store()?;
            let (source, target_id, target) = (layout::thread(source)?, target, layout::thread(target)?);
            let mut copy = Copy {
                store,
                target,
                version: 0,
                expire: self.expire(),
                staged_for: COPYING_FOR,
                most: self.most,
            };
            copy.version = copy.vacant().await?;
            let begun = copy.version;
            if begun > 0 {
                copy.staged_for = COPYING_FOR.max(self.config.deleted_for.unwrap_or_default());
            }
            for _ in 0..TRIES {
                let before = store.partition(&source).await?;
                let mut shown = copy.shown(&source).await?;
                let Some(before) = before.filter(|_| !shown.is_empty()) else {
                    return copy.end(begun, false).await;
                };
                copy.bring(&source).await?;
                let after = store.partition(&source).await?;
                if after.is_some_and(|after| after.version == before.version) {
                    shown.extend(layout::named(&copy.target, target_id)?);
                    copy.show(shown).await?;
                    return Ok(true);
                }
            }
            copy.end(begun, false).await?;
            Err(written_to_all_the_time(&source))
        };
        self.shared.measured("checkpointer.copy_thread", work).await
    }
}

/// A copy under way.
struct Copy<'a> {
    store: &'a dyn CollectionStore,
    target: Partition,
    /// The target's, so that nobody else writes to it.
    version: u64,
    expire: Expire,
    /// How long what it has brought stays if it dies; as long as a deletion's mark does, where there is one.
    staged_for: Duration,
    most: usize,
}

impl Copy<'_> {
    /// The version of the target where no thread is: only what a copy that died or a deletion has left.
    async fn vacant(&self) -> Result<u64> {
        let Some(info) = self.store.partition(&self.target).await? else { return Ok(0) };
        let is_gone = State::of(self.store, &self.target).await?.is_gone();
        if is_gone { Ok(info.version) } else { Err(is_there(&self.target)) }
    }

    /// What makes the source a thread.
    async fn shown(&self, source: &Partition) -> Result<Vec<Operation>> {
        let mut shown = Vec::new();
        for prefix in SHOWN {
            let items = all(self.store, Query::prefix(source.clone(), prefix, 1000)).await?;
            shown.extend(items.into_iter().map(put));
        }
        Ok(shown)
    }

    /// Brings all that nobody sees by itself.
    async fn bring(&mut self, source: &Partition) -> Result<()> {
        let mark = Operation::put(layout::COPYING, null(), "", PutMode::Insert);
        let mut group = Vec::from(all_but_epochs_and_deletion());
        group.push(mark);
        for prefix in COPIED {
            let mut next = Some(Query::prefix(source.clone(), prefix, 1000));
            while let Some(query) = next {
                let page = self.store.query(query.clone()).await?;
                next = query.after(&page);
                group.extend(page.items.into_iter().map(put));
                let mut groups = groups(std::mem::take(&mut group), self.most);
                group = groups.pop().unwrap_or_default();
                for full in groups {
                    self.paste(full, Expire::After(self.staged_for)).await?;
                }
            }
        }
        self.paste(group, Expire::After(self.staged_for)).await
    }

    async fn show(&mut self, mut shown: Vec<Operation>) -> Result<()> {
        shown.push(Operation::Delete { sort: layout::COPYING.to_owned() });
        self.paste(shown, self.expire).await
    }

    async fn paste(&mut self, operations: Vec<Operation>, expire: Expire) -> Result<()> {
        let mut commit = Commit::new(self.target.clone()).expire(expire);
        commit.preconditions.push(Precondition::Version(self.version));
        commit.operations = operations;
        let committed = self.store.commit(commit).await;
        self.version = match committed {
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(is_there(&self.target)),
            committed => committed?.version,
        };
        Ok(())
    }

    /// Gives up, and removes what was brought since the target had the version `begun`.
    async fn end<T>(mut self, begun: u64, answer: T) -> Result<T> {
        if self.version != begun {
            // A mark that was there stays its time.
            let stays = if begun > 0 { self.staged_for } else { Duration::from_millis(1) };
            self.paste(all_but_epochs_and_deletion().into(), Expire::After(stays)).await?;
        }
        Ok(answer)
    }
}

fn written_to_all_the_time(partition: &Partition) -> Error {
    Error::new(ErrorKind::Conflict, "the thread is written to all the time").with_key(partition.as_str())
}

fn is_there(target: &Partition) -> Error {
    Error::new(ErrorKind::Conflict, "the thread to copy to is there already")
        .with_key(target.as_str())
        .with_hint("name another one, or delete it first")
}

fn put(item: Item) -> Operation {
    Operation::put(item.sort, item.attributes, item.body, PutMode::Insert)
}
