//! The generations that a home still holds: by its listing, which says when each was published, and by the head, which says
//! whose the newest are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use crate::{
    content::Fetched,
    error::{Error, Result},
    format::{Head, Hex, Id, Named, parse_name},
    home::Listed,
    rebuild::{Chain, Link},
    remote::Remote,
};

/// A generation that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// The commit that led to it.
    pub commit: String,
    /// When it was published: now by this machine's clock, less its age by the home's; `None` where the home cannot tell.
    pub published: Option<SystemTime>,
    /// The length in bytes of what was published.
    pub bytes: u64,
}

/// The objects of a home as far as they lead to its head.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By generation, of which each has one commit.
    bases: BTreeMap<u64, (Id, Listed)>,
    singles: BTreeMap<u64, (Id, Listed)>,
    /// By the generations that they lead to; the longest last.
    merged: BTreeMap<u64, Vec<(Link, Listed)>>,
}

/// What a listing has of one generation, by commit.
type Candidates = BTreeMap<Id, [Option<Listed>; 2]>;

impl History {
    pub(crate) async fn read(remote: &Remote, head: &Head) -> Result<Self> {
        let (mut found, mut history): (BTreeMap<u64, Candidates>, _) = (BTreeMap::new(), Self::default());
        for object in remote.list("").await? {
            let is_of_it = |named: &Named| named.last() <= head.generation && !head.has_lost(named.last());
            let Some(named) = parse_name(&object.name).filter(is_of_it) else {
                continue;
            };
            match named {
                Named::Base { generation, commit } => {
                    let [base, _] = found.entry(generation).or_default().entry(commit).or_default();
                    *base = Some(object);
                }
                Named::Segment { first, last, commit } if first == last => {
                    let [_, segment] = found.entry(last).or_default().entry(commit).or_default();
                    *segment = Some(object);
                }
                Named::Segment { first, last, commit } => {
                    let of_last = history.merged.entry(last).or_default();
                    of_last.push((Link { first, last, commit }, object));
                    of_last.sort_by_key(|(link, _)| Reverse(link.first));
                }
                Named::Index { .. } => {}
            }
        }
        for (generation, mut candidates) in found.into_iter().rev() {
            let Some(commit) = history.commit_of(remote, head, generation, &candidates).await? else {
                continue;
            };
            let Some([base, segment]) = candidates.remove(&commit) else { continue };
            history.bases.extend(base.map(|base| (generation, (commit, base))));
            history.singles.extend(segment.map(|segment| (generation, (commit, segment))));
        }
        Ok(history)
    }

    /// The commit of a generation: whose batch was overtaken left objects, too.
    async fn commit_of(
        &self,
        remote: &Remote,
        head: &Head,
        generation: u64,
        candidates: &Candidates,
    ) -> Result<Option<Id>> {
        let merged = self.merged.get(&generation).and_then(|merged| merged.first());
        let known = head.commit_at(generation).map(|(commit, _)| commit);
        if let Some(commit) = known.or(merged.map(|(link, _)| link.commit)) {
            return Ok(Some(commit));
        }
        if candidates.len() == 1 {
            return Ok(candidates.keys().next().copied());
        }
        // What the next one was made on.
        let above = match self.singles.get(&(generation + 1)) {
            Some((_, above)) => Some(above),
            None => {
                let merged = self.merged.range(generation + 1..).flat_map(|(_, merged)| merged);
                let mut above = merged.filter(|(link, _)| link.first == generation + 1);
                above.next().map(|(_, above)| above)
            }
        };
        let Some(above) = above else { return Ok(None) };
        Ok(remote.preamble(&above.name).await?.map(|(header, _)| header.parent))
    }

    /// What leads to a generation: the newest base that does, and segments.
    fn way(&self, generation: u64) -> Option<((u64, Id), Vec<Link>)> {
        self.bases.range(..=generation).rev().find_map(|(from, (commit, _))| {
            let (mut segments, mut at) = (Vec::new(), *from);
            while at < generation {
                let link = self.step(at, generation)?;
                segments.push(link);
                at = link.last;
            }
            Some(((*from, *commit), segments))
        })
    }

    /// The checksum of a generation, as segments that lead to it or on from it tell; one that is damaged tells nothing.
    async fn checksum(&self, remote: &Remote, generation: u64) -> Result<Option<Hex>> {
        let singles = self.singles.range(generation..=generation + 1).map(|(_, (_, object))| object);
        let merged = self.merged.range(generation..).flat_map(|(_, merged)| merged);
        let merged = merged.filter(|(link, _)| link.last == generation || link.first == generation + 1);
        for object in singles.chain(merged.map(|(_, object)| object)) {
            match remote.preamble(&object.name).await {
                Ok(Some((header, _))) if header.generation == generation => return Ok(Some(header.checksum)),
                Ok(Some((header, _))) if header.first() == generation + 1 => {
                    return Ok(Some(header.parent_checksum));
                }
                Ok(_) | Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The segment that leads from a generation the farthest, and not beyond another.
    fn step(&self, at: u64, to: u64) -> Option<Link> {
        let merged = self.merged.range(at + 1..=to).rev().flat_map(|(_, merged)| merged);
        let merged = merged.map(|(link, _)| *link).find(|link| link.first <= at + 1);
        merged.or_else(|| self.singles.get(&(at + 1)).map(|(commit, _)| Link::single(at + 1, *commit)))
    }

    /// What leads to a generation, an earlier one by what is still in the home; `None` where that is not all of it.
    pub(crate) async fn chain_to(
        remote: &Remote,
        head: &Head,
        generation: u64,
    ) -> Result<Fetched<Option<Chain>>> {
        if generation == head.generation {
            return Ok(Chain::of(remote, head).await?.map(Some));
        }
        let history = Self::read(remote, head).await?;
        let Some((base, segments)) = history.way(generation) else { return Ok(Ok(None)) };
        let told = history.checksum(remote, base.0).await?;
        Ok(Ok(Some(Chain::on(head, base, told, segments))))
    }

    /// The generations that can be restored, the oldest first.
    pub(crate) fn generations(&self, now: SystemTime) -> Vec<Generation> {
        let ends: BTreeSet<u64> =
            self.bases.keys().chain(self.singles.keys()).chain(self.merged.keys()).copied().collect();
        let (mut generations, mut newest) = (Vec::new(), None);
        for generation in ends {
            // The newest that can be restored is the one that most segments lead on from.
            let leads = |first: u64| newest.is_some_and(|newest| first <= newest + 1);
            let base = self.bases.get(&generation);
            let single = self.singles.get(&generation).filter(|_| leads(generation));
            let merged = self.merged.get(&generation).and_then(|merged| merged.last());
            let merged = merged.filter(|(link, _)| leads(link.first));
            // A base may be put long after its generation; what came with it is the segment.
            let merged = merged.map(|(link, object)| (link.commit, object));
            let found = single.or(base).map(|(commit, object)| (*commit, object));
            let found = if single.is_some() { found } else { merged.or(found) };
            let Some((commit, object)) = found else { continue };
            newest = Some(generation);
            generations.push(Generation {
                generation,
                commit: commit.to_string(),
                published: object.age.and_then(|age| now.checked_sub(age)),
                bytes: object.length,
            });
        }
        generations
    }
}
