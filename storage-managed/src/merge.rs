//! Merging segments into larger ones, from a snapshot: what goes to the home is what its pages are now.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    cache::create_private,
    compact::Going,
    content::Content as Bytes,
    error::{Error, Result},
    format::{
        Beginning, Head, Index, IndexRef, Large, LargeRef, Merged, PAGED_FORMAT, SegmentHeader, index_name,
        merged_name, write_paged,
    },
    home::Body,
    levels::{Levels, still_needed},
    local::Pinned,
    rebuild::{Link, links},
    shared::{Change, Changes, Content, Shared},
};

/// How many beginnings of segments are fetched at once.
const FETCHED_AT_ONCE: usize = 8;
/// Page numbers of a commit that has more are not kept: they are asked for again.
const MAX_REMEMBERED: usize = 16 * 1024;

impl Content {
    /// Keeps what a commit has changed until it is merged.
    pub(crate) fn remember(&mut self, header: SegmentHeader, numbers: Vec<u32>) {
        let merged = self.known.as_ref().map_or(0, |(head, _)| head.singles_from());
        self.changes.retain(|generation, _| *generation > merged);
        if numbers.len() <= MAX_REMEMBERED {
            self.changes.insert(header.generation, Arc::new((header, numbers)));
        }
    }
}

impl Shared {
    /// Merges the single segments into one, with as many merged ones as it is time for. True where that was done.
    pub(crate) async fn merge(self: &Arc<Self>, merging: &Arc<Going>) -> Result<bool> {
        let (head, changes, pinned) = {
            let lock = self.write_lock().await?;
            let Some((head, _)) = lock.content.known.clone() else { return Ok(false) };
            let pinned = self.on_local(|local| local.pin(local.sums())).await?;
            (head, lock.content.changes.clone(), pinned)
        };
        let index = match self.remote.index(&head).await? {
            Ok(index) => index,
            // Somebody else has merged since.
            Err(_) => return Err(Error::moving()),
        };
        let plan = Levels::of(&self.options).plan(&head, index.as_deref());
        if plan.first >= head.generation {
            return Ok(false);
        }
        let taken = links(&head, index.as_deref(), plan.first - 1);
        let (header, numbers) = together(&head, &self.changes(taken, &changes).await?)?;
        let staged = self.paths.staged("merged")?;
        let (body, begins) =
            encode(pinned, header.clone(), numbers, staged.to_path_buf(), Arc::clone(merging)).await?;
        // What an earlier try has left may have its frames elsewhere.
        let is_this = self.put_merged(&header, &body).await?;
        let begins = begins.filter(|_| is_this);
        drop(staged);
        let (first, last, commit) = (plan.first, head.generation, head.commit);
        let merged = Merged { first, last, commit, level: plan.level, bytes: body.length() };
        let (named, next) = self.put_index(&head, index.as_deref(), plan.taken, (merged, begins)).await?;
        let mut lock = self.write_lock().await?;
        self.name_index(&mut lock.content, &head, named, &next).await
    }

    /// What is to be merged, in its order: as it was made here, or from the home.
    async fn changes(&self, taken: Vec<Link>, known: &Changes) -> Result<Vec<Arc<Change>>> {
        let changes = stream::iter(taken).map(|link| async move {
            let made_here = known.get(&link.last).filter(|change| change.0.commit == link.commit);
            if let Some(change) = made_here.filter(|_| link.first == link.last) {
                return Ok(Arc::clone(change));
            }
            self.remote.preamble(&link.name()).await?.map(Arc::new).ok_or_else(Error::moving)
        });
        changes.buffered(FETCHED_AT_ONCE).try_collect().await
    }

    /// Puts a merged segment. An earlier try may have left it: false where it is of other bytes, as another release makes them.
    async fn put_merged(&self, header: &SegmentHeader, body: &Body) -> Result<bool> {
        let name = merged_name(header.first(), header.generation, header.commit);
        if self.remote.put(&name, body).await? {
            return Ok(true);
        }
        let same = |found: &SegmentHeader| {
            let says = |header: &SegmentHeader| (header.parent, header.parent_checksum, header.checksum);
            found.incarnation == header.incarnation && says(found) == says(header)
        };
        match self.remote.preamble(&name).await? {
            Some((found, _)) if same(&found) => Ok(false),
            _ => Err(Error::corrupt(&name, "something else is there than what it is named by")),
        }
    }

    /// Puts the index that names a merged segment in the place of so many.
    async fn put_index(
        &self,
        head: &Head,
        index: Option<&Index>,
        taken: usize,
        merged: (Merged, Option<Beginning>),
    ) -> Result<(IndexRef, Arc<Index>)> {
        let mut all = Vec::new();
        if let Some(index) = index {
            let needed = still_needed(index, head, taken);
            // Readers ask for what is not told.
            let begin = index.beginnings().unwrap_or_else(|| vec![None; index.merged.len()]);
            all.extend(index.merged.iter().copied().zip(begin).filter(|(merged, _)| needed.contains(merged)));
        }
        let large = index.and_then(|index| index.large);
        let large = self.put_large(large, &all, &merged).await?;
        all.push(merged);
        let next = Index::new(head.incarnation, all).with_large(large);
        let encoded = next.encode();
        let named = next.named_by(&encoded, head.base.generation);
        let name = index_name(named.generation, named.id);
        self.remote.put_new(&name, &Body::Bytes(encoded.into())).await?;
        let next = Arc::new(next);
        self.remote.remember(named, &next);
        Ok((named, next))
    }

