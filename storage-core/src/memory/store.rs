//! The map behind the memory backend: every method sees an expired entry as absent.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Clock, Expiry, Glob, Json, epoch_millis};

/// How many entries a sweep looks at under one lock.
const SWEEP_PAGE: usize = 1_000;

pub(super) struct Store {
    clock: Arc<dyn Clock>,
    entries: Mutex<BTreeMap<String, Slot>>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) value: Json,
    /// Milliseconds since the epoch.
    expires_at: Option<u64>,
}

/// The locked map at one moment in time.
pub(super) struct Guard<'a> {
    entries: MutexGuard<'a, BTreeMap<String, Slot>>,
    now: SystemTime,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Slot {
    pub(super) fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at.map(|millis| UNIX_EPOCH + Duration::from_millis(millis))
    }

    fn is_live(&self, now: SystemTime) -> bool {
        self.expires_at().is_none_or(|expires_at| now < expires_at)
    }
}

impl Store {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn lock(&self) -> Guard<'_> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock after the lock: with the time of before a wait, what others have seen expire would be there again.
        Guard { entries, now: self.clock.now() }
    }

    /// Removes the expired entries, a page under each lock; returns how many.
    pub(super) fn sweep(&self) -> u64 {
        let mut removed = 0;
        let mut after: Option<String> = None;
        loop {
            let mut guard = self.lock();
            let now = guard.now;
            let page: Vec<(String, bool)> = guard
                .entries
                .range::<str, _>((start(None, after.as_deref()), Bound::Unbounded))
                .take(SWEEP_PAGE)
                .map(|(key, slot)| (key.clone(), slot.is_live(now)))
                .collect();
            for (key, _) in page.iter().filter(|(_, live)| !live) {
                guard.entries.remove(key);
                removed += 1;
            }
            match page.into_iter().last() {
                Some((key, _)) => after = Some(key),
                None => return removed,
            }
        }
    }
}

/// Where a walk begins: after `after`, else at `prefix`, else at the beginning.
fn start<'a>(prefix: Option<&'a str>, after: Option<&'a str>) -> Bound<&'a str> {
    match (after, prefix) {
        (Some(after), _) => Bound::Excluded(after),
        (None, Some(prefix)) => Bound::Included(prefix),
        (None, None) => Bound::Unbounded,
    }
}

impl Guard<'_> {
    fn live(&self, key: &str) -> Option<&Slot> {
        self.entries.get(key).filter(|slot| slot.is_live(self.now))
    }

    pub(super) fn value(&self, key: &str) -> Option<&Json> {
        self.live(key).map(|slot| &slot.value)
    }

    pub(super) fn expiry(&self, key: &str) -> Option<Expiry> {
        let slot = self.live(key)?;
        let left = |at: SystemTime| at.duration_since(self.now).unwrap_or_default();
        Some(slot.expires_at().map_or(Expiry::Never, |at| Expiry::After(left(at))))
    }

    pub(super) fn put(&mut self, key: &str, value: Json, ttl_millis: Option<u64>) {
        let slot = Slot { value, expires_at: self.deadline(ttl_millis) };
        // `insert` alone would allocate the key again for each overwrite.
        match self.entries.get_mut(key) {
            Some(old) => *old = slot,
            None => drop(self.entries.insert(key.to_owned(), slot)),
        }
    }

    /// Writes a value and leaves the expiry as it is.
    pub(super) fn replace(&mut self, key: &str, value: Json) {
        if let Some(slot) = self.entries.get_mut(key) {
            slot.value = value;
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some_and(|slot| slot.is_live(self.now))
    }

    pub(super) fn set_expiry(&mut self, key: &str, ttl_millis: Option<u64>) -> bool {
        let expires_at = self.deadline(ttl_millis);
        let now = self.now;
        match self.entries.get_mut(key).filter(|slot| slot.is_live(now)) {
            Some(slot) => {
                slot.expires_at = expires_at;
                true
            }
            None => false,
        }
    }

    /// The entries in the range of a pattern, in byte order, after a key; expired and unmatched ones too.
    pub(super) fn range<'a>(
        &'a self,
        glob: &'a Glob,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Slot)> {
        self.entries
            .range::<str, _>((start(Some(glob.literal_prefix()), after), Bound::Unbounded))
            .map(|(key, slot)| (key.as_str(), slot))
            .take_while(|(key, _)| key.starts_with(glob.literal_prefix()))
    }

    /// Whether an entry of the range is there and its key matches.
    pub(super) fn matches(&self, glob: &Glob, key: &str, slot: &Slot) -> bool {
        slot.is_live(self.now) && glob.matches(key)
    }

    /// How many entries there are, and the bytes of their keys and values.
    pub(super) fn size(&self) -> (u64, u64) {
        let bytes = self.entries.iter().map(|(key, slot)| (key.len() + slot.value.len()) as u64).sum();
        (self.entries.len() as u64, bytes)
    }

    fn deadline(&self, ttl_millis: Option<u64>) -> Option<u64> {
        ttl_millis.map(|ttl| epoch_millis(self.now).saturating_add(ttl))
    }
}
