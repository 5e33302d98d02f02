//! The page cache on disk: a file of slots, each with a block of an object and a hash. What was not read for long gives way
//! (second chance), and what does not verify is fetched anew: a slot is worth only what its hash says, so nothing is synced.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::system::{Positioned, open_private};

/// As large as the largest page, a frame of sixteen usual ones, and a chunk of an encrypted home.
pub(super) const BLOCK: usize = 64 * 1024;
const MAGIC: &[u8; 16] = b"agentpagecache 1";
/// Magic and number of slots.
const PREFIX: u64 = 64;
/// Object, position, length, hash.
const ENTRY: usize = 64;

/// Which block of which object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The hash of its name.
    pub(super) object: u128,
    pub(super) position: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: Key,
    length: u32,
    hash: [u8; 32],
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Free,
    /// Somebody writes to it.
    Busy,
    Full {
        entry: Entry,
        was_read: bool,
    },
}

#[derive(Debug)]
pub(super) struct Blocks {
    file: File,
    slots: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    slots: Vec<Slot>,
    places: HashMap<Key, usize>,
    /// Where the next one to give way is looked for.
    hand: usize,
    bytes: u64,
}

impl Blocks {
    /// Opens the file for so many bytes of blocks. One of another size, or that is none, is made anew.
    pub(super) fn open(path: &Path, bytes: u64) -> io::Result<Self> {
        let slots = usize::try_from(bytes / BLOCK as u64).unwrap_or(usize::MAX).max(1);
        let file = open_private(path)?;
        let prefix = prefix(slots);
        let mut found = vec![0; prefix.len()];
        let is_known = file.read_exact_at(&mut found, 0).is_ok() && found == prefix;
        if !is_known {
            file.set_len(0)?;
            file.write_all_at(&prefix, 0)?;
        }
        let blocks = Self { file, slots, table: Mutex::new(Table::new(slots)) };
        // Sparse: what was never written takes no room.
        blocks.file.set_len(blocks.content_at(slots))?;
        if is_known {
            blocks.read_entries()?;
        }
        Ok(blocks)
    }

