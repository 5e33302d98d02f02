//! The removal of checkpoints with everything that only they need: what stays is marked, the rest goes.

use std::collections::{BTreeMap, HashMap, HashSet};

use storage_core::{CollectionStore, Error, Item, Json, Operation, Partition, PutMode, Query, Result};

use super::{
    blobs::{FETCHED, nodes, null},
    body::split_body,
    chunks::{MOST_LEVELS, split_hashes},
    layout::{self, Head, Place},
    pages::all,
    record::Record,
    survey::{Keys, Survey},
    types::PruneReport,
};

/// What a commit removes. What does not fit into it is left for the next one.
pub(super) struct Plan {
    pub(super) operations: Vec<Operation>,
    pub(super) report: PruneReport,
    /// Whether something is left.
    pub(super) more: bool,
    room: usize,
    written: u64,
}

impl Plan {
    /// A plan for one commit of `most` operations; `usize::MAX` for a dry run.
    pub(super) fn new(most: usize) -> Self {
        // One is for the precondition.
        let room = most - 1;
        Self { operations: Vec::new(), report: PruneReport::default(), more: false, room, written: 0 }
    }

    /// Removes the `doomed` checkpoints, each together with its writes, and then what nothing needs any more.
    pub(super) async fn fill(
        &mut self,
        store: &dyn CollectionStore,
        survey: &Survey,
        doomed: &Keys,
    ) -> Result<()> {
        let gone = self.checkpoints(survey, doomed);
        self.heads(survey, &gone)?;
        let marked = mark(store, survey, &gone).await?;
        for (_, item) in survey.values.iter().filter(|(sort, _)| !marked.values.contains(*sort)) {
            self.report.values += u64::from(self.delete(item));
        }
        self.pieces(store, &survey.partition, &marked).await?;
        self.report.bytes = self.report.bytes.saturating_sub(self.written);
        Ok(())
    }

    /// False where it does not fit.
    fn delete(&mut self, item: &Item) -> bool {
        let fits = self.operations.len() < self.room;
        if fits {
            self.report.bytes += size(item);
            self.operations.push(Operation::Delete { sort: item.sort.clone() });
        }
        self.more |= !fits;
        fits
    }

    /// Says which of the `doomed` go with this commit.
    fn checkpoints(&mut self, survey: &Survey, doomed: &Keys) -> Keys {
        let mut gone = Keys::new();
        for key @ (ns, id) in doomed {
            let Some(known) = survey.checkpoints.get(key) else { continue };
            let writes = survey.writes.get(key).map_or(&[][..], Vec::as_slice);
            let metadata = survey.metadata.get(key);
            // Besides its writes: itself, its metadata, its entry in the index, and the head of its namespace.
            let own = 3 + usize::from(metadata.is_some());
            if self.operations.len() + gone.len() + writes.len() + own > self.room && !gone.is_empty() {
                self.more = true;
                break;
            }
            let written: u64 = writes.iter().map(|item| u64::from(self.delete(item))).sum();
            self.report.writes += written;
            if self.room.saturating_sub(self.operations.len()) < own {
                self.more = true;
                break;
            }
            [Some(&known.item), metadata].into_iter().flatten().for_each(|item| _ = self.delete(item));
            let index = layout::index(id, ns);
            self.report.bytes += (index.len() + null().len()) as u64;
            self.operations.push(Operation::Delete { sort: index });
            self.report.checkpoints.extend(survey.key(key));
            gone.insert(key.clone());
        }
        gone
    }

    /// Each namespace's latest checkpoint and count, where they change.
    fn heads(&mut self, survey: &Survey, gone: &Keys) -> Result<()> {
        let mut left = BTreeMap::<String, Head>::new();
        for (ns, id) in survey.checkpoints.keys().filter(|key| !gone.contains(*key)) {
            let sort = Place::by_key(&survey.partition, ns).head();
            // In order, so that the last id is the greatest.
            let count = left.get(&sort).map_or(1, |head| head.count + 1);
            left.insert(sort, Head { id: id.clone(), count });
        }
        for item in &survey.heads {
            match left.remove(&item.sort) {
                None => _ = self.delete(item),
                Some(head) if layout::decode::<Head>(item)? == head => {}
                Some(_) if self.operations.len() >= self.room => self.more = true,
                Some(head) => {
                    let attributes = Json::from_serialize(&head)?;
                    self.report.bytes += item.attributes.len() as u64;
                    self.written += attributes.len() as u64;
                    self.operations.push(Operation::put(&item.sort, attributes, "", PutMode::Upsert));
                }
            }
        }
        Ok(())
    }

