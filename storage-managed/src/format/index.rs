//! `index/…`: the merged segments, in the order of their generations.

use serde::{Deserialize, Serialize};

use super::{
    Hex, Id, IndexRef,
    beginnings::{Beginning, LargeRef, pack, unpack},
    index_name, merged_name,
};
use crate::error::{Error, Result};

const FORMAT: u32 = 1;

/// Which merged segments there are. An object of its own, so that the head stays small: it is written once for many commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    format: u32,
    pub(crate) incarnation: Id,
    /// Each begins with the generation behind the one before it.
    pub(crate) merged: Vec<Merged>,
    /// How they begin, packed. Releases that do not know this leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begin: Option<String>,
    /// Where it is told how those begin of which that is too long for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) large: Option<LargeRef>,
}

/// A merged segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Entry", into = "Entry")]
pub(crate) struct Merged {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The commit of its last generation.
    pub(crate) commit: Id,
    /// How often its pages were merged.
    pub(crate) level: u8,
    pub(crate) bytes: u64,
}

/// As it is written.
type Entry = (u64, u64, Id, u8, u64);

impl From<Entry> for Merged {
    fn from((first, last, commit, level, bytes): Entry) -> Self {
        Self { first, last, commit, level, bytes }
    }
}

impl From<Merged> for Entry {
    fn from(merged: Merged) -> Self {
        (merged.first, merged.last, merged.commit, merged.level, merged.bytes)
    }
}

impl Merged {
    pub(crate) fn name(&self) -> String {
        merged_name(self.first, self.last, self.commit)
    }
}

impl Index {
    /// Of these segments, of which some are told how they begin.
    pub(crate) fn new(incarnation: Id, merged: Vec<(Merged, Option<Beginning>)>) -> Self {
        let (merged, beginnings): (Vec<_>, Vec<_>) = merged.into_iter().unzip();
        let begin = beginnings.iter().any(Option::is_some).then(|| pack(&beginnings));
        Self { format: FORMAT, incarnation, merged, begin, large: None }
    }

    /// Names what tells of those of which this one does not.
    pub(crate) fn with_large(self, large: Option<LargeRef>) -> Self {
        Self { large, ..self }
    }

    /// How each of its segments begins where that is told; `None` where it cannot be read.
    pub(crate) fn beginnings(&self) -> Option<Vec<Option<Beginning>>> {
        match &self.begin {
            Some(text) => unpack(text, self.merged.len()),
            None => Some(vec![None; self.merged.len()]),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Numbers and lists of them always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// How a head names it whose base is of this generation. Its id is the hash of its content.
    pub(crate) fn named_by(&self, encoded: &[u8], base: u64) -> IndexRef {
        let generation = self.merged.last().map_or(0, |merged| merged.last);
        IndexRef { generation, id: Hex::of(encoded), bytes: self.bytes_from(base) }
    }

    /// The bytes of those that lead on from a base of this generation.
    pub(crate) fn bytes_from(&self, base: u64) -> u64 {
        self.merged.iter().filter(|merged| merged.last > base).map(|merged| merged.bytes).sum()
    }

    /// Reads and checks the index that a head names.
    pub(crate) fn decode(bytes: &[u8], named: &IndexRef, incarnation: Id) -> Result<Self> {
        let name = index_name(named.generation, named.id);
        let corrupt = |problem: &str| Error::corrupt(&name, problem);
        if Hex::of(bytes) != named.id {
            return Err(corrupt("its hash is wrong"));
        }
        let index: Self = serde_json::from_slice(bytes).map_err(|_| corrupt("it cannot be read"))?;
        if index.format != FORMAT {
            return Err(Error::Unsupported(format!("`{name}` is of format {}", index.format)));
        }
        let whole = index.merged.iter().all(|merged| merged.first <= merged.last);
        let follows = |both: &[Merged]| matches!(both, [one, two] if one.last + 1 == two.first);
        let last = index.merged.last().map(|merged| merged.last);
        if index.incarnation != incarnation || last != Some(named.generation) {
            return Err(corrupt("it is not the one that the head names"));
        }
        if !whole || !index.merged.windows(2).all(follows) {
            return Err(corrupt("its segments do not follow on each other"));
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(first: u64, last: u64) -> Merged {
        Merged { first, last, commit: Hex(last.into()), level: 1, bytes: 10 }
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_named() {
        let index = Index::new(Hex(7), vec![(merged(2, 5), None), (merged(6, 9), None)]);
        let bytes = index.encode();
        let named = index.named_by(&bytes, 5);
        assert_eq!((named.generation, named.bytes), (9, 10));
        assert_eq!(Index::decode(&bytes, &named, Hex(7)).unwrap(), index);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            for bytes in [&damaged[..], &bytes[..at]] {
                let error = Index::decode(bytes, &named, Hex(7)).unwrap_err();
                assert!(matches!(error, Error::Corrupt { object, .. } if object.starts_with("index/")));
            }
        }
        assert!(Index::decode(&bytes, &named, Hex(8)).is_err(), "of another database");
    }

    #[test]
    fn how_segments_begin_is_told_where_it_is_short() {
        let beginning = |bytes: usize| Some(Beginning::of_bytes(vec![7; bytes]));
        let told = |beginnings: Vec<Option<Beginning>>| {
            let segments = beginnings.into_iter().zip(1..).map(|(begin, at)| (merged(at, at), begin));
            let index = Index::new(Hex(7), segments.collect());
            let bytes = index.encode();
            let read = Index::decode(&bytes, &index.named_by(&bytes, 0), Hex(7)).unwrap();
            read.beginnings().unwrap()
        };
        let beginnings = vec![beginning(10), None, beginning(30_000)];
        assert_eq!(told(beginnings.clone()), beginnings);
        assert_eq!(told(vec![None, None]), [None, None]);
        // The newest ones, where there is too much.
        let found = told(vec![beginning(30_000); 100]);
        assert_eq!(found.iter().position(Option::is_some), Some(100 - 1024 * 1024 / 30_000));
        let mut index = Index::new(Hex(7), vec![(merged(1, 1), beginning(10)), (merged(2, 2), None)]);
        index.merged.pop();
        assert!(index.beginnings().is_none(), "of another number of segments");
        index.begin = Some("nothing of the kind".to_owned());
        assert!(index.beginnings().is_none());
    }

    #[test]
    fn one_with_a_gap_is_refused() {
        let index = Index::new(Hex(7), vec![(merged(2, 5), None), (merged(7, 9), None)]);
        let bytes = index.encode();
        let error = Index::decode(&bytes, &index.named_by(&bytes, 0), Hex(7)).unwrap_err().to_string();
        assert!(error.contains("do not follow"), "{error}");
    }
}