    /// Puts how large segments begin, where a merged one is large, and names what tells it of those that are still needed.
    async fn put_large(
        &self,
        known: Option<LargeRef>,
        needed: &[(Merged, Option<Beginning>)],
        (merged, begins): &(Merged, Option<Beginning>),
    ) -> Result<Option<LargeRef>> {
        let is_needed = |last: u64| needed.iter().any(|(needed, _)| needed.last == last);
        let known = known.filter(|known| needed.iter().any(|(needed, _)| needed.last <= known.generation));
        let Some(begins) = begins.clone().filter(Beginning::is_large) else { return Ok(known) };
        let mut large = match known {
            Some(known) => self.remote.large(&known).await?,
            None => Large::default(),
        };
        large.0.retain(|last, _| is_needed(*last));
        large.0.insert(merged.last, begins);
        let Some((named, bytes)) = large.encode() else { return Ok(None) };
        self.remote.put_new(&named.name(), &Body::Bytes(bytes.into())).await?;
        Ok(Some(named))
    }

    /// Lets the head name the index, unless somebody else has merged meanwhile, or made a base where there was no index: what
    /// leads beyond either is removed by nobody, so that what was put is still there.
    async fn name_index(
        &self,
        content: &mut Content,
        planned: &Head,
        named: IndexRef,
        next: &Index,
    ) -> Result<bool> {
        let Some((known, _)) = &content.known else { return Ok(false) };
        let stands = |head: &Head| (head.incarnation, head.index.map(|index| index.id), head.singles_from());
        if stands(known) != stands(planned) {
            return Ok(false);
        }
        let at = known.commit_at(planned.generation).map(|(commit, _)| commit);
        if at.is_some_and(|commit| commit != planned.commit) {
            return Ok(false);
        }
        let mut head = known.clone();
        // The base may be another one meanwhile.
        head.index = Some(IndexRef { bytes: next.bytes_from(head.base.generation), ..named });
        head.forget();
        let merged = self.name(content, head).await?;
        self.remote.telemetry.merges.increment(u64::from(merged));
        Ok(merged)
    }
}

/// What consecutive segments say together, and the pages that they change, the last of which leads to the head.
fn together(head: &Head, changes: &[Arc<Change>]) -> Result<Change> {
    let unsound = || Error::corrupt("head", "the segments that it names do not follow on each other");
    let mut numbers = BTreeSet::new();
    let (mut parent, mut least) = (None, u32::MAX);
    for change in changes {
        let (header, pages) = &**change;
        if header.incarnation != head.incarnation || parent.is_some_and(|parent| parent != header.parent) {
            return Err(unsound());
        }
        (parent, least) = (Some(header.commit), least.min(header.page_count));
        numbers.extend(pages);
    }
    let first = changes.first().map(|change| &change.0).filter(|_| parent == Some(head.commit));
    let Some(first) = first else { return Err(unsound()) };
    // What was cut off and came back may be pages of zeros, which no segment holds.
    numbers.extend(least.saturating_add(1)..=head.page_count);
    numbers.split_off(&head.page_count.saturating_add(1));
    let header = SegmentHeader {
        format: PAGED_FORMAT,
        incarnation: head.incarnation,
        generation: head.generation,
        commit: head.commit,
        parent: first.parent,
        page_size: head.page_size,
        page_count: head.page_count,
        parent_checksum: first.parent_checksum,
        checksum: head.checksum,
        pages: u32::try_from(numbers.len()).unwrap_or(u32::MAX),
        first: Some(first.first()),
        frame_pages: None,
    };
    Ok((header, numbers.into_iter().collect()))
}

/// Writes a merged segment to a file, and tells how it begins. Whoever closes waits until the files of the snapshot are not in use any more.
async fn encode(
    pinned: Pinned,
    header: SegmentHeader,
    numbers: Vec<u32>,
    to: PathBuf,
    merging: Arc<Going>,
) -> Result<(Body, Option<Beginning>)> {
    let encoded = tokio::task::spawn_blocking(move || {
        let snapshot = pinned.open()?;
        let file = create_private(&to)?;
        let read = |number: u32, page: &mut [u8]| match merging.goes_on() {
            true => snapshot.read(number, page),
            false => Err(Error::Closed),
        };
        let length = write_paged(&file, header, &numbers, read, &to);
        drop((snapshot, merging));
        let body = Body::File { length: length?, path: to };
        Ok((body, Beginning::of("merged", &Bytes::File(file))?))
    });
    encoded.await.map_err(|_| Error::Panicked)?
}
