//! A database from the home alone.

use std::{fs::File, path::Path};

use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    error::{Error, Result},
    format::{Base, Head, Hex, Id, Segment, Sums, base_name, page_sum, segment_name},
    local::{page_offset, sums_of},
    remote::Remote,
    system::Positioned,
};

/// How many segments are fetched at once.
const FETCHED_AT_ONCE: usize = 4;

/// What leads to a generation.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) incarnation: Id,
    pub(crate) page_size: u32,
    base: Base,
    /// Whether the base's checksum is known.
    checked: bool,
    segments: Vec<(u64, Id)>,
}

/// What was fetched, or the object that is not there.
pub(crate) type Fetched<T> = std::result::Result<T, String>;

impl Chain {
    /// What leads to the head's generation.
    pub(crate) fn of(head: &Head) -> Self {
        let behind = head.base.generation + 1..=head.generation;
        Self {
            incarnation: head.incarnation,
            page_size: head.page_size,
            base: head.base.clone(),
            checked: true,
            segments: behind.filter_map(|at| head.commit_at(at).map(|(commit, _)| (at, commit))).collect(),
        }
    }

    /// A base and segments that a listing has shown; only the head's own base is known by its checksum.
    pub(crate) fn on(head: &Head, (generation, commit): (u64, Id), segments: Vec<(u64, Id)>) -> Self {
        let checked = (generation, commit) == (head.base.generation, head.base.commit);
        let base = match checked {
            true => head.base.clone(),
            false => Base { generation, commit, page_count: 0, checksum: Hex(0) },
        };
        Self { incarnation: head.incarnation, page_size: head.page_size, base, checked, segments }
    }

    /// The same without what comes after a generation.
    pub(crate) fn up_to(mut self, generation: u64) -> Self {
        self.segments.retain(|(at, _)| *at <= generation);
        self
    }

    pub(crate) fn objects(&self) -> usize {
        1 + self.segments.len()
    }

    /// Builds the database in a file, and checks every step.
    pub(crate) async fn build(&self, remote: &Remote, path: &Path) -> Result<Fetched<(File, Sums)>> {
        let name = base_name(self.base.generation, self.base.commit);
        let Some(file) = remote.downloads.download(&name, path).await? else { return Ok(Err(name)) };
        let page_size = self.page_size;
        let summed = tokio::task::spawn_blocking(move || sums_of(&file, page_size).map(|sums| (file, sums)));
        let summed = summed.await.map_err(|_| Error::Panicked)?;
        let (file, mut sums) = summed.map_err(Error::io("read", path))?;
        if self.checked && (sums.total(), sums.page_count()) != (self.base.checksum, self.base.page_count) {
            return Err(Error::corrupt(&name, "its pages are not what the head says"));
        }
        let (mut checksum, mut parent) = (sums.total(), self.base.commit);
        let mut segments = Box::pin(fetch(remote, self.segments.clone()));
        while let Some(fetched) = segments.try_next().await? {
            let segment = match fetched {
                Ok(segment) => segment,
                Err(missing) => return Ok(Err(missing)),
            };
            segment.follows(self.incarnation, parent, checksum)?;
            write(&segment, &file, path, &mut sums)?;
            (checksum, parent) = (sums.total(), segment.header.commit);
        }
        file.sync_all().map_err(Error::io("sync", path))?;
        Ok(Ok((file, sums)))
    }
}

/// Fetches segments, in their order.
pub(crate) fn fetch(
    remote: &Remote,
    segments: Vec<(u64, Id)>,
) -> impl futures::Stream<Item = Result<Fetched<Segment>>> {
    let fetched = stream::iter(segments).map(move |(generation, commit)| async move {
        let name = segment_name(generation, commit);
        let Some(segment) = remote.segment(&name).await? else { return Ok(Err(name)) };
        if (segment.header.generation, segment.header.commit) != (generation, commit) {
            return Err(Error::corrupt(&name, "it is of another commit"));
        }
        Ok(Ok(segment))
    });
    fetched.buffered(FETCHED_AT_ONCE)
}

fn write(segment: &Segment, file: &File, path: &Path, sums: &mut Sums) -> Result<()> {
    let page_size = segment.header.page_size;
    sums.resize(segment.header.page_count);
    let length = u64::from(segment.header.page_count) * u64::from(page_size);
    file.set_len(length).map_err(Error::io("write", path))?;
    segment.each(|number, page| {
        sums.set(number, page_sum(number, page));
        file.write_all_at(page, page_offset(number, page_size)).map_err(Error::io("write", path))
    })?;
    segment.gives(sums)
}
