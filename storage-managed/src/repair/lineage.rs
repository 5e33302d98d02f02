//! Which generations the objects of a home lead to, by what each says of itself: without a head, or with one that names what
//! is damaged.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    error::{Error, Result},
    format::{Head, Hex, Id, Named, SegmentHeader, Sums, base_name, parse_name},
    home::Listed,
    rebuild::{Chain, Link},
    remote::Remote,
    verify::check_integrity,
};

/// How many segments are looked at at once.
const READ_AT_ONCE: usize = 8;

/// An object that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Its name.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A generation, and the commit that led to it.
pub(super) type End = (u64, Id);

/// What the objects of a home lead to.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    pub(super) incarnation: Option<Id>,
    bases: BTreeMap<End, Listed>,
    segments: BTreeMap<End, Vec<(SegmentHeader, Listed)>>,
    /// By the generations that their names have, whatever is in them.
    named: BTreeMap<u64, Listed>,
    /// The newest generation that any name has.
    pub(super) newest: u64,
    pub(super) damage: BTreeMap<String, String>,
}

/// A generation that was rebuilt.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) end: End,
    pub(super) sums: Sums,
    pub(super) page_size: u32,
    /// Whether a checksum in the home says what it has to be.
    pub(super) is_proven: bool,
}

impl Lineage {
    /// Reads what the segments of a listing say of themselves. What is damaged is noted, and nothing else is done with it.
    pub(super) async fn read(remote: &Remote, objects: Vec<Listed>, head: Option<&Head>) -> Result<Self> {
        let mut found = Self { newest: head.map_or(0, |head| head.generation), ..Self::default() };
        let mut segments = Vec::new();
        for object in objects {
            let Some(named) = parse_name(&object.name) else { continue };
            found.newest = found.newest.max(named.last());
            if !matches!(named, Named::Index { .. }) {
                found.named.insert(named.last(), object.clone());
            }
            match named {
                Named::Base { generation, commit } => drop(found.bases.insert((generation, commit), object)),
                Named::Segment { first, last, commit } => {
                    segments.push((Link { first, last, commit }, object));
                }
                Named::Index { .. } => {}
            }
        }
        let headers = stream::iter(segments).map(|(link, object)| async move {
            let header = header(remote, &link, &object.name).await?;
            Ok::<_, Error>((object, header))
        });
        let headers: Vec<_> = headers.buffered(READ_AT_ONCE).try_collect().await?;
        let newest = headers.iter().filter_map(|(_, header)| header.as_ref().ok());
        let newest = newest.max_by_key(|header| header.generation).map(|header| header.incarnation);
        found.incarnation = head.map(|head| head.incarnation).or(newest);
        for (object, header) in headers {
            match header {
                Ok(header) if Some(header.incarnation) == found.incarnation => {
                    let of_end = found.segments.entry((header.generation, header.commit)).or_default();
                    of_end.push((header, object));
                    of_end.sort_by_key(|(header, _)| header.first());
                }
                Ok(_) => drop(found.damage.insert(object.name, "it is of another database".to_owned())),
                Err(problem) => drop(found.damage.insert(object.name, problem)),
            }
        }
        Ok(found)
    }

