//! The last cuts of channels, in memory, so that a next version is cut anew only where it differs.
//!
//! Never the truth: a cut is a function of the payload alone, and what is stored is asked of the store, so that neither
//! other processes nor failed commits can make it wrong.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use lru::LruCache;
use storage_core::Partition;

use super::chunks::Cut;

/// A comparison is so many times faster than cutting and hashing.
const COMPARED: usize = 16;

/// A thread's partition, and the sort key of a channel's hint.
type Key = (String, String);

/// The last cuts, up to a weight; what was used least recently goes first.
pub(super) struct Cuts {
    most: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    cuts: LruCache<Key, Arc<Cut>>,
    weight: usize,
}

impl Cuts {
    /// Keeps up to so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::new(Kept { cuts: LruCache::unbounded(), weight: 0 }) }
    }

    /// Cuts the next payload of a channel.
    pub(super) fn cut(&self, partition: &Partition, hint: String, payload: &Bytes) -> Arc<Cut> {
        let key = (partition.as_str().to_owned(), hint);
        let earlier = self.lock().cuts.get(&key).cloned();
        let cut = Arc::new(Cut::of(payload, earlier.as_deref()));
        self.keep(key, &cut);
        cut
    }

    /// About how many bytes there are to cut and hash: what the payload has grown by, and as much anew as the last time.
    pub(super) fn work(&self, partition: &Partition, hint: String, payload: &Bytes) -> usize {
        let bytes = payload.len();
        let kept = self.lock();
        let earlier = kept.cuts.peek(&(partition.as_str().to_owned(), hint));
        let work = |earlier: &Arc<Cut>| earlier.fresh + bytes.abs_diff(earlier.bytes()) + bytes / COMPARED;
        earlier.map_or(bytes, work).min(bytes)
    }

    fn keep(&self, key: Key, cut: &Arc<Cut>) {
        let weight = |key: &Key, cut: &Cut| key.0.len() + key.1.len() + cut.weight();
        // Freed when nobody waits for it.
        let mut gone = Vec::new();
        let mut kept = self.lock();
        if let Some(earlier) = kept.cuts.pop(&key) {
            kept.weight -= weight(&key, &earlier);
            gone.push((key.clone(), earlier));
        }
        let added = weight(&key, cut);
        if added > self.most {
            return;
        }
        kept.weight += added;
        kept.cuts.push(key, Arc::clone(cut));
        while kept.weight > self.most
            && let Some((key, cut)) = kept.cuts.pop_lru()
        {
            kept.weight -= weight(&key, &cut);
            gone.push((key, cut));
        }
        drop(kept);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sizes alone: bytes never appear in logs.
impl fmt::Debug for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.lock();
        write!(f, "Cuts({} payloads, {} of {} bytes)", kept.cuts.len(), kept.weight, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(byte: u8) -> Bytes {
        vec![byte; 100_000].into()
    }

    #[test]
    fn what_was_used_least_recently_goes_first_and_the_bytes_are_bounded() {
        let partition = Partition::new("thread", &["t"]).unwrap();
        let cut =
            |cuts: &Cuts, channel: &str, byte| cuts.cut(&partition, channel.to_owned(), &payload(byte)).fresh;
        let cuts = Cuts::new(250_000);
        for (byte, channel) in [(1, "a"), (2, "b"), (1, "a"), (3, "c")] {
            cut(&cuts, channel, byte);
            assert!(cuts.lock().weight <= 250_000);
        }
        let known = |channel: &str, byte| cuts.work(&partition, channel.to_owned(), &payload(byte)) < 50_000;
        assert_eq!((known("a", 1), known("b", 2), cuts.lock().cuts.len()), (true, false, 2));
        cuts.cut(&partition, "a".to_owned(), &vec![1; 300_000].into());
        assert_eq!(cuts.lock().cuts.len(), 1, "too large, and what it follows is out of date");
        let weight: usize =
            cuts.lock().cuts.iter().map(|(key, cut)| key.0.len() + key.1.len() + cut.weight()).sum();
        assert_eq!(cuts.lock().weight, weight);
    }

    #[test]
    fn without_room_every_payload_is_cut_anew() {
        let partition = Partition::new("thread", &["t"]).unwrap();
        let cuts = Cuts::new(0);
        for _ in 0..2 {
            assert_eq!(cuts.cut(&partition, "a".to_owned(), &payload(1)).fresh, 100_000);
        }
    }
}
