//! The published generation that a cache holds, as far as its record proves it.

use std::{fs::File, io, path::Path};

use crate::{
    cache::{Paths, Published, State, create_private},
    error::{Error, Result},
    format::Sums,
    local::{page_offset, read_summed},
    recover::{self, Found, Opened},
    system::Positioned,
    wal::{self, Mark},
};

/// What is published of what is here, and the sums of that; `None` where the record does not prove any.
pub(super) fn find(paths: &Paths) -> Result<Option<(State, Sums)>> {
    Ok(match recover::examine(paths, &mut Opened::new())? {
        Found::Sound(state, sums) | Found::Committed(state, sums, ..) if state.published.commit.is_some() => {
            Some((state, sums))
        }
        _ => None,
    })
}

/// Copies it to a file, without what was committed on top, and checks each page.
pub(super) fn copy(paths: &Paths, published: &Published, sums: &Sums, to: &Path) -> Result<()> {
    let reading = |error| Error::io("read the files of", &paths.folder)(error);
    let database = File::open(paths.database()).map_err(reading)?;
    let log = match File::open(paths.log()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened.map_err(reading)?),
    };
    let mark = &published.mark;
    let committed = match &log {
        Some(log) if mark.frames > 0 => wal::committed(log, &Mark::default(), Some(mark.frames)),
        _ => Ok(None),
    };
    let committed = committed.map_err(reading)?.filter(|found| found.end == *mark).unwrap_or_default();
    let file = create_private(to)?;
    let mut page = vec![0; published.page_size as usize];
    for number in 1..=published.page_count {
        let files = (&database, log.as_ref().unwrap_or(&database));
        if !read_summed(files, &committed, sums, number, &mut page).map_err(reading)? {
            return Err(Error::corrupt("database.db", format!("page {number} is not what was published")));
        }
        file.write_all_at(&page, page_offset(number, published.page_size)).map_err(Error::io("write", to))?;
    }
    file.sync_all().map_err(Error::io("sync", to))
}