    /// Removes the unmarked chunks and nodes. The hints, which may name them, go before, and a node before what it lists: a
    /// writer counts on a piece because of a hint, and what lists a piece that is gone is no use to anybody.
    pub(super) async fn pieces(
        &mut self,
        store: &dyn CollectionStore,
        partition: &Partition,
        marked: &Marked,
    ) -> Result<()> {
        let listed = |prefix| all(store, Query::prefix(partition.clone(), prefix, 1000).without_bodies());
        let unmarked = async |prefix, stay: &HashSet<u128>| {
            let mut found = listed(prefix).await?;
            found.retain(|item| hash_of(item).is_none_or(|hash| !stay.contains(&hash)));
            Ok::<_, Error>(found)
        };
        let nodes = unmarked("m:", &marked.nodes).await?;
        let mut unneeded = parents_first(store, partition, nodes).await?;
        unneeded.extend(unmarked("k:", &marked.chunks).await?);
        if !unneeded.is_empty() {
            let hints = listed("h:").await?;
            hints.iter().chain(&unneeded).for_each(|item| _ = self.delete(item));
        }
        Ok(())
    }
}

fn hash_of(piece: &Item) -> Option<u128> {
    piece.sort.get(2..).and_then(|hash| u128::from_str_radix(hash, 16).ok())
}

/// Nodes, each before those that it lists.
async fn parents_first(
    store: &dyn CollectionStore,
    partition: &Partition,
    mut nodes: Vec<Item>,
) -> Result<Vec<Item>> {
    let sorts: Vec<&str> = nodes.iter().map(|item| item.sort.as_str()).collect();
    let mut lists = HashMap::new();
    for sorts in sorts.chunks(FETCHED) {
        for item in store.items(partition, sorts).await?.into_iter().flatten() {
            // One that is damaged goes, too, wherever.
            lists.extend(hash_of(&item).zip(split_hashes(&item.body)));
        }
    }
    let mut level: HashSet<u128> = lists.keys().copied().collect();
    let mut depths = HashMap::new();
    for depth in 0..=MOST_LEVELS {
        level.iter().for_each(|hash| _ = depths.insert(*hash, depth));
        level = level.iter().filter_map(|hash| lists.get(hash)).flatten().copied().collect();
    }
    nodes.sort_by_key(|item| hash_of(item).and_then(|hash| depths.get(&hash).copied()));
    Ok(nodes)
}

fn size(item: &Item) -> u64 {
    (item.sort.len() + item.attributes.len()) as u64 + item.body_bytes
}

/// What stays.
#[derive(Default)]
pub(super) struct Marked {
    values: HashSet<String>,
    nodes: HashSet<u128>,
    chunks: HashSet<u128>,
}

async fn mark(store: &dyn CollectionStore, survey: &Survey, gone: &Keys) -> Result<Marked> {
    let mut marked = Marked::default();
    let mut roots = Vec::new();
    let kept = survey.checkpoints.iter().filter(|(key, _)| !gone.contains(*key));
    let kept: Vec<(&str, &str)> =
        kept.map(|((ns, _), known)| (ns.as_str(), known.item.sort.as_str())).collect();
    for kept in kept.chunks(FETCHED) {
        let sorts: Vec<&str> = kept.iter().map(|(_, sort)| *sort).collect();
        let found = store.items(&survey.partition, &sorts).await?;
        for ((ns, sort), item) in kept.iter().zip(found) {
            let (versions, record) = split_body(&item.ok_or_else(|| layout::corrupt(sort))?)?;
            roots.push(record);
            let place = Place::by_key(&survey.partition, ns);
            let values = versions.iter().map(|(channel, version)| place.value(channel, version));
            marked.values.extend(values.filter(|sort| survey.values.contains_key(sort)));
        }
    }
    let writes = survey.writes.iter().filter(|(key, _)| !gone.contains(*key)).flat_map(|(_, items)| items);
    let metadata = survey.metadata.iter().filter(|(key, _)| !gone.contains(*key)).map(|(_, item)| item);
    let items = writes.chain(metadata).map(|item| item.sort.as_str());
    let sorts: Vec<&str> = items.chain(marked.values.iter().map(String::as_str)).collect();
    for sorts in sorts.chunks(FETCHED) {
        for (sort, item) in sorts.iter().zip(store.items(&survey.partition, sorts).await?) {
            roots.push(Record::decode(sort, &item.ok_or_else(|| layout::corrupt(sort))?.body)?);
        }
    }
    walk(store, &survey.partition, roots, &mut marked).await?;
    Ok(marked)
}

/// Marks all that trees list, level by level, each node once.
pub(super) async fn walk(
    store: &dyn CollectionStore,
    partition: &Partition,
    roots: Vec<Record>,
    marked: &mut Marked,
) -> Result<()> {
    let mut levels = BTreeMap::<u8, Vec<u128>>::new();
    for record in roots {
        if let Record::Tree { depth, root, .. } = record {
            levels.entry(depth).or_default().extend(root);
        }
    }
    while let Some((depth, hashes)) = levels.pop_last() {
        let Some(below) = depth.checked_sub(1) else {
            marked.chunks.extend(hashes);
            continue;
        };
        // The same node may stand at two depths only if it lists the same hashes: then they are marked at both.
        let new: Vec<u128> = hashes.into_iter().collect::<HashSet<_>>().into_iter().collect();
        let listed = nodes(store, partition, &new).await?;
        marked.nodes.extend(new);
        levels.entry(below).or_default().extend(listed.into_iter().flatten());
    }
    Ok(())
}
