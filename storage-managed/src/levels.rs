//! When segments are merged, when a base is made anew, and what is superseded.
//!
//! As in a log-structured merge tree, and in Litestream's LTX: single segments are merged into one of the first level, and
//! as many of a level as its fan-out into one of the next. A page is so sent once when it is committed, once for each level
//! up, and once with the base, which is made when what lies on it has the base's own size. With 64 and 176 the second level
//! is reached after 11,264 commits and full after two million: about as many as make a base of 10 GiB due.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use crate::{
    format::{Head, Index, Merged, Named, base_name, index_name, parse_name},
    home::Listed,
    options::Options,
};

/// How many pages of a commit the head has room for where each one has so many.
const USUAL_PAGES: u64 = 8;
/// From this level on, merging again costs more than it spares where a base is soon due anyway.
const LAST_CHEAP_LEVEL: u8 = 2;
/// So many merged segments behind a new base stay named, for readers that are a little behind it.
const KEPT_BEHIND_BASE: usize = 16;
/// How many objects a home has at most, but for what is needed: what could only serve to look back makes room.
const MAX_OBJECTS: usize = 400;

/// The sizes from which something is worth its cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    merge_segments: u64,
    fan_out: usize,
    fold_share: f64,
    fold_bytes: u64,
}

/// What is to be merged into one segment with all that is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The first generation.
    pub(crate) first: u64,
    pub(crate) level: u8,
    /// So many of the index's newest segments.
    pub(crate) taken: usize,
}

impl Levels {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            merge_segments: options.merge_segments as u64,
            fan_out: options.merge_fan_out,
            fold_share: options.fold_share,
            fold_bytes: options.fold_bytes,
        }
    }

    /// Whether there are so many times as many single segments as are worth merging, or as many pages as the head names with
    /// so many segments of usual size: it would not stay small.
    pub(crate) fn is_merge_due(&self, head: &Head, times: u64) -> bool {
        let segments = self.merge_segments.saturating_mul(times);
        let many_pages = head.named_pages() >= segments.saturating_mul(USUAL_PAGES);
        head.singles() >= segments || head.singles() > 1 && many_pages
    }

    /// Whether there is so many times as much on the base as is worth a new one.
    pub(crate) fn is_fold_due(&self, head: &Head, times: u64) -> bool {
        head.chain_bytes() >= self.fold_from(head).saturating_mul(times)
    }

    fn fold_from(&self, head: &Head) -> u64 {
        ((head.base_bytes() as f64 * self.fold_share) as u64).max(self.fold_bytes)
    }

    /// Whether a new base is better than merging once more what was merged twice already.
    pub(crate) fn is_fold_better(&self, head: &Head, index: Option<&Index>) -> bool {
        let last = |merged: &&Merged| merged.level == LAST_CHEAP_LEVEL;
        let full = index.is_some_and(|index| index.merged.iter().filter(last).count() >= self.fan_out);
        full && head.chain_bytes() >= self.fold_from(head) / 2
    }

    /// What the single segments of a head are merged with.
    pub(crate) fn plan(&self, head: &Head, index: Option<&Index>) -> Plan {
        let merged = index.map_or(&[][..], |index| &index.merged);
        let mut plan = Plan { first: head.singles_from() + 1, level: 1, taken: 0 };
        loop {
            let older = merged.len() - plan.taken;
            let of_level = merged.iter().take(older).rev().take_while(|merged| merged.level <= plan.level);
            let (count, first) =
                of_level.fold((0, plan.first), |(count, _), merged| (count + 1, merged.first));
            let stays = plan.level >= LAST_CHEAP_LEVEL && self.is_fold_better(head, index);
            if count + 1 < self.fan_out || count == 0 || stays {
                return plan;
            }
            plan = Plan { first, level: plan.level + 1, taken: plan.taken + count };
        }
    }
}

/// The merged segments of an index that a head still needs, without the newest that are merged anew: those that lead on from
/// its base, and a few before, for readers that are a little behind it.
pub(crate) fn still_needed(index: &Index, head: &Head, taken: usize) -> Vec<Merged> {
    let base = head.base.generation;
    let kept = index.merged.len() - taken;
    let behind = index.merged.iter().rev().filter(|merged| merged.last <= base);
    let mut room = head.base_bytes() / KEPT_BEHIND_BASE as u64;
    let few = behind.take(KEPT_BEHIND_BASE).take_while(|merged| {
        let fits = merged.bytes <= room;
        room = room.saturating_sub(merged.bytes);
        fits
    });
    let from = few.last().map_or(base + 1, |merged| merged.first);
    let needed = index.merged.iter().take(kept).filter(|merged| merged.first >= from || merged.last > base);
    needed.copied().collect()
}

/// What nobody needs any more.
#[derive(Debug)]
pub(crate) struct Superseded {
    /// What can go.
    pub(crate) gone: Vec<String>,
    /// How many objects stay for now.
    pub(crate) left: usize,
}

/// The objects that can go: nothing needs them, and they were superseded longer ago than they are kept for looking back. What
/// is superseded makes room earlier where there are too many objects, what tells the least first.
pub(crate) fn superseded(
    objects: &[Listed],
    head: &Head,
    index: Option<&Index>,
    kept: Duration,
) -> Superseded {
    let found = Found::of(objects, head, index);
    let mut gone: BTreeSet<&str> = found.stale(kept);
    let mut count = objects.len() - gone.len();
    for object in found.thinned(&gone) {
        if count <= MAX_OBJECTS {
            break;
        }
        count -= usize::from(gone.insert(object));
    }
    let left = found.spare.len() - gone.len();
    Superseded { gone: gone.into_iter().map(str::to_owned).collect(), left }
}

