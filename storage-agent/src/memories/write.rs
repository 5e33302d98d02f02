//! Writing: what is there is read, then one commit for each first label, on condition that it still is.

use std::time::SystemTime;

use storage_core::{
    Commit, Error, ErrorKind, Expire, Item, Operation, Partition, Precondition, Result,
    engine::{back_off, latest},
};

use super::{
    item::{Content, Lease, Stored},
    layout::Place,
    store::MemoryStore,
    texts,
};

/// How often a write is tried while others write to the same memories.
const TRIES: u32 = 200;

/// One memory to put or, without content, to delete.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) place: Place,
    pub(super) content: Option<Content>,
    pub(super) expected: Expected,
}

/// What must be there before.
#[derive(Debug)]
pub(super) enum Expected {
    Anything,
    Nothing,
    Version(String),
}

impl Write {
    fn lease(&self) -> Option<Lease> {
        self.content.as_ref()?.lease()
    }
}

/// What was there.
#[derive(Debug, Default)]
struct Before {
    /// The version of the item, expired or not.
    item: Option<u64>,
    lease: Option<Lease>,
    /// The version of the memory and when it was put first, unless it has expired.
    live: Option<(String, SystemTime)>,
}

impl MemoryStore {
    /// Does writes to one partition, each to a place of its own, all or none; says where a memory was.
    pub(super) async fn write(&self, partition: &Partition, writes: &[Write]) -> Result<Vec<bool>> {
        let leases: Vec<Lease> = writes.iter().filter_map(Write::lease).collect();
        let write = async {
            self.take(&leases).await?;
            self.tried(partition, writes).await
        };
        let written = write.await;
        if written.as_ref().is_err_and(|error| error.kind() != ErrorKind::OutcomeUnknown) {
            self.release(leases).await;
        }
        written
    }

    async fn tried(&self, partition: &Partition, writes: &[Write]) -> Result<Vec<bool>> {
        for tries in 0..TRIES {
            let before = latest(self.before(partition, writes)).await?;
            for (write, before) in writes.iter().zip(&before) {
                write.expected.check(before)?;
            }
            let commit = commit(partition, writes, &before)?;
            if !commit.operations.is_empty() {
                match self.shared.commit_found(commit, texts::text).await {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Conflict => {
                        back_off(tries).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let were = before.iter().map(|before| before.live.is_some()).collect();
            self.release(before.into_iter().filter_map(|before| before.lease).collect()).await;
            if writes.iter().any(|write| write.content.is_none()) {
                self.retire(partition).await;
            }
            return Ok(were);
        }
        Err(Error::new(ErrorKind::Conflict, format!("others were faster {TRIES} times in a row")))
    }

    async fn before(&self, partition: &Partition, writes: &[Write]) -> Result<Vec<Before>> {
        let sorts: Vec<&str> = writes.iter().map(|write| write.place.sort.as_str()).collect();
        let found = self.shared.collections()?.items(partition, &sorts).await?;
        let (mut all, mut leased) = (Vec::new(), Vec::new());
        for (n, item) in found.into_iter().enumerate() {
            let before = item.map_or_else(Before::default, |item| Before::of(partition, item));
            if let Some(lease) = &before.lease {
                leased.push((n, lease.clone()));
            }
            all.push(before);
        }
        let ends =
            futures::future::try_join_all(leased.iter().map(|(_, lease)| self.alive(lease, false))).await?;
        for ((n, _), ends) in leased.into_iter().zip(ends) {
            if let (None, Some(before)) = (ends, all.get_mut(n)) {
                before.live = None;
            }
        }
        Ok(all)
    }

    /// Removes an empty partition, unless somebody writes to it.
    pub(super) async fn retire(&self, partition: &Partition) {
        let retire = async {
            let collections = self.shared.collections()?;
            let info = latest(collections.partition(partition)).await?;
            let Some(info) = info.filter(|info| info.items == 0) else { return Ok(()) };
            self.shared.delete_unchanged(info).await.map(drop)
        };
        if let Err(error) = retire.await.or_else(not_a_conflict) {
            tracing::warn!(%error, "an empty partition of memories stays");
        }
    }

    /// Removes what has expired, unless it was put anew; says how many.
    pub(super) async fn forget(&self, partition: &Partition, dead: &[Stored]) -> Result<u64> {
        let commit = |dead: &[Stored]| {
            let commit = dead.iter().fold(Commit::new(partition.clone()), |commit, stored| {
                let sort = &stored.item.sort;
                let unchanged = Precondition::ItemVersion(sort.clone(), stored.item.version);
                commit.only_if(unchanged).with(Operation::Delete { sort: sort.clone() })
            });
            self.forgotten(commit)
        };
        if dead.is_empty() || commit(dead).await? {
            return Ok(dead.len() as u64);
        }
        let mut count = 0;
        for one in dead {
            count += u64::from(commit(std::slice::from_ref(one)).await?);
        }
        Ok(count)
    }

    async fn forgotten(&self, commit: Commit) -> Result<bool> {
        match self.shared.collections()?.commit(commit).await {
            Ok(_) => Ok(true),
            Err(error) => not_a_conflict(error).map(|()| false),
        }
    }
}

fn not_a_conflict(error: Error) -> Result<()> {
    if error.kind() == ErrorKind::Conflict { Ok(()) } else { Err(error) }
}

fn commit(partition: &Partition, writes: &[Write], before: &[Before]) -> Result<Commit> {
    // A partition that was about to go stays.
    let puts = writes.iter().any(|write| write.content.is_some());
    let mut commit = Commit::new(partition.clone()).expire(if puts { Expire::Never } else { Expire::Keep });
    for (Write { place, content, .. }, before) in writes.iter().zip(before) {
        let operation = match (content, before.item) {
            (Some(content), _) => {
                content.put(place, before.live.as_ref().map(|(_, created_at)| *created_at))?
            }
            (None, Some(_)) => Operation::Delete { sort: place.sort.clone() },
            (None, None) => continue,
        };
        commit.operations.push(operation);
        commit.preconditions.push(match before.item {
            Some(version) => Precondition::ItemVersion(place.sort.clone(), version),
            None => Precondition::Absent(place.sort.clone()),
        });
    }
    Ok(commit)
}

impl Before {
    /// An item that is no memory counts as one of no version: it may be written over and deleted.
    fn of(partition: &Partition, item: Item) -> Self {
        let (version, written_at) = (item.version, item.written_at);
        match Stored::decode(partition, item) {
            Ok(stored) => Self {
                item: Some(version),
                lease: stored.lease,
                live: Some((stored.version, stored.created_at)),
            },
            Err(_) => Self { item: Some(version), lease: None, live: Some((String::new(), written_at)) },
        }
    }
}

impl Expected {
    fn check(&self, before: &Before) -> Result<()> {
        let found = before.live.as_ref().map(|(version, _)| version);
        let message = match (self, found) {
            (Self::Anything, _) | (Self::Nothing, None) => return Ok(()),
            (Self::Version(expected), Some(found)) if expected == found => return Ok(()),
            (Self::Nothing, Some(_)) => "there is a memory of this key",
            (Self::Version(_), Some(_)) => "the memory has another version than expected",
            (Self::Version(_), None) => "the memory is gone",
        };
        Err(Error::new(ErrorKind::Conflict, message).with_hint("read it again"))
    }
}