    pub(super) fn has(&self, end: End) -> bool {
        self.bases.contains_key(&end) || self.segments.contains_key(&end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bases.is_empty() && self.segments.is_empty() && self.damage.is_empty()
    }

    /// The generations behind another that objects are named by.
    pub(super) fn behind(&self, generation: u64) -> impl Iterator<Item = (u64, &Listed)> {
        self.named.range(generation + 1..).map(|(at, object)| (*at, object))
    }

    /// The commits that led to a generation as far back as single segments tell, with the lengths of those, the newest first.
    pub(super) fn commits(&self, mut end: End) -> Vec<(Id, u64)> {
        let mut commits = Vec::new();
        while let Some((header, object)) =
            self.segments.get(&end).into_iter().flatten().find(|(header, _)| header.first() == end.0)
        {
            commits.push((end.1, object.length));
            end = (end.0.saturating_sub(1), header.parent);
        }
        if commits.is_empty() { vec![(end.1, 0)] } else { commits }
    }

    /// All that there is, the newest first; of two with one generation that which was built upon, or else came later.
    fn ends(&self, head: Option<&Head>) -> Vec<End> {
        let parents: BTreeSet<End> = self
            .segments
            .values()
            .flatten()
            .map(|(header, _)| (header.first().saturating_sub(1), header.parent))
            .collect();
        let age = |end: &End| {
            let segments = self.segments.get(end).into_iter().flatten().map(|(_, object)| object);
            segments.chain(self.bases.get(end)).filter_map(|object| object.age).max()
        };
        let is_published = |end: &&End| {
            head.is_none_or(|head| {
                let known = head.commit_at(end.0).map(|(commit, _)| commit);
                end.0 <= head.generation && known.is_none_or(|commit| commit == end.1)
            })
        };
        let mut ends: BTreeSet<End> = self.bases.keys().chain(self.segments.keys()).copied().collect();
        ends = ends.iter().filter(is_published).copied().collect();
        let mut ends: Vec<End> = ends.into_iter().collect();
        ends.sort_by_key(|end| (Reverse(end.0), !parents.contains(end), age(end)));
        ends
    }

    /// The newest base that leads to a generation, and the segments on it, without what is known to be damaged. `dead` is what
    /// nothing leads to.
    fn way(&self, end: End, dead: &mut BTreeSet<End>) -> Option<(End, Vec<Link>)> {
        let is_sound = |name: &str| !self.damage.contains_key(name);
        if self.bases.get(&end).is_some_and(|base| is_sound(&base.name)) {
            return Some((end, Vec::new()));
        }
        if dead.contains(&end) {
            return None;
        }
        for (header, object) in self.segments.get(&end).into_iter().flatten() {
            if !is_sound(&object.name) {
                continue;
            }
            let link = Link { first: header.first(), last: header.generation, commit: header.commit };
            // It leads on from each generation within it, too.
            let within = (link.first, Hex(0))..(link.last, Hex(0));
            let mut bases = self.bases.range(within).rev().filter(|(_, base)| is_sound(&base.name));
            if let Some((base, _)) = bases.next() {
                return Some((*base, vec![link]));
            }
            if let Some((base, mut links)) = self.way((link.first.saturating_sub(1), header.parent), dead) {
                links.push(link);
                return Some((base, links));
            }
        }
        dead.insert(end);
        None
    }

    /// What the database has to be at a base, by the segments that lead to it or on from it.
    fn told(&self, base: End, head: Option<&Head>) -> Option<Hex> {
        let named = head.map(|head| &head.base).filter(|named| (named.generation, named.commit) == base);
        let to = self.segments.get(&base).into_iter().flatten().map(|(header, _)| header.checksum).next();
        let mut on = self
            .segments
            .values()
            .flatten()
            .filter(|(header, _)| (header.first().saturating_sub(1), header.parent) == base);
        named
            .map(|named| named.checksum)
            .or(to)
            .or_else(|| on.next().map(|(header, _)| header.parent_checksum))
    }

    /// Rebuilds the newest generation behind `floor` that can be, in a file. What proves damaged on the way is noted.
    pub(super) async fn build_newest(
        &mut self,
        remote: &Remote,
        head: Option<&Head>,
        floor: u64,
        to: &Path,
    ) -> Result<Option<Built>> {
        for end in self.ends(head).into_iter().filter(|end| end.0 > floor) {
            while let Some((base, links)) = self.way(end, &mut BTreeSet::new()) {
                match self.build(remote, head, end, (base, links), to).await? {
                    Ok(built) => return Ok(Some(built)),
                    Err(Damage { object, problem }) => {
                        // Named before: nothing is gained by trying again.
                        if self.damage.insert(object, problem).is_some() {
                            break;
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    async fn build(
        &self,
        remote: &Remote,
        head: Option<&Head>,
        end: End,
        (base, links): (End, Vec<Link>),
        to: &Path,
    ) -> Result<Result<Built, Damage>> {
        let told = self.told(base, head);
        let is_proven = told.is_some() || !links.is_empty();
        let name = base_name(base.0, base.1);
        let work = async {
            let page_size = match head {
                Some(head) => head.page_size,
                None => remote.page_size(&name).await?,
            };
            let incarnation = self.incarnation.unwrap_or_default();
            let chain = Chain::from_objects(incarnation, page_size, base, told, links);
            let (file, sums) = match chain.build(remote, to).await? {
                Ok(built) => built,
                Err(missing) => return Err(Error::corrupt(&missing, "it is gone")),
            };
            let newest = head.filter(|head| (head.generation, head.commit) == end);
            if newest.is_some_and(|head| head.checksum != sums.total()) {
                return Err(Error::corrupt(&name, "what was rebuilt from it is not what the head says"));
            }
            check_integrity(file, to.to_owned(), name.clone()).await?;
            Ok(Built { end, sums, page_size, is_proven })
        };
        match work.await {
            Ok(built) => Ok(Ok(built)),
            Err(Error::Corrupt { object, problem }) => Ok(Err(Damage { object, problem })),
            Err(error) => Err(error),
        }
    }
}

/// What a segment says of itself, or what is wrong with it.
async fn header(remote: &Remote, link: &Link, name: &str) -> Result<Result<SegmentHeader, String>> {
    match remote.preamble(name).await {
        Ok(Some((header, _))) => {
            let found = Link { first: header.first(), last: header.generation, commit: header.commit };
            Ok(if found == *link { Ok(header) } else { Err("it is of another commit".to_owned()) })
        }
        Ok(None) => Ok(Err("it is gone".to_owned())),
        Err(Error::Corrupt { problem, .. }) => Ok(Err(problem)),
        // One that a later release has written would be named by a head of that release.
        Err(Error::Unsupported(problem)) => Ok(Err(problem)),
        Err(error) => Err(error),
    }
}