struct Object<'a> {
    name: &'a str,
    named: Named,
    age: Option<Duration>,
}

/// What of the objects nobody needs, in the order of the generations that they lead to.
struct Found<'a> {
    spare: Vec<Object<'a>>,
    bases: Vec<(u64, Option<Duration>)>,
    /// Their last generations, in order, and their first ones.
    merged: Vec<(u64, u64, Option<Duration>)>,
}

impl<'a> Found<'a> {
    fn of(objects: &'a [Listed], head: &Head, index: Option<&Index>) -> Self {
        let newest = head.singles_from();
        let reference = match head.index {
            Some(index) => index_name(index.generation, index.id),
            None => base_name(head.base.generation, head.base.commit),
        };
        // What is younger is of somebody who knows more, or is not named yet.
        let reference = objects.iter().find(|object| object.name == reference).and_then(|object| object.age);
        let is_older = |object: &Listed| match (object.age, reference) {
            (Some(age), Some(reference)) => age >= reference,
            _ => false,
        };
        let named: BTreeSet<String> =
            index.into_iter().flat_map(|index| &index.merged).map(Merged::name).collect();
        let is_needed = |object: &Listed, it: &Named| match it {
            Named::Base { generation, .. } => *generation >= head.base.generation,
            Named::Segment { last, .. } => *last > newest || named.contains(&object.name),
            Named::Index { generation, id } => {
                let large = index.and_then(|index| index.large).is_some_and(|large| large.id == *id);
                *generation > newest || large || head.index.is_some_and(|index| index.id == *id)
            }
        };
        let (mut spare, mut bases, mut merged) = (Vec::new(), Vec::new(), Vec::new());
        for object in objects {
            let Some(it) = parse_name(&object.name) else { continue };
            match it {
                Named::Base { generation, .. } if generation <= head.base.generation => {
                    bases.push((generation, object.age));
                }
                Named::Segment { first, last, .. } if first < last => merged.push((last, first, object.age)),
                _ => {}
            }
            if !is_needed(object, &it) && is_older(object) {
                spare.push(Object { name: &object.name, named: it, age: object.age });
            }
        }
        spare.sort_by_key(|object| object.named.last());
        bases.sort_unstable();
        merged.sort_unstable();
        Self { spare, bases, merged }
    }

    /// Since when a merged segment has told what this one tells.
    fn covered_for(&self, first: u64, last: u64) -> Option<Duration> {
        let behind = self.merged.partition_point(|merged| merged.0 < last);
        let covers = |merged: &&(u64, u64, Option<Duration>)| {
            merged.1 <= first && (merged.0, merged.1) != (last, first)
        };
        self.merged.iter().skip(behind).filter(covers).filter_map(|merged| merged.2).max()
    }

    /// What was superseded longer ago than that.
    fn stale(&self, kept: Duration) -> BTreeSet<&'a str> {
        let is_old = |age: Option<Duration>| age.is_some_and(|age| age >= kept);
        // Looking back begins with the newest base that is older.
        let from = self.bases.iter().rev().find(|(_, age)| is_old(*age)).map_or(0, |(base, _)| *base);
        let stale = self.spare.iter().filter(|object| match object.named {
            Named::Base { generation, .. } => generation < from,
            Named::Segment { first, last, .. } => last <= from || is_old(self.covered_for(first, last)),
            Named::Index { .. } => is_old(object.age) || object.age >= Some(INDEX_KEPT),
        });
        stale.map(|object| object.name).collect()
    }

    /// What can be spared, what tells the least first: the oldest of what a larger one tells as well; then one base after the
    /// other with what follows it, those whose neighbours are the nearest.
    fn thinned(&self, gone: &BTreeSet<&'a str>) -> Vec<&'a str> {
        let left = |object: &&Object<'a>| !gone.contains(object.name);
        let is_fine = |object: &&Object<'a>| match object.named {
            Named::Segment { first, last, .. } => self.covered_for(first, last).is_some(),
            Named::Index { .. } => true,
            Named::Base { .. } => false,
        };
        let mut order: Vec<&str> =
            self.spare.iter().filter(left).filter(is_fine).map(|object| object.name).collect();
        let mut bases = self.bases.clone();
        while let Some(at) = least_missed(&bases) {
            let (from, _) = bases.remove(at);
            let to = bases.get(at).map_or(u64::MAX, |(base, _)| *base);
            let of_base = self.spare.iter().filter(|object| match object.named {
                Named::Base { generation, .. } => generation == from,
                Named::Segment { last, .. } => from < last && last <= to,
                Named::Index { .. } => false,
            });
            order.extend(of_base.map(|object| object.name));
        }
        order
    }
}

/// An index that no head names is of no use but to whoever read the head before.
const INDEX_KEPT: Duration = Duration::from_secs(60);

/// The base between whose neighbours the least time lies; never the newest, the oldest last.
fn least_missed(bases: &[(u64, Option<Duration>)]) -> Option<usize> {
    let age = |base: Option<&(u64, Option<Duration>)>| base.and_then(|(_, age)| *age);
    let between = |at: usize| match (age(bases.get(at - 1)), age(bases.get(at + 1))) {
        (Some(older), Some(newer)) => older.saturating_sub(newer),
        _ => Duration::MAX,
    };
    let inner = 1..bases.len().saturating_sub(1);
    inner.min_by_key(|at| (between(*at), Reverse(*at))).or((bases.len() > 1).then_some(0))
}

#[cfg(test)]
mod tests;
