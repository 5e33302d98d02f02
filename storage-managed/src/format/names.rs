//! What objects are called.

use super::{Hex, Id};

/// What an object is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Base {
        generation: u64,
        commit: Id,
    },
    /// The pages that generations changed: one, or several that were merged.
    Segment {
        first: u64,
        last: u64,
        commit: Id,
    },
    /// An index, or what it names.
    Index {
        generation: u64,
        id: Id,
    },
}

/// How the names of all merged segments begin.
pub(crate) const MERGED: &str = "merged/";

/// How the names of all holds begin.
pub(crate) const HOLD: &str = "hold/";

/// The name of the segment that leads to a generation.
pub(crate) fn segment_name(generation: u64, commit: Id) -> String {
    format!("{}{commit}", segment_prefix(generation))
}

/// How the names of all segments begin that lead to a generation.
pub(crate) fn segment_prefix(generation: u64) -> String {
    format!("seg/{generation:016x}-")
}

/// The name of what several segments were merged into, the last of which led to this commit.
pub(crate) fn merged_name(first: u64, last: u64, commit: Id) -> String {
    format!("{MERGED}{first:016x}-{last:016x}-{commit}")
}

/// The name of a base.
pub(crate) fn base_name(generation: u64, commit: Id) -> String {
    format!("{}{commit}", base_prefix(generation))
}

/// How the names of all bases of a generation begin.
pub(crate) fn base_prefix(generation: u64) -> String {
    format!("base/{generation:016x}-")
}

/// The name of an index.
pub(crate) fn index_name(generation: u64, id: Id) -> String {
    format!("index/{generation:016x}-{id}")
}

/// The name of what tells how large segments begin.
pub(crate) fn beginnings_name(generation: u64, id: Id) -> String {
    format!("begin/{generation:016x}-{id}")
}

/// What an object is, by its name; `None` for the head and for what is not of this format.
pub(crate) fn parse_name(name: &str) -> Option<Named> {
    let (kind, rest) = name.split_once('/')?;
    let (generations, id) = rest.rsplit_once('-')?;
    let id = Hex(u128::from_str_radix(id, 16).ok()?);
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(match kind {
        "base" => Named::Base { generation: number(generations)?, commit: id },
        "seg" => {
            let generation = number(generations)?;
            Named::Segment { first: generation, last: generation, commit: id }
        }
        "merged" => {
            let (first, last) = generations.split_once('-')?;
            Named::Segment { first: number(first)?, last: number(last)?, commit: id }
        }
        "index" | "begin" => Named::Index { generation: number(generations)?, id },
        _ => return None,
    })
}

/// A copy of a generation that is kept under a label. What it is stands in the object's name: it is whole or not there, and
/// a listing tells all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldCopy {
    pub(crate) generation: u64,
    pub(crate) commit: Id,
    /// Of the database that is kept.
    pub(crate) checksum: Hex,
    pub(crate) label: String,
}

impl HeldCopy {
    pub(crate) fn name(&self) -> String {
        format!("{HOLD}{:016x}-{}-{}-{}", self.generation, self.commit, self.checksum, self.label)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(HOLD)?.splitn(4, '-');
        let generation = u64::from_str_radix(parts.next()?, 16).ok()?;
        let commit = Hex(u128::from_str_radix(parts.next()?, 16).ok()?);
        let checksum = Hex(u128::from_str_radix(parts.next()?, 16).ok()?);
        Some(Self { generation, commit, checksum, label: parts.next()?.to_owned() })
    }
}

impl Named {
    /// The newest generation that it is of.
    pub(crate) fn last(&self) -> u64 {
        match self {
            Self::Base { generation, .. } | Self::Index { generation, .. } => *generation,
            Self::Segment { last, .. } => *last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_they_name() {
        let (first, last, commit) = (7, 0x1234, Hex(9));
        let table = [
            (segment_name(7, commit), Named::Segment { first, last: 7, commit }),
            (merged_name(7, last, commit), Named::Segment { first, last, commit }),
            (base_name(last, commit), Named::Base { generation: last, commit }),
            (index_name(last, commit), Named::Index { generation: last, id: commit }),
            (beginnings_name(last, commit), Named::Index { generation: last, id: commit }),
        ];
        for (name, named) in table {
            assert_eq!(parse_name(&name), Some(named), "{name}");
        }
        let (checksum, label) = (Hex(8), "before-v2.1".to_owned());
        let copy = HeldCopy { generation: 7, commit, checksum, label };
        assert_eq!(HeldCopy::parse(&copy.name()), Some(copy.clone()));
        for name in [copy.name().as_str(), "head", "lease", "seg/1", "seg/x-1", "merged/1-2", "other/1-2"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
