//! The generations that a home still holds: by its listing, which says when each was published, and by the head, which says
//! whose the newest are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use crate::{
    error::Result,
    format::{Head, Id, parse_name, segment_name},
    home::Listed,
    rebuild::Chain,
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

/// What a home holds of one generation.
#[derive(Debug, Default)]
struct Objects {
    segment: Option<Listed>,
    base: Option<Listed>,
}

/// The objects of a home by generation and commit, as far as they lead to its head.
#[derive(Debug)]
pub(crate) struct History(BTreeMap<u64, (Id, Objects)>);

impl History {
    pub(crate) async fn read(remote: &Remote, head: &Head) -> Result<Self> {
        let (bases, segments) = (remote.list("base/").await?, remote.list("seg/").await?);
        let mut found: BTreeMap<u64, BTreeMap<Id, Objects>> = BTreeMap::new();
        for object in bases.into_iter().chain(segments) {
            let Some((kind, generation, commit)) = parse_name(&object.name) else { continue };
            let objects = found.entry(generation).or_default().entry(commit).or_default();
            match kind {
                "base" => objects.base = Some(object),
                _ => objects.segment = Some(object),
            }
        }
        let (mut history, mut above) = (BTreeMap::new(), None);
        for (generation, mut candidates) in found.into_iter().rev() {
            let ids: BTreeSet<Id> = candidates.keys().copied().collect();
            let commit = match head.commit_at(generation) {
                Some((commit, _)) => Some(commit),
                None if generation > head.generation => None,
                None if ids.len() == 1 => ids.first().copied(),
                // Whose batch was overtaken left a segment, too.
                None => parent(remote, generation, above).await?,
            };
            if let Some((commit, objects)) = commit.and_then(|commit| candidates.remove_entry(&commit)) {
                history.insert(generation, (commit, objects));
                above = Some((generation, commit));
            }
        }
        Ok(Self(history))
    }

    fn chain(&self, head: &Head, generation: u64) -> Option<Chain> {
        let mut segments = Vec::new();
        let mut at = generation;
        loop {
            let (commit, objects) = self.0.get(&at)?;
            if objects.base.is_some() {
                segments.reverse();
                return Some(Chain::on(head, (at, *commit), segments));
            }
            objects.segment.as_ref()?;
            segments.push((at, *commit));
            at = at.checked_sub(1)?;
        }
    }

    /// What leads to a generation, an earlier one by what is still in the home; `None` where that is not all of it.
    pub(crate) async fn chain_to(remote: &Remote, head: &Head, generation: u64) -> Result<Option<Chain>> {
        if generation > head.generation {
            return Ok(None);
        }
        if generation >= head.base.generation {
            return Ok(Some(Chain::of(head).up_to(generation)));
        }
        Ok(Self::read(remote, head).await?.chain(head, generation))
    }

    /// The generations that can be restored, the oldest first.
    pub(crate) fn generations(&self, now: SystemTime) -> Vec<Generation> {
        let (mut generations, mut whole_up_to) = (Vec::new(), None);
        for (generation, (commit, objects)) in &self.0 {
            let follows = objects.segment.is_some() && whole_up_to == generation.checked_sub(1);
            if objects.base.is_none() && !follows {
                continue;
            }
            whole_up_to = Some(*generation);
            // A base may be put long after its generation; what came with it is the segment.
            let Some(object) = objects.segment.as_ref().or(objects.base.as_ref()) else { continue };
            generations.push(Generation {
                generation: *generation,
                commit: commit.to_string(),
                published: object.age.and_then(|age| now.checked_sub(age)),
                bytes: object.length,
            });
        }
        generations
    }
}

/// The commit of a generation that the next one was made on.
async fn parent(remote: &Remote, generation: u64, above: Option<(u64, Id)>) -> Result<Option<Id>> {
    match above {
        Some((next, commit)) if next == generation + 1 => {
            let segment = remote.segment(&segment_name(next, commit)).await?;
            Ok(segment.map(|segment| segment.header.parent))
        }
        _ => Ok(None),
    }
}