    fn read_entries(&self) -> io::Result<()> {
        let mut bytes = vec![0; self.slots * ENTRY];
        self.file.read_exact_at(&mut bytes, PREFIX)?;
        let mut table = self.lock();
        for (slot, bytes) in bytes.as_chunks::<ENTRY>().0.iter().enumerate() {
            if let Some(entry) = Entry::decode(bytes) {
                table.fill(slot, entry);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry_at(slot: usize) -> u64 {
        PREFIX + (slot * ENTRY) as u64
    }

    fn content_at(&self, slot: usize) -> u64 {
        Self::entry_at(self.slots) + slot as u64 * BLOCK as u64
    }

    /// How many bytes are cached.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.lock().places.contains_key(&key)
    }

    /// A block, if it is here and whole.
    pub(super) fn get(&self, key: Key) -> Option<Vec<u8>> {
        let (slot, entry) = self.lock().find(key)?;
        let mut bytes = vec![0; entry.length as usize];
        let read = self.file.read_exact_at(&mut bytes, self.content_at(slot));
        if read.is_ok() && hash(key, &bytes) == entry.hash {
            return Some(bytes);
        }
        // It is damaged, or has just given way to another one.
        self.lock().forget(slot, &entry);
        None
    }

    /// Keeps a block. Nothing depends on it: on a full disk it is fetched again.
    pub(super) fn put(&self, key: Key, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = Entry { key, length, hash: hash(key, bytes) };
        if bytes.len() > BLOCK {
            return;
        }
        let Some(slot) = self.lock().take(key) else { return };
        let write = || {
            self.file.write_all_at(bytes, self.content_at(slot))?;
            self.file.write_all_at(&entry.encode(), Self::entry_at(slot))
        };
        match write() {
            Ok(()) => self.lock().fill(slot, entry),
            Err(error) => {
                tracing::debug!(%error, "a block is not cached");
                self.lock().empty(slot);
            }
        }
    }
}

impl Table {
    fn new(slots: usize) -> Self {
        Self { slots: vec![Slot::Free; slots], places: HashMap::new(), hand: 0, bytes: 0 }
    }

    fn find(&mut self, key: Key) -> Option<(usize, Entry)> {
        let slot = *self.places.get(&key)?;
        match self.slots.get_mut(slot)? {
            Slot::Full { entry, was_read } => {
                *was_read = true;
                Some((slot, *entry))
            }
            _ => None,
        }
    }

    /// A slot to write this to, taken from whoever was not read for longest; `None` where it is here, or all are busy.
    fn take(&mut self, key: Key) -> Option<usize> {
        if self.places.contains_key(&key) {
            return None;
        }
        // The first round takes all second chances away.
        for _ in 0..2 * self.slots.len() {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            match self.slots.get_mut(slot) {
                Some(Slot::Full { was_read, .. }) if *was_read => *was_read = false,
                Some(Slot::Busy) | None => {}
                Some(_) => {
                    self.empty(slot);
                    if let Some(taken) = self.slots.get_mut(slot) {
                        *taken = Slot::Busy;
                    }
                    return Some(slot);
                }
            }
        }
        None
    }

    fn fill(&mut self, slot: usize, entry: Entry) {
        // Another caller may have fetched the same.
        if self.places.contains_key(&entry.key) {
            return self.empty(slot);
        }
        if let Some(filled) = self.slots.get_mut(slot) {
            *filled = Slot::Full { entry, was_read: false };
            self.places.insert(entry.key, slot);
            self.bytes += u64::from(entry.length);
        }
    }

    fn empty(&mut self, slot: usize) {
        let Some(emptied) = self.slots.get_mut(slot) else { return };
        if let Slot::Full { entry, .. } = std::mem::replace(emptied, Slot::Free) {
            self.places.remove(&entry.key);
            self.bytes -= u64::from(entry.length);
        }
    }

    fn forget(&mut self, slot: usize, known: &Entry) {
        if matches!(self.slots.get(slot), Some(Slot::Full { entry, .. }) if entry == known) {
            self.empty(slot);
        }
    }
}

impl Entry {
    fn encode(&self) -> Vec<u8> {
        let key = [&self.key.object.to_le_bytes()[..], &self.key.position.to_le_bytes()].concat();
        [&key[..], &self.length.to_le_bytes(), &[0; 4], &self.hash].concat()
    }

    /// `None` for a slot that was never written.
    fn decode(bytes: &[u8; ENTRY]) -> Option<Self> {
        let (object, rest) = bytes.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let key = Key { object: u128::from_le_bytes(*object), position: u64::from_le_bytes(*position) };
        let length = u32::from_le_bytes(*length);
        let is_written = length > 0 && length as usize <= BLOCK;
        Some(Self { key, length, hash: *rest.first_chunk()? }).filter(|_| is_written)
    }
}

fn prefix(slots: usize) -> Vec<u8> {
    let mut prefix = [&MAGIC[..], &(slots as u64).to_le_bytes()].concat();
    prefix.resize(usize::try_from(PREFIX).unwrap_or_default(), 0);
    prefix
}

/// Of the key, too: a block is not taken for another one.
fn hash(key: Key, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.object.to_le_bytes()).update(&key.position.to_le_bytes()).update(bytes);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(position: u64) -> Key {
        Key { object: 7, position }
    }

    #[test]
    fn blocks_outlive_the_process_and_damaged_ones_are_not_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pages");
        let blocks = Blocks::open(&path, 4 * BLOCK as u64).unwrap();
        for position in 0..3_u8 {
            blocks.put(key(position.into()), &vec![position; 1000 + usize::from(position)]);
        }
        drop(blocks);
        let blocks = Blocks::open(&path, 4 * BLOCK as u64).unwrap();
        assert_eq!((blocks.bytes(), blocks.get(key(2))), (3003, Some(vec![2; 1002])));
        let (slot, _) = blocks.lock().find(key(1)).unwrap();
        blocks.file.write_all_at(&[9], blocks.content_at(slot) + 500).unwrap();
        assert_eq!((blocks.get(key(1)), blocks.contains(key(1))), (None, false));
        blocks.put(key(1), &[1; 10]);
        assert_eq!(blocks.get(key(1)), Some(vec![1; 10]));
        let other = Blocks::open(&path, 5 * BLOCK as u64).unwrap();
        assert_eq!((other.bytes(), other.get(key(2))), (0, None), "of another size it begins anew");
    }

    #[test]
    fn what_was_not_read_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = Blocks::open(&folder.path().join("pages"), 4 * BLOCK as u64).unwrap();
        (0..4).for_each(|position| blocks.put(key(position), &[1; BLOCK]));
        for position in 4..20 {
            assert!(blocks.get(key(1)).is_some(), "{position}");
            blocks.put(key(position), &[1; BLOCK]);
            assert!(blocks.contains(key(position)) && blocks.bytes() == 4 * BLOCK as u64);
        }
    }
}
