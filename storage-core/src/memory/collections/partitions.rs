//! The partitions, by their names.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::partition::Stored;
use crate::{Clock, Commit, Committed, Cursor, Partition, PartitionInfo, Result, ScanPage};

/// How many partitions a listing looks at under one lock.
const LISTED: usize = 256;

/// Every partition, by its text.
pub(in super::super) struct Partitions {
    pub(super) clock: Arc<dyn Clock>,
    stored: Mutex<BTreeMap<String, Stored>>,
}

impl Partitions {
    pub(in super::super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, stored: Mutex::new(BTreeMap::new()) }
    }

    pub(in super::super) fn sweep(&self) {
        let now = self.clock.now();
        self.lock().retain(|_, stored| stored.is_live(now));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn commit(&self, commit: &Commit) -> Result<Committed> {
        let mut all = self.lock();
        // Under the lock: one that waited for it is not older than the one before.
        let now = self.clock.now();
        let name = commit.partition.as_str();
        if let Some(stored) = all.get_mut(name).filter(|stored| stored.is_live(now)) {
            return stored.commit(commit, now);
        }
        let mut fresh = Stored::new(now);
        let committed = fresh.commit(commit, now)?;
        // Preconditions alone make no partition.
        if commit.operations.is_empty() {
            return Ok(Committed { version: 0, ..committed });
        }
        all.insert(name.to_owned(), fresh);
        Ok(committed)
    }

    /// Runs `look` on a partition that is there.
    pub(super) fn look<T: Default>(&self, partition: &Partition, look: impl FnOnce(&Stored) -> T) -> T {
        let now = self.clock.now();
        let all = self.lock();
        all.get(partition.as_str()).filter(|stored| stored.is_live(now)).map(look).unwrap_or_default()
    }

    /// Looks at some partitions that are there, from a text to before another; says where to go on.
    pub(super) fn some(&self, from: &str, to: &str, mut look: impl FnMut(&str, &Stored)) -> Option<String> {
        let now = self.clock.now();
        let all = self.lock();
        let bounds = (Bound::Included(from.min(to)), Bound::Excluded(to));
        let mut last = None;
        for (count, (name, stored)) in all.range::<str, _>(bounds).enumerate() {
            if count == LISTED {
                return last.map(|last| format!("{last}\0"));
            }
            if stored.is_live(now) {
                look(name, stored);
            }
            last = Some(name.as_str());
        }
        None
    }

    /// The next partitions from a text to before another.
    pub(super) fn listed(&self, from: &str, to: &str, limit: usize) -> Result<ScanPage<PartitionInfo>> {
        let now = self.clock.now();
        let all = self.lock();
        // `BTreeMap::range` panics on bounds in the wrong order, which a cursor from elsewhere may bring.
        let bounds = (Bound::Included(from.min(to)), Bound::Excluded(to));
        let limit = limit.min(LISTED);
        let seen: Vec<_> = all.range::<str, _>(bounds).take(limit).collect();
        // No text lies between a name and itself with a NUL.
        let last = seen.last().filter(|_| seen.len() == limit);
        let next = last.map(|(name, _)| Cursor::at(&format!("{name}\0"))).transpose()?;
        let live = seen.into_iter().filter(|(_, stored)| stored.is_live(now));
        let infos = live.filter_map(|(name, stored)| Some(Ok(stored.info(Partition::from_text(name).ok()?))));
        Ok(ScanPage::new(infos.collect(), next))
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitions")
    }
}
