//! Later generations from the home, appended to SQLite's log.

use std::{collections::BTreeMap, io, path::PathBuf};

use super::{IN_MEMORY, Local, Pages, page_offset, read_page};
use crate::{
    cache::{Intent, Published, State},
    error::{Error, Result},
    format::{Id, Segment, Sums, page_sum},
    system::Positioned,
    wal::{self, Index, Mark},
};

impl Local {
    /// The pages of a chain of segments that leads from here to `to`, checked. Many are put into a file without a name.
    pub(crate) fn merge(&self, segments: &[Segment]) -> Result<(Pages, Sums)> {
        let mut sums = self.sums.clone();
        let bytes: u64 = segments.iter().map(Segment::bytes).sum();
        let mut pages = match bytes <= IN_MEMORY {
            true => Pages::Memory(BTreeMap::new()),
            false => {
                let file = tempfile::tempfile_in(&self.paths.folder);
                Pages::Scattered(
                    file.map_err(Error::io("create a file in", &self.paths.folder))?,
                    BTreeMap::new(),
                )
            }
        };
        let mut end = 0;
        for segment in segments {
            sums.resize(segment.header.page_count);
            segment.each(|number, page| {
                sums.set(number, page_sum(number, page));
                match &mut pages {
                    Pages::Memory(pages) => {
                        pages.insert(number, page.to_vec());
                    }
                    Pages::Scattered(file, places) => {
                        let written = file.write_all_at(page, end);
                        written.map_err(Error::io("write to", &self.paths.folder))?;
                        places.insert(number, end);
                        end += page.len() as u64;
                    }
                    Pages::File(_) => {}
                }
                Ok(())
            })?;
            segment.gives(&sums)?;
        }
        let behind = sums.page_count().saturating_add(1);
        match &mut pages {
            Pages::Memory(pages) => drop(pages.split_off(&behind)),
            Pages::Scattered(_, places) => drop(places.split_off(&behind)),
            Pages::File(_) => {}
        }
        Ok((pages, sums))
    }

    /// Changes the database to a later generation in one transaction that open connections see, and open transactions
    /// do not. `sums` are those of all its pages. False where somebody else has written to it.
    pub(crate) fn apply(
        &mut self,
        pages: &Pages,
        sums: Sums,
        incarnation: Id,
        to: Published,
    ) -> Result<bool> {
        let page_size = self.published().page_size;
        if to.page_size != page_size {
            return Err(Error::Unsupported(format!(
                "the home has pages of {} bytes and the cache of {page_size}: open it anew with an empty cache folder",
                to.page_size
            )));
        }
        let mut numbers = Vec::new();
        for number in 1..=sums.page_count() {
            if self.sums.get(number) != sums.get(number) {
                numbers.push(number);
            }
        }
        // A transaction has one page at least.
        if numbers.is_empty() {
            numbers.push(1);
        }
        // SQLite reads the log again after it, for which it would wait on a checkpoint.
        self.wait_for_checkpoint();
        let ours = self.block_checkpoints();
        if !matches!(ours, Ok(true)) {
            return ours;
        }
        let applied = self.intend(Intent::Apply { incarnation, to }).and_then(|()| {
            let mark = self.append(pages, &numbers, sums.page_count())?;
            self.sums = sums;
            let published = Published { mark, ..to };
            self.state = State::new(Some(incarnation), published).having_written(self.state.wrote);
            self.note();
            self.count()
        });
        self.allow_checkpoints();
        applied.map(|()| true)
    }

    /// As [`apply`](Self::apply), where what is here is not in the home: a copy of it is kept under `rescue/`, where it was
    /// put. `None` where somebody else has written meanwhile.
    pub(crate) fn replace(
        &mut self,
        pages: &Pages,
        sums: Sums,
        incarnation: Id,
        to: Published,
    ) -> Result<Option<PathBuf>> {
        let path = self.keep()?;
        tracing::warn!(path = %path.display(), "what is here is not in the home; it is kept and replaced");
        let before = (self.sums.clone(), self.published().mark);
        self.accept()?;
        // Whoever opens the cache after a crash within it finds nothing that is not kept.
        self.state.wrote = false;
        let accepted = self.published().mark;
        let applied = self.apply(pages, sums, incarnation, to);
        if !matches!(applied, Ok(true)) && self.published().mark == accepted {
            // What was written is still there, and still not what is published.
            (self.sums, self.state.published.mark) = before;
            self.changes = None;
        }
        Ok(applied?.then_some(path))
    }

    /// As [`replace`](Self::replace); false where somebody else has written meanwhile.
    pub(crate) fn replace_kept(
        &mut self,
        pages: &Pages,
        sums: Sums,
        incarnation: Id,
        to: Published,
    ) -> Result<bool> {
        self.replace(pages, sums, incarnation, to).map(|kept| kept.is_some())
    }

    fn append(&self, pages: &Pages, numbers: &[u32], page_count: u32) -> Result<Mark> {
        let page_size = self.published().page_size;
        let mut frames = numbers.iter().map(|number| {
            let page = match pages {
                Pages::Memory(pages) => match pages.get(number) {
                    Some(page) => page.clone(),
                    None if *number == 1 => self.page(1)?,
                    // The page that holds SQLite's locks travels in no segment.
                    None => vec![0; page_size as usize],
                },
                Pages::Scattered(file, places) => match places.get(number) {
                    Some(place) => {
                        let mut page = vec![0; page_size as usize];
                        file.read_exact_at(&mut page, *place)?;
                        page
                    }
                    None if *number == 1 => self.page(1)?,
                    None => vec![0; page_size as usize],
                },
                Pages::File(file) => {
                    let mut page = vec![0; page_size as usize];
                    file.read_exact_at(&mut page, page_offset(*number, page_size))?;
                    page
                }
            };
            Ok((*number, page))
        });
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(Error::sqlite("lock the cache"))?;
        let appended = (|| {
            let found = wal::committed(&self.files.log, &self.published().mark, None)?;
            let found = found.filter(|found| found.page_count.is_none());
            let end = found.ok_or_else(|| io::Error::other("the log holds what is not published"))?.end;
            let mark = wal::append(&self.files.log, &end, &mut frames, page_size, page_count)?;
            Index::forget(&self.files.index)?;
            Ok(mark)
        })();
        // Not a rollback, which would ask the index for what to undo.
        let ended = self.db.execute_batch("COMMIT").map_err(Error::sqlite("unlock the cache"));
        let mark = appended.map_err(Error::io("append to", self.paths.log()))?;
        ended.map(|()| mark)
    }

    /// One page as it is now.
    fn page(&self, number: u32) -> io::Result<Vec<u8>> {
        let mut page = vec![0; self.published().page_size as usize];
        let found = wal::committed(&self.files.log, &Mark::default(), None)?.unwrap_or_default();
        read_page(&self.files.database, &self.files.log, &found, number, &mut page)?;
        Ok(page)
    }
}
