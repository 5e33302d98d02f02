//! `head`: the one object that is replaced. What it names is the database.

use serde::{Deserialize, Serialize};

use super::{Hex, Id, Sums};
use crate::error::{Error, Result};

/// The format that this release writes. It reads the first, too, which had no checksum of the text, and the second, which
/// named no index.
pub(crate) const FORMAT: u32 = 3;
/// What stands before the checksum, which ends the text and is over all that stands before this.
const SUM: &[u8] = b",\"sum\":\"";
const SUM_DIGITS: usize = 32;
/// The name of the head.
pub(crate) const NAME: &str = "head";
/// So many of the newest commits are named, so that a writer whose answer was lost finds its own.
const MAX_COMMITS: usize = 64;
/// Pages of a commit that has more are not named: its segment tells them.
const MAX_NAMED: usize = 32;
/// So many pages are named in all, so that the head stays small: those of the newest commits.
const MAX_NAMED_IN_ALL: usize = 1024;

/// The state of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// That of this release, whatever was read.
    pub(crate) format: u32,
    pub(crate) incarnation: Id,
    pub(crate) generation: u64,
    pub(crate) commit: Id,
    pub(crate) parent: Option<Id>,
    pub(crate) page_size: u32,
    pub(crate) page_count: u32,
    pub(crate) checksum: Hex,
    pub(crate) base: Base,
    /// Where the merged segments are named, once there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<IndexRef>,
    /// After a repair: the newest generation that it went on from, and the first one since. What was between is lost, and no
    /// generation of this database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repaired: Option<(u64, u64)>,
    /// The newest commits and the lengths of their segments, the newest last. Those that are not merged are needed.
    pub(crate) commits: Vec<(Id, u64)>,
    /// The pages that the newest single segments change, the newest last, so that who reads single pages does not ask each one:
    /// of so many as are told. `None` where there are too many, where the database was cut, or where the pages cannot be read
    /// without what stands before them. Releases that do not know this leave it out.
    #[serde(default, skip_serializing_if = "Pages::is_empty")]
    pub(crate) pages: Pages,
}

/// The pages of single segments up to this generation: of another one they are nothing to a head, as where somebody has copied
/// what it did not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pages(u64, Vec<Option<Vec<u32>>>);

impl Pages {
    fn is_empty(&self) -> bool {
        self.1.is_empty()
    }
}

/// The index that a head names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexRef {
    /// The last generation that its merged segments lead to.
    pub(crate) generation: u64,
    pub(crate) id: Id,
    /// The bytes of those merged segments that lead on from the base.
    pub(crate) bytes: u64,
}

/// The whole database at one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) generation: u64,
    pub(crate) commit: Id,
    pub(crate) page_count: u32,
    pub(crate) checksum: Hex,
}

/// Splits a text that ends in a checksum from it, whether or not it is right.
fn split_sum(text: &[u8]) -> Option<(&[u8], Hex)> {
    let rest = text.strip_suffix(b"\"}")?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(SUM_DIGITS)?)?;
    let sum = u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((rest.strip_suffix(SUM)?, Hex(sum)))
}

impl Head {
    /// That of a generation which is its own base, and has nothing else.
    pub(crate) fn of_base(incarnation: Id, page_size: u32, base: Base, parent: Option<Id>) -> Self {
        Self {
            format: FORMAT,
            incarnation,
            generation: base.generation,
            commit: base.commit,
            parent,
            page_size,
            page_count: base.page_count,
            checksum: base.checksum,
            commits: vec![(base.commit, 0)],
            pages: Pages::default(),
            base,
            index: None,
            repaired: None,
        }
    }

