//! Threads as a whole.

use std::{collections::BinaryHeap, time::Duration};

use futures::TryStreamExt;
use storage_core::{
    CollectionStore, Commit, Error, ErrorKind, Expire, Item, Operation, Partition, PartitionInfo,
    Precondition, PutMode, Query, Result, StorageExt,
};

use super::{
    CheckpointerBackend,
    commit::groups,
    layout::{self, Head},
    read::all,
    types::ThreadInfo,
};
use crate::shared::{THREADS, expire};

/// What a copy takes along, what others refer to first. Epochs are of the source alone.
const COPIED: [&str; 8] = ["k:", "m:", "h:", "v:", "w:", "i:", "l:", "c:"];
const TRIES: u32 = 8;

impl CheckpointerBackend {
    /// What is known of a thread; `None` where there is none.
    ///
    /// # Errors
    /// As the store.
    pub async fn thread(&self, thread_id: &str) -> Result<Option<ThreadInfo>> {
        self.shared.measured("checkpointer.thread", self.info(thread_id)).await
    }

    pub(crate) async fn info(&self, thread_id: &str) -> Result<Option<ThreadInfo>> {
        let store = self.store()?;
        let found = store.partition(&layout::thread(thread_id)?).await?;
        Ok(match found {
            Some(info) => Some(described(store, info).await?),
            None => None,
        })
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
                latest.push(std::cmp::Reverse((info.updated_at, info.partition.as_str().to_owned())));
                if latest.len() > limit {
                    latest.pop();
                }
            }
            let mut threads = Vec::with_capacity(latest.len());
            for std::cmp::Reverse((_, text)) in latest.into_sorted_vec() {
                let partition = Partition::from_text(&text)?;
                if let Some(info) = store.partition(&partition).await? {
                    threads.push(described(store, info).await?);
                }
            }
            Ok(threads)
        };
        self.shared.measured("checkpointer.threads", work).await
    }

    /// Deletes a thread with all that is in it, in one step; true where there was one.
    ///
    /// # Errors
    /// As the store.
    pub async fn delete_thread(&self, thread_id: &str) -> Result<bool> {
        let work = async { self.store()?.delete_partition(&layout::thread(thread_id)?).await };
        self.shared.measured("checkpointer.delete_thread", work).await
    }

    /// Sets when a thread expires, or that it does not; false where there is none. The next write to it sets that anew, to
    /// the [`ttl`](super::CheckpointConfig::ttl): a thread that is in use again stays.
    ///
    /// # Errors
    /// As the store.
    pub async fn expire_thread(&self, thread_id: &str, after: Option<Duration>) -> Result<bool> {
        let work = async {
            let partition = layout::thread(thread_id)?;
            let commit = Commit::new(partition).expire(expire(after));
            Ok(self.store()?.commit(commit).await?.version > 0)
        };
        self.shared.measured("checkpointer.expire_thread", work).await
    }

    /// Copies a thread, its checkpoints with all namespaces, values and writes, to a new one; false where there is none.
    /// The copy is one state of the source. A thread of up to 5,000 items appears in one step; a larger one in several, its
    /// checkpoints last: one of them may stay behind an error, and is there to be deleted.
    ///
    /// # Errors
    /// `Conflict` where the target exists, or the source is written to all the time; else as the store.
    pub async fn copy_thread(&self, source: &str, target: &str) -> Result<bool> {
        let work = async {
            let store = self.store()?;
            let (source, target) = (layout::thread(source)?, layout::thread(target)?);
            if store.partition(&target).await?.is_some() {
                return Err(is_there(&target));
            }
            let mut copy = Copy { store, target, version: 0, expire: self.expire() };
            for _ in 0..TRIES {
                let Some(before) = store.partition(&source).await? else { return copy.end(false).await };
                // What an earlier try has left there.
                let left =
                    (copy.version > 0).then_some(Operation::DeleteRange { from: String::new(), to: None });
                let last = copy.all_but_the_last(&source, left.into_iter().collect()).await?;
                let after = store.partition(&source).await?;
                if after.is_some_and(|after| after.version == before.version) {
                    copy.paste(last).await?;
                    return Ok(true);
                }
            }
            copy.end(false).await?;
            Err(Error::new(ErrorKind::Conflict, "the thread is written to all the time")
                .with_key(source.as_str()))
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
}

impl Copy<'_> {
    /// Pastes group by group, and returns the last one.
    async fn all_but_the_last(
        &mut self,
        source: &Partition,
        mut group: Vec<Operation>,
    ) -> Result<Vec<Operation>> {
        for prefix in COPIED {
            let mut next = Some(Query::prefix(source.clone(), prefix, 1000));
            while let Some(query) = next {
                let page = self.store.query(query.clone()).await?;
                next = query.after(&page);
                group.extend(page.items.into_iter().map(put));
                let mut groups = groups(std::mem::take(&mut group));
                group = groups.pop().unwrap_or_default();
                for full in groups {
                    self.paste(full).await?;
                }
            }
        }
        Ok(group)
    }

    async fn paste(&mut self, operations: Vec<Operation>) -> Result<()> {
        let mut commit = Commit::new(self.target.clone()).expire(self.expire);
        commit.preconditions.push(Precondition::Version(self.version));
        commit.operations = operations;
        let committed = self.store.commit(commit).await;
        self.version = match committed {
            Err(error) if error.kind() == ErrorKind::Conflict && self.version == 0 => {
                return Err(is_there(&self.target));
            }
            committed => committed?.version,
        };
        Ok(())
    }

    /// Gives up, and removes what was pasted.
    async fn end<T>(mut self, answer: T) -> Result<T> {
        if self.version > 0 {
            self.expire = Expire::After(Duration::from_millis(1));
            self.paste(vec![Operation::DeleteRange { from: String::new(), to: None }]).await?;
        }
        Ok(answer)
    }
}

fn is_there(target: &Partition) -> Error {
    Error::new(ErrorKind::Conflict, "the thread to copy to is there already")
        .with_key(target.as_str())
        .with_hint("name another one, or delete it first")
}

fn put(item: Item) -> Operation {
    Operation::put(item.sort, item.attributes, item.body, PutMode::Insert)
}

async fn described(store: &dyn CollectionStore, info: PartitionInfo) -> Result<ThreadInfo> {
    let heads = all(store, Query::prefix(info.partition.clone(), "l:", 1000)).await?;
    let counts = heads.iter().map(layout::decode::<Head>).collect::<Result<Vec<_>>>()?;
    Ok(ThreadInfo {
        thread_id: layout::thread_id(&info.partition),
        checkpoints: counts.iter().map(|head| head.count).sum(),
        items: info.items,
        bytes: info.bytes,
        updated_at: info.updated_at,
        expires_at: info.expires_at,
    })
}
