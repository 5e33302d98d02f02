//! Threads as a whole.

use std::{collections::BinaryHeap, time::Duration};

use futures::TryStreamExt;
use storage_core::{
    CollectionStore, Commit, Error, ErrorKind, Expire, Item, MAX_COMMIT_BYTES, MAX_COMMIT_OPERATIONS,
    Operation, Partition, PartitionInfo, Precondition, PutMode, Query, Result,
};

use super::{
    CheckpointerBackend,
    commit::carried,
    layout::{self, Head},
    read::all,
    types::ThreadInfo,
};

/// What a copy takes along, what others refer to first.
const COPIED: [&str; 7] = ["k:", "m:", "v:", "w:", "i:", "l:", "c:"];
const TRIES: u32 = 8;

impl CheckpointerBackend {
    /// What is known of a thread; `None` where there is none.
    ///
    /// # Errors
    /// As the store.
    pub async fn thread(&self, thread_id: &str) -> Result<Option<ThreadInfo>> {
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
        let store = self.store()?;
        let mut latest = BinaryHeap::new();
        let mut listed = store.partitions(layout::KIND, &[]);
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
    }

    /// Deletes a thread with all that is in it, in one step; true where there was one.
    ///
    /// # Errors
    /// As the store.
    pub async fn delete_thread(&self, thread_id: &str) -> Result<bool> {
        self.store()?.delete_partition(&layout::thread(thread_id)?).await
    }

    /// Sets when a thread expires, or that it does not; false where there is none. With a
    /// [`ttl`](super::CheckpointConfig::ttl) each later write sets it anew.
    ///
    /// # Errors
    /// As the store.
    pub async fn expire_thread(&self, thread_id: &str, after: Option<Duration>) -> Result<bool> {
        let partition = layout::thread(thread_id)?;
        let commit = Commit::new(partition).expire(after.map_or(Expire::Never, Expire::After));
        Ok(self.store()?.commit(commit).await?.version > 0)
    }

    /// Copies a thread, its checkpoints with all namespaces, values and writes, to a new one; false where there is none.
    /// A thread of up to 10,000 items is copied in one step; a larger one comes in several, its checkpoints last.
    ///
    /// # Errors
    /// `Conflict` where the target exists, or the source is written to all the time; else as the store.
    pub async fn copy_thread(&self, source: &str, target: &str) -> Result<bool> {
        let store = self.store()?;
        let (source, target) = (layout::thread(source)?, layout::thread(target)?);
        for _ in 0..TRIES {
            let Some(before) = store.partition(&source).await? else { return Ok(false) };
            let copied = self.copy(store, &source, &target).await?;
            let after = store.partition(&source).await?;
            if after.is_some_and(|after| after.version == before.version) {
                return Ok(copied);
            }
            if copied {
                store.delete_partition(&target).await?;
            }
        }
        let message = "the thread is written to all the time";
        Err(Error::new(ErrorKind::Conflict, message).with_key(source.as_str()))
    }

    async fn copy(
        &self,
        store: &dyn CollectionStore,
        source: &Partition,
        target: &Partition,
    ) -> Result<bool> {
        let mut group = Vec::new();
        let mut version = 0;
        for prefix in COPIED {
            let mut next = Some(Query::prefix(source.clone(), prefix, 1000));
            while let Some(query) = next {
                let page = store.query(query.clone()).await?;
                next = query.after(&page);
                let bytes: usize = group.iter().map(carried).sum();
                if group.len() + page.items.len() >= MAX_COMMIT_OPERATIONS || bytes > MAX_COMMIT_BYTES / 2 {
                    version = self.paste(store, target, version, std::mem::take(&mut group)).await?;
                }
                group.extend(page.items.into_iter().map(put));
            }
        }
        if group.is_empty() {
            return Ok(version > 0);
        }
        self.paste(store, target, version, group).await.map(|_| true)
    }

    async fn paste(
        &self,
        store: &dyn CollectionStore,
        target: &Partition,
        version: u64,
        operations: Vec<Operation>,
    ) -> Result<u64> {
        let mut commit =
            Commit::new(target.clone()).expire(self.expire()).only_if(Precondition::Version(version));
        commit.operations = operations;
        Ok(store.commit(commit).await?.version)
    }
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
