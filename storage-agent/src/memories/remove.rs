//! Removing many memories, in steps of a bounded size.

use futures::TryStreamExt;
use storage_core::{Commit, Error, Expire, Operation, Outcome, Partition, Result, StorageExt};

use super::{
    item::{Lease, Stored},
    layout::{KIND, check_labels, range},
    search::names,
    store::MemoryStore,
};

/// How many memories are removed in one step.
const STEP: usize = 500;

impl MemoryStore {
    pub(super) async fn emptied(&self, prefix: &[&str]) -> Result<u64> {
        check_labels(prefix)?;
        let (partition, sorts) = range(prefix)?;
        let (mut removed, mut next) = (0, Some(names(&partition, &sorts, STEP)));
        while let Some(query) = next {
            let page = self.shared.collections()?.query(query.clone()).await?;
            next = query.after(&page);
            let delete =
                |commit: Commit, sort: &String| commit.with(Operation::Delete { sort: sort.clone() });
            let commit =
                page.items.iter().map(|item| &item.sort).fold(Commit::new(partition.clone()), delete);
            if commit.operations.is_empty() {
                continue;
            }
            let committed = self.shared.collections()?.commit(commit.expire(Expire::Keep)).await?;
            let mut leases: Vec<Lease> = Vec::new();
            for (item, outcome) in page.items.into_iter().zip(committed.outcomes) {
                let lease = Stored::decode(&partition, item).ok().and_then(|stored| stored.lease);
                match (outcome, lease) {
                    (Outcome::Applied(true), Some(lease)) => leases.push(lease),
                    (Outcome::Applied(true), None) => removed += 1,
                    _ => {}
                }
            }
            removed += self.release(leases).await.into_iter().map(u64::from).sum::<u64>();
        }
        if removed > 0 {
            self.retire(&partition).await;
        }
        Ok(removed)
    }

    pub(super) async fn swept(&self) -> Result<u64> {
        let every = self.shared.storage.partitions(KIND, &[]);
        every.try_fold(0, async |sum, info| Ok::<_, Error>(sum + self.swept_of(&info.partition).await?)).await
    }

    async fn swept_of(&self, partition: &Partition) -> Result<u64> {
        let (mut removed, mut next) = (0, Some(names(partition, "", STEP)));
        while let Some(query) = next {
            let page = self.shared.collections()?.query(query.clone()).await?;
            next = query.after(&page);
            let stored = page.items.into_iter().filter_map(|item| Stored::decode(partition, item).ok());
            let (_, dead) = self.parted(stored.filter(|stored| stored.lease.is_some()).collect()).await?;
            removed += self.forget(partition, &dead).await?;
        }
        if removed > 0 {
            self.retire(partition).await;
        }
        Ok(removed)
    }
}
