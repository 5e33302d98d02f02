//! The checksum of a database, kept page by page.

use std::sync::Arc;

/// The checksum of one page: the first 16 bytes of BLAKE3 over its number and its content.
pub(crate) fn page_sum(number: u32, page: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(page);
    hasher.finalize().as_bytes().first_chunk().map_or(0, |sum| u128::from_le_bytes(*sum))
}

/// Pages are kept in groups of so many, which a copy shares until one is changed: a commit costs what it changes, not what
/// the database is.
const GROUP: usize = 4096;

/// The checksums of all pages of a database, and their XOR: that of the database.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    page_size: usize,
    count: usize,
    groups: Vec<Arc<Vec<u128>>>,
    total: u128,
}

impl Sums {
    /// Of a database without pages.
    pub(crate) fn new(page_size: u32) -> Self {
        Self { page_size: page_size as usize, count: 0, groups: Vec::new(), total: 0 }
    }

    pub(crate) fn page_size(&self) -> u32 {
        u32::try_from(self.page_size).unwrap_or(u32::MAX)
    }

    pub(crate) fn total(&self) -> super::Hex {
        super::Hex(self.total)
    }

    pub(crate) fn page_count(&self) -> u32 {
        u32::try_from(self.count).unwrap_or(u32::MAX)
    }

    pub(crate) fn get(&self, number: u32) -> Option<u128> {
        let index = (number as usize).checked_sub(1)?;
        self.groups.get(index / GROUP)?.get(index % GROUP).copied()
    }

    /// Changes one page; one behind the end is ignored.
    pub(crate) fn set(&mut self, number: u32, sum: u128) {
        let Some(index) = (number as usize).checked_sub(1) else { return };
        let group = self.groups.get_mut(index / GROUP);
        if let Some(page) = group.and_then(|group| Arc::make_mut(group).get_mut(index % GROUP)) {
            self.total ^= *page ^ sum;
            *page = sum;
        }
    }

    /// Cuts the database, or lets it grow by pages of zeros: SQLite does not write the page that holds its locks.
    pub(crate) fn resize(&mut self, page_count: u32) {
        let page_count = page_count as usize;
        while self.count > page_count {
            let last = self.groups.last_mut().map(Arc::make_mut);
            self.total ^= last.and_then(Vec::pop).unwrap_or_default();
            self.count -= 1;
            if self.count.is_multiple_of(GROUP) {
                self.groups.pop();
            }
        }
        if self.count == page_count {
            return;
        }
        let zeros = vec![0; self.page_size];
        while self.count < page_count {
            let sum = page_sum(self.page_count() + 1, &zeros);
            self.total ^= sum;
            if self.count.is_multiple_of(GROUP) {
                self.groups.push(Arc::new(Vec::new()));
            }
            if let Some(group) = self.groups.last_mut() {
                Arc::make_mut(group).push(sum);
            }
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_one_page_gives_the_sum_of_the_whole() {
        let page = |fill: u8| vec![fill; 512];
        let whole = |fills: &[u8]| {
            let mut sums = Sums::new(512);
            sums.resize(u32::try_from(fills.len()).unwrap());
            for (number, fill) in (1..).zip(fills) {
                sums.set(number, page_sum(number, &page(*fill)));
            }
            sums
        };
        let mut sums = whole(&[1, 2, 3]);
        sums.set(2, page_sum(2, &page(9)));
        assert_eq!(sums.total(), whole(&[1, 9, 3]).total());
        sums.resize(2);
        assert_eq!(sums.total(), whole(&[1, 9]).total());
        sums.resize(4);
        assert_eq!(sums.total(), whole(&[1, 9, 0, 0]).total());
        assert_ne!(whole(&[1, 2]).total(), whole(&[2, 1]).total(), "the number of a page counts");
    }

    #[test]
    fn a_copy_stays_as_it_was_across_groups() {
        let mut sums = Sums::new(512);
        sums.resize(10_000);
        let (copy, before) = (sums.clone(), sums.total());
        sums.set(5_000, 1);
        sums.resize(8_192);
        sums.resize(4_096);
        assert_eq!((sums.page_count(), sums.get(4_097)), (4_096, None));
        sums.resize(10_000);
        assert_eq!(sums.total(), before, "pages of zeros again");
        sums.set(5_000, 1);
        assert_ne!(sums.total(), before);
        assert_eq!((copy.total(), copy.page_count(), copy.get(5_000)), (before, 10_000, copy.get(5_000)));
        assert_ne!(copy.get(5_000), Some(1));
    }
}
