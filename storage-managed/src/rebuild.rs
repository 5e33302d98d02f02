//! A database from the home alone.

use std::{fs::File, path::Path};

use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    content::Fetched,
    error::{Error, Result},
    format::{
        Base, Head, Hex, Id, Index, Merged, Segment, Sums, base_name, merged_name, page_sum, segment_name,
    },
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
    segments: Vec<Link>,
}

/// A segment on the way to a generation: of one, or of several that were merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) commit: Id,
}

impl Link {
    pub(crate) fn single(generation: u64, commit: Id) -> Self {
        Self { first: generation, last: generation, commit }
    }

    pub(crate) fn name(&self) -> String {
        match self.first == self.last {
            true => segment_name(self.last, self.commit),
            false => merged_name(self.first, self.last, self.commit),
        }
    }
}

impl From<&Merged> for Link {
    fn from(merged: &Merged) -> Self {
        Self { first: merged.first, last: merged.last, commit: merged.commit }
    }
}

/// The segments that lead on from a generation, as a head and its index name them.
pub(crate) fn links(head: &Head, index: Option<&Index>, from: u64) -> Vec<Link> {
    let merged = index.into_iter().flat_map(|index| &index.merged).filter(|merged| merged.last > from);
    let behind = from.max(head.singles_from()) + 1..=head.generation;
    let singles = behind.filter_map(|at| head.commit_at(at).map(|(commit, _)| Link::single(at, commit)));
    merged.map(Link::from).chain(singles).collect()
}

impl Chain {
    /// What leads to the head's generation.
    pub(crate) async fn of(remote: &Remote, head: &Head) -> Result<Fetched<Self>> {
        let index = match remote.index(head).await? {
            Ok(index) => index,
            Err(missing) => return Ok(Err(missing)),
        };
        Ok(Ok(Self {
            incarnation: head.incarnation,
            page_size: head.page_size,
            base: head.base.clone(),
            checked: true,
            segments: links(head, index.as_deref(), head.base.generation),
        }))
    }

    /// Builds a head's generation in a file, and checks every step.
    pub(crate) async fn build_newest(
        remote: &Remote,
        head: &Head,
        path: &Path,
    ) -> Result<Fetched<(Self, File, Sums)>> {
        let chain = match Self::of(remote, head).await? {
            Ok(chain) => chain,
            Err(missing) => return Ok(Err(missing)),
        };
        let (file, sums) = match chain.build(remote, path).await? {
            Ok(built) => built,
            Err(missing) => return Ok(Err(missing)),
        };
        head.is_given_by(&sums)?;
        Ok(Ok((chain, file, sums)))
    }

    /// A base and segments that a listing has shown. What an earlier base has to be, its segment or the next one may tell.
    pub(crate) fn on(
        head: &Head,
        (generation, commit): (u64, Id),
        told: Option<Hex>,
        segments: Vec<Link>,
    ) -> Self {
        let base = match (generation, commit) == (head.base.generation, head.base.commit) {
            true => head.base.clone(),
            false => Base { generation, commit, page_count: 0, checksum: told.unwrap_or_default() },
        };
        let checked = told.is_some() || base.page_count > 0;
        Self { incarnation: head.incarnation, page_size: head.page_size, base, checked, segments }
    }

    /// The same where no head can be read that names any of it.
    pub(crate) fn from_objects(
        incarnation: Id,
        page_size: u32,
        (generation, commit): (u64, Id),
        told: Option<Hex>,
        segments: Vec<Link>,
    ) -> Self {
        let base = Base { generation, commit, page_count: 0, checksum: told.unwrap_or_default() };
        Self { incarnation, page_size, base, checked: told.is_some(), segments }
    }

    pub(crate) fn base_name(&self) -> String {
        base_name(self.base.generation, self.base.commit)
    }

    /// The commit that it leads to.
    pub(crate) fn commit(&self) -> Id {
        self.segments.last().map_or(self.base.commit, |link| link.commit)
    }

    pub(crate) fn objects(&self) -> usize {
        1 + self.segments.len()
    }

    /// Builds the database in a file, and checks every step.
    pub(crate) async fn build(&self, remote: &Remote, path: &Path) -> Result<Fetched<(File, Sums)>> {
        let name = self.base_name();
        let Some(file) = remote.downloads.download(&name, path).await? else { return Ok(Err(name)) };
        let page_size = self.page_size;
        let summed = tokio::task::spawn_blocking(move || sums_of(&file, page_size).map(|sums| (file, sums)));
        let summed = summed.await.map_err(|_| Error::Panicked)?;
        let (file, mut sums) = summed.map_err(Error::io("read", path))?;
        let told = self.base.page_count;
        if self.checked && (sums.total() != self.base.checksum || (told > 0 && sums.page_count() != told)) {
            return Err(Error::corrupt(&name, "its pages are not what was published"));
        }
        let mut state = (self.base.generation, self.base.commit, sums.total());
        let mut segments = Box::pin(fetch(remote, self.segments.clone()));
        while let Some(fetched) = segments.try_next().await? {
            let segment = match fetched {
                Ok(segment) => segment,
                Err(missing) => return Ok(Err(missing)),
            };
            segment.follows(self.incarnation, state)?;
            write(&segment, &file, path, &mut sums)?;
            state = segment.state();
        }
        file.sync_all().map_err(Error::io("sync", path))?;
        Ok(Ok((file, sums)))
    }
}

/// Fetches segments, in their order.
pub(crate) fn fetch(
    remote: &Remote,
    segments: Vec<Link>,
) -> impl futures::Stream<Item = Result<Fetched<Segment>>> {
    let fetched = stream::iter(segments).map(move |link| async move {
        let name = link.name();
        let Some(segment) = remote.segment(&name).await? else { return Ok(Err(name)) };
        let header = &segment.header;
        let found = Link { first: header.first(), last: header.generation, commit: header.commit };
        if found != link {
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
