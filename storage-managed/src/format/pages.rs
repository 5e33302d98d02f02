//! The checksum of a database, kept page by page.

/// The checksum of one page: the first 16 bytes of BLAKE3 over its number and its content.
pub(crate) fn page_sum(number: u32, page: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(page);
    hasher.finalize().as_bytes().first_chunk().map_or(0, |sum| u128::from_le_bytes(*sum))
}

/// The checksums of all pages of a database, and their XOR: that of the database. A change costs what it changes.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    page_size: usize,
    pages: Vec<u128>,
    total: u128,
}

impl Sums {
    /// Of a database without pages.
    pub(crate) fn new(page_size: u32) -> Self {
        Self { page_size: page_size as usize, pages: Vec::new(), total: 0 }
    }

    pub(crate) fn page_size(&self) -> u32 {
        u32::try_from(self.page_size).unwrap_or(u32::MAX)
    }

    pub(crate) fn total(&self) -> super::Hex {
        super::Hex(self.total)
    }

    pub(crate) fn page_count(&self) -> u32 {
        u32::try_from(self.pages.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn get(&self, number: u32) -> Option<u128> {
        self.pages.get((number as usize).checked_sub(1)?).copied()
    }

    /// Changes one page; one behind the end is ignored.
    pub(crate) fn set(&mut self, number: u32, sum: u128) {
        let index = (number as usize).checked_sub(1);
        if let Some(page) = index.and_then(|index| self.pages.get_mut(index)) {
            self.total ^= *page ^ sum;
            *page = sum;
        }
    }

    /// Cuts the database, or lets it grow by pages of zeros: SQLite does not write the page that holds its locks.
    pub(crate) fn resize(&mut self, page_count: u32) {
        let zeros = vec![0; self.page_size];
        while self.pages.len() > page_count as usize {
            self.total ^= self.pages.pop().unwrap_or_default();
        }
        while self.pages.len() < page_count as usize {
            let sum = page_sum(self.page_count() + 1, &zeros);
            self.total ^= sum;
            self.pages.push(sum);
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
}
