//! Expiry: a memory with a time to live has a partition of its own that expires, and is there as long as that is.
//!
//! Only partitions expire by the store's clock. The lease comes before the memory, so that nobody finds one without the
//! other, and is named by the version, so that no later one brings an expired memory back.

use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::{
    Commit, ErrorKind, Expire, Json, Operation, Partition, Precondition, PutMode, Result, engine::latest,
};

use super::{
    item::{Lease, MemoryItem, Stored},
    layout::LEASES,
    store::{MemoryStore, PARALLEL},
};

/// The one item of a lease.
const HELD: &str = "held";
/// How long the lease of a memory that is gone stays: longer than between reading a memory and looking at its lease.
const GRACE: Duration = Duration::from_secs(60);

impl Lease {
    fn partition(&self) -> Result<Partition> {
        Partition::new(LEASES, &[&self.version])
    }

    /// Begins the lease, or begins it anew.
    fn hold(&self) -> Result<Commit> {
        let held = Operation::put(HELD, Json::parse("{}")?, "", PutMode::Upsert);
        Ok(Commit::new(self.partition()?).with(held).expire(Expire::After(self.ttl)))
    }
}

impl MemoryStore {
    pub(super) async fn take(&self, leases: &[Lease]) -> Result<()> {
        let take = async |lease: &Lease| self.shared.collections()?.commit(lease.hold()?).await.map(drop);
        stream::iter(leases).map(Ok).try_for_each_concurrent(PARALLEL, take).await
    }

    /// Lets leases of memories that are gone end, and says which had not ended. Who read such a memory right before may look
    /// at its lease right after: one that was gone at once would tell that there had been nothing.
    pub(super) async fn release(&self, leases: Vec<Lease>) -> Vec<bool> {
        let release = async |lease: Lease| {
            let ttl = lease.ttl.min(GRACE);
            self.prolonged(&Lease { ttl, ..lease }).await
        };
        let ended = stream::iter(leases).map(release).buffered(PARALLEL).map(|ended| {
            ended.unwrap_or_else(|error| {
                tracing::warn!(%error, "the lease of a memory could not be ended; it expires");
                false
            })
        });
        ended.collect().await
    }

    /// Begins a lease anew that has not ended; false where it has.
    async fn prolonged(&self, lease: &Lease) -> Result<bool> {
        let hold = lease.hold()?.only_if(Precondition::Present(HELD.to_owned()));
        match self.shared.collections()?.commit(hold).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// When the lease ends; `None` where it has ended.
    pub(super) async fn alive(&self, lease: &Lease, refresh: bool) -> Result<Option<SystemTime>> {
        let (collections, partition) = (self.shared.collections()?, lease.partition()?);
        if refresh {
            match self.prolonged(lease).await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // What can be read is answered, also where nothing can be written.
                Err(error) => tracing::warn!(%error, "the expiry of a memory could not be refreshed"),
            }
        } else if let Some(info) = collections.partition(&partition).await? {
            return Ok(info.expires_at);
        }
        // A copy that is behind may not have it yet, or not know that it was refreshed.
        Ok(latest(collections.partition(&partition)).await?.and_then(|info| info.expires_at))
    }

    /// The memory, unless it has expired.
    pub(super) async fn living(&self, stored: Stored, refresh: bool) -> Result<Option<MemoryItem>> {
        let expires_at = match &stored.lease {
            None => None,
            Some(lease) => match self.alive(lease, refresh).await? {
                None => return Ok(None),
                ends => ends,
            },
        };
        stored.into_memory(expires_at).map(Some)
    }

    /// Those that have not expired with the ends of their leases, and those that have.
    pub(super) async fn parted(
        &self,
        stored: Vec<Stored>,
    ) -> Result<(Vec<(Stored, Option<SystemTime>)>, Vec<Stored>)> {
        let look = async |stored: Stored| -> Result<_> {
            Ok(match &stored.lease {
                None => (stored, None, true),
                Some(lease) => {
                    let ends = self.alive(lease, false).await?;
                    (stored, ends, ends.is_some())
                }
            })
        };
        let looked: Vec<_> = stream::iter(stored).map(look).buffered(PARALLEL).try_collect().await?;
        let (mut alive, mut dead) = (Vec::new(), Vec::new());
        for (stored, ends, lives) in looked {
            if lives { alive.push((stored, ends)) } else { dead.push(stored) }
        }
        Ok((alive, dead))
    }
}
