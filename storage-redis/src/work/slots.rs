//! Redis Cluster's 16,384 slots.

use std::ops::BitOr;

use serde::{Deserialize, Serialize};

/// How many slots every cluster has.
pub(crate) const SLOTS: u16 = 16_384;
const WORDS: usize = SLOTS as usize / 64;

/// A set of slots; written as its ranges.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u16)>", into = "Vec<(u16, u16)>")]
pub(crate) struct Slots(Box<[u64; WORDS]>);

impl Slots {
    pub(crate) fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    pub(crate) fn all() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    /// Slots there are not are passed over.
    pub(crate) fn insert(&mut self, first: u16, last: u16) {
        for slot in first..=last.min(SLOTS - 1) {
            if let Some(word) = self.0.get_mut(usize::from(slot) / 64) {
                *word |= 1 << (slot % 64);
            }
        }
    }

    pub(crate) fn contains(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot) / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).any(|(own, other)| own & other != 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        (0..SLOTS).filter(|slot| self.contains(*slot))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u16) -> bool) {
        *self = self.iter().filter(|slot| keep(*slot)).collect();
    }
}

impl BitOr for &Slots {
    type Output = Slots;

    fn bitor(self, other: Self) -> Slots {
        let mut both = self.clone();
        both.0.iter_mut().zip(other.0.iter()).for_each(|(own, other)| *own |= other);
        both
    }
}

impl FromIterator<u16> for Slots {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::none();
        slots.into_iter().for_each(|slot| set.insert(slot, slot));
        set
    }
}

impl From<Vec<(u16, u16)>> for Slots {
    fn from(ranges: Vec<(u16, u16)>) -> Self {
        let mut set = Self::none();
        ranges.into_iter().for_each(|(first, last)| set.insert(first, last));
        set
    }
}

impl From<Slots> for Vec<(u16, u16)> {
    fn from(slots: Slots) -> Self {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for slot in slots.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }
}

/// The slot of a key: of the text between its first `{` and the next `}`, where there is any, else of all of it.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, which Redis Cluster prescribes.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_by_table() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{foo}:a"), slot_of(b"foo"));
        assert_eq!(slot_of(b"a{foo}{bar}"), slot_of(b"foo"));
        assert_eq!(slot_of(b"a{}{foo}"), crc16(b"a{}{foo}") % SLOTS);
        assert_eq!(slot_of(b"a{foo"), crc16(b"a{foo") % SLOTS);
    }

    #[test]
    fn a_set_is_written_as_its_ranges_and_reads_what_cannot_be_as_nothing() {
        let set: Slots = [7, 1, 2, 3, SLOTS - 1].into_iter().collect();
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, "[[1,3],[7,7],[16383,16383]]");
        assert!(serde_json::from_str::<Slots>(&text).unwrap() == set);
        let odd: Slots = serde_json::from_str("[[9,2],[16000,65535]]").unwrap();
        assert_eq!(Vec::from(odd), [(16_000, 16_383)]);
        assert!(set.meets(&[3].into_iter().collect()) && !set.meets(&[4].into_iter().collect()));
    }
}
