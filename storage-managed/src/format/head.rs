//! `head`: the one object that is replaced. What it names is the database.

use serde::{Deserialize, Serialize};

use super::{Hex, Id};
use crate::error::{Error, Result};

/// The format that this release writes and reads.
pub(crate) const FORMAT: u32 = 1;
/// The name of the head.
pub(crate) const NAME: &str = "head";
/// So many of the newest commits are named, so that a writer whose answer was lost finds its own.
const MAX_COMMITS: usize = 64;
pub(crate) const MAX_FOLDS: usize = 16;

/// The state of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) format: u32,
    pub(crate) incarnation: Id,
    pub(crate) generation: u64,
    pub(crate) commit: Id,
    pub(crate) parent: Option<Id>,
    pub(crate) page_size: u32,
    pub(crate) page_count: u32,
    pub(crate) checksum: Hex,
    pub(crate) base: Base,
    /// The newest commits and the lengths of their segments, the newest last. Those behind the base's are needed.
    pub(crate) commits: Vec<(Id, u64)>,
    /// The generations that became bases, and when (milliseconds since the epoch): what they superseded goes a while later.
    pub(crate) folds: Vec<(u64, u64)>,
}

/// The whole database at one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) generation: u64,
    pub(crate) commit: Id,
    pub(crate) page_count: u32,
    pub(crate) checksum: Hex,
}

/// The name of the segment that leads to a generation.
pub(crate) fn segment_name(generation: u64, commit: Id) -> String {
    format!("seg/{generation:016x}-{commit}")
}

/// The name of a base.
pub(crate) fn base_name(generation: u64, commit: Id) -> String {
    format!("base/{generation:016x}-{commit}")
}

impl Head {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |problem: &str| Error::Corrupt { object: NAME.to_owned(), problem: problem.to_owned() };
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let versioned: Versioned =
            serde_json::from_slice(bytes).map_err(|_| corrupt("it is not a head that can be read"))?;
        if versioned.format != FORMAT {
            return Err(Error::Unsupported(format!(
                "the home is of format {}, this release reads format {FORMAT}",
                versioned.format
            )));
        }
        let head: Self =
            serde_json::from_slice(bytes).map_err(|_| corrupt("it is not a head that can be read"))?;
        let live = head.generation.checked_sub(head.base.generation);
        let named = head.commits.len() as u64;
        let consistent = head.commits.last().is_some_and(|(commit, _)| *commit == head.commit)
            && live.is_some_and(|live| live <= named)
            && named <= head.generation
            && head.page_size.is_power_of_two()
            && (512..=65_536).contains(&head.page_size);
        if consistent { Ok(head) } else { Err(corrupt("it contradicts itself")) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Numbers, texts and lists of them always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The generation that a commit led to, as far back as the head tells.
    pub(crate) fn generation_of(&self, commit: Id) -> Option<u64> {
        let back = self.commits.iter().rev().position(|(found, _)| *found == commit)?;
        self.generation.checked_sub(back as u64)
    }

    /// The commit that led to a generation, and the length of its segment, as far back as the head tells.
    pub(crate) fn commit_at(&self, generation: u64) -> Option<(Id, u64)> {
        let back = usize::try_from(self.generation.checked_sub(generation)?).ok()?;
        self.commits.iter().rev().nth(back).copied()
    }

    /// How many segments there are on top of the base, and their bytes.
    pub(crate) fn on_top(&self) -> (usize, u64) {
        let live = usize::try_from(self.generation - self.base.generation).unwrap_or(usize::MAX);
        let bytes = self.commits.iter().rev().take(live).map(|(_, bytes)| bytes).sum();
        (live, bytes)
    }

    pub(crate) fn base_bytes(&self) -> u64 {
        u64::from(self.base.page_count) * u64::from(self.page_size)
    }

    /// Names a commit on top, and forgets the oldest that nobody needs.
    pub(crate) fn push(&mut self, commit: Id, bytes: u64) {
        self.commits.push((commit, bytes));
        let (live, _) = self.on_top();
        let keep = live.max(MAX_COMMITS);
        self.commits.drain(..self.commits.len().saturating_sub(keep));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(generations: u64) -> Head {
        let mut head = Head {
            format: FORMAT,
            incarnation: Hex(7),
            generation: 1,
            commit: Hex(1),
            parent: None,
            page_size: 4096,
            page_count: 2,
            checksum: Hex(9),
            base: Base { generation: 1, commit: Hex(1), page_count: 2, checksum: Hex(9) },
            commits: vec![(Hex(1), 0)],
            folds: vec![(1, 0)],
        };
        for generation in 2..=generations {
            (head.generation, head.parent, head.commit) =
                (generation, Some(head.commit), Hex(generation.into()));
            head.push(Hex(generation.into()), 10);
        }
        head
    }

    #[test]
    fn commits_are_found_by_generation_and_back() {
        let head = head(100);
        assert_eq!(Head::decode(&head.encode()).unwrap(), head);
        assert_eq!(head.on_top(), (99, 990));
        assert_eq!(head.generation_of(Hex(2)), Some(2));
        assert_eq!(head.commit_at(100), Some((Hex(100), 10)));
    }

    #[test]
    fn a_head_that_is_none_is_refused_by_name() {
        let mut later = head(2);
        later.format = 2;
        assert!(matches!(Head::decode(&later.encode()), Err(Error::Unsupported(_))));
        let mut wrong = head(2);
        wrong.base.generation = 3;
        for bytes in [b"{}".to_vec(), b"\xff".to_vec(), wrong.encode()] {
            assert!(matches!(Head::decode(&bytes), Err(Error::Corrupt { object, .. }) if object == "head"));
        }
    }
}
