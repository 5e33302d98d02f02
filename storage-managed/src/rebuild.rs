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

    /// What leads to an earlier generation, from the bases that are still in the home.
    pub(crate) async fn to(remote: &Remote, head: &Head, generation: u64) -> Result<Option<Self>> {
        let mut chain = Self::of(head);
        chain.segments.retain(|(at, _)| *at <= generation);
        if head.base.generation <= generation {
            return Ok((generation <= head.generation).then_some(chain));
        }
        let listed = remote.retry.run(|| remote.home.list("base/")).await?;
        let is_there = |at: u64, commit| listed.iter().any(|object| object.name == base_name(at, commit));
        let earliest = head.generation.saturating_sub(head.commits.len() as u64);
        for at in (earliest + 1..=generation).rev() {
            let Some((commit, _)) = head.commit_at(at) else { break };
            if is_there(at, commit) {
                let base = Base { generation: at, commit, page_count: 0, checksum: Hex(0) };
                let behind = at + 1..=generation;
                let segments = behind.filter_map(|at| head.commit_at(at).map(|(commit, _)| (at, commit)));
                return Ok(Some(Self { base, checked: false, segments: segments.collect(), ..chain }));
            }
        }
        Ok(None)
    }

    pub(crate) fn objects(&self) -> usize {
        1 + self.segments.len()
    }

    /// Builds the database in a file, and checks every step.
    pub(crate) async fn build(&self, remote: &Remote, path: &Path) -> Result<Fetched<(File, Sums)>> {
        let name = base_name(self.base.generation, self.base.commit);
        let Some(file) = remote.download(&name, path).await? else { return Ok(Err(name)) };
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