    /// Checks that what was built of what it names is what it says.
    pub(crate) fn is_given_by(&self, sums: &Sums) -> Result<()> {
        if (sums.total(), sums.page_count()) == (self.checksum, self.page_count) {
            return Ok(());
        }
        Err(Error::corrupt(NAME, "its base and segments do not give what it says"))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |problem: &str| Error::Corrupt { object: NAME.to_owned(), problem: problem.to_owned() };
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
            sum: Option<String>,
        }
        let versioned: Versioned =
            serde_json::from_slice(bytes).map_err(|_| corrupt("it is not a head that can be read"))?;
        let summed = match split_sum(bytes) {
            Some((text, sum)) if Hex::of(text) == sum => true,
            Some(_) => return Err(corrupt("its checksum is wrong")),
            None => false,
        };
        match (versioned.format, summed) {
            (2 | FORMAT, true) => {}
            (1, false) if versioned.sum.is_none() => {}
            (1 | 2 | FORMAT, _) => return Err(corrupt("its checksum is not where it has to be")),
            (format, _) => {
                return Err(Error::Unsupported(format!(
                    "the home is of format {format}, this release reads formats 1 to {FORMAT}"
                )));
            }
        }
        let mut head: Self =
            serde_json::from_slice(bytes).map_err(|_| corrupt("it is not a head that can be read"))?;
        head.format = FORMAT;
        if !head.is_consistent() {
            return Err(corrupt("it contradicts itself"));
        }
        if head.pages.0 != head.generation {
            head.pages = Pages::default();
        }
        head.forget_pages();
        Ok(head)
    }

    fn is_consistent(&self) -> bool {
        let merged = self.index.map_or(0, |index| index.generation);
        let named = self.commits.len() as u64;
        self.commits.last().is_some_and(|(commit, _)| *commit == self.commit)
            && self.base.generation <= self.generation
            && merged <= self.generation
            && self.generation - self.singles_from() <= named
            && named <= self.generation
            && self.pages.1.iter().flatten().all(|pages| is_ascending(pages))
            && self.page_size.is_power_of_two()
            && (512..=65_536).contains(&self.page_size)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Numbers, texts and lists of them always serialize.
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.pop();
        let sum = Hex::of(&text).to_string();
        text.extend([SUM, sum.as_bytes(), b"\"}"].concat());
        text
    }

    /// Whether a generation was lost before a repair.
    pub(crate) fn has_lost(&self, generation: u64) -> bool {
        self.repaired.is_some_and(|(sound, next)| sound < generation && generation < next)
    }

    /// The commit that led to a generation, and the length of its segment, as far back as the head tells.
    pub(crate) fn commit_at(&self, generation: u64) -> Option<(Id, u64)> {
        let back = usize::try_from(self.generation.checked_sub(generation)?).ok()?;
        self.commits.iter().rev().nth(back).copied()
    }

    /// The pages that a single segment changes, where the head tells.
    #[cfg(any(feature = "lazy", test))]
    pub(crate) fn pages_at(&self, generation: u64) -> Option<&[u32]> {
        let back = usize::try_from(self.generation.checked_sub(generation)?).ok()?;
        self.pages.1.iter().rev().nth(back)?.as_deref()
    }

    /// How many pages the head names; a segment that has to be asked instead counts as many.
    pub(crate) fn named_pages(&self) -> u64 {
        let named = |pages: &Option<Vec<u32>>| pages.as_ref().map_or(2 * MAX_NAMED, Vec::len);
        self.pages.1.iter().map(named).sum::<usize>() as u64
    }

    /// The last generation that a merged segment, or without any the base, leads to: the segments behind it are single ones.
    pub(crate) fn singles_from(&self) -> u64 {
        self.index.map_or(self.base.generation, |index| index.generation)
    }

    /// How many single segments there are.
    pub(crate) fn singles(&self) -> u64 {
        self.generation - self.singles_from()
    }

    /// The bytes of all that leads from the base to the newest generation.
    pub(crate) fn chain_bytes(&self) -> u64 {
        let from = self.singles_from().max(self.base.generation);
        let singles = usize::try_from(self.generation - from).unwrap_or(usize::MAX);
        let bytes: u64 = self.commits.iter().rev().take(singles).map(|(_, bytes)| bytes).sum();
        bytes + self.index.map_or(0, |index| index.bytes)
    }

    pub(crate) fn base_bytes(&self) -> u64 {
        u64::from(self.base.page_count) * u64::from(self.page_size)
    }

    /// Names a commit on top, with the pages that it changes if they can be told, and forgets the oldest that nobody needs.
    pub(crate) fn push(&mut self, commit: Id, bytes: u64, pages: Option<Vec<u32>>) {
        self.commits.push((commit, bytes));
        self.pages.0 = self.generation;
        self.pages.1.push(pages.filter(|pages| pages.len() <= MAX_NAMED));
        self.forget();
    }

    /// Forgets the oldest commits that nobody needs any more.
    pub(crate) fn forget(&mut self) {
        let singles = usize::try_from(self.singles()).unwrap_or(usize::MAX);
        let keep = singles.max(MAX_COMMITS);
        self.commits.drain(..self.commits.len().saturating_sub(keep));
        self.forget_pages();
    }

    /// Forgets the pages of segments that are merged, and of the oldest where there are too many.
    fn forget_pages(&mut self) {
        let mut room = MAX_NAMED_IN_ALL;
        let fits = |pages: &&Option<Vec<u32>>| {
            let count = pages.as_ref().map_or(1, Vec::len).max(1);
            room.checked_sub(count).inspect(|left| room = *left).is_some()
        };
        let singles = usize::try_from(self.singles()).unwrap_or(usize::MAX);
        let pages = &mut self.pages.1;
        let named = pages.iter().rev().take(singles).take_while(fits).count();
        pages.drain(..pages.len() - named);
    }
}

fn is_ascending(pages: &[u32]) -> bool {
    pages.first() != Some(&0) && pages.is_sorted_by(|one, two| one < two)
}

#[cfg(test)]
mod tests;
