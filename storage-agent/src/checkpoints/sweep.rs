//! The removal of checkpoints with everything that only they need: what stays is marked, the rest goes.

use std::collections::{BTreeMap, HashSet};

use storage_core::{CollectionStore, Item, Json, Operation, Partition, PutMode, Query, Result};

use super::{
    blobs::{FETCHED, nodes},
    layout::{self, Head, Place},
    read::{all, split_body},
    record::Record,
    retention::Keys,
    survey::Survey,
    types::{CheckpointKey, PruneReport},
};

/// What is done, and how much that frees.
#[derive(Default)]
struct Plan {
    operations: Vec<Operation>,
    bytes: u64,
    written: u64,
}

impl Plan {
    fn delete(&mut self, item: &Item) {
        self.bytes += size(item);
        self.operations.push(Operation::Delete { sort: item.sort.clone() });
    }
}

fn size(item: &Item) -> u64 {
    (item.sort.len() + item.attributes.len()) as u64 + item.body_bytes
}

/// The operations that remove the `doomed` checkpoints, and what goes with them.
pub(super) async fn plan(
    store: &dyn CollectionStore,
    survey: &Survey,
    doomed: &Keys,
) -> Result<(PruneReport, Vec<Operation>)> {
    let mut plan = Plan::default();
    let mut report = PruneReport::default();
    checkpoints(survey, doomed, &mut plan, &mut report);
    for key in doomed {
        for item in survey.writes.get(key).into_iter().flatten() {
            plan.delete(item);
            report.writes += 1;
        }
    }
    heads(survey, doomed, &mut plan)?;
    let marked = mark(store, survey, doomed).await?;
    for (sort, item) in &survey.values {
        if !marked.values.contains(sort) {
            plan.delete(item);
            report.values += 1;
        }
    }
    pieces(store, &survey.partition, &marked).await?.iter().for_each(|item| plan.delete(item));
    report.bytes = plan.bytes.saturating_sub(plan.written);
    Ok((report, plan.operations))
}

fn checkpoints(survey: &Survey, doomed: &Keys, plan: &mut Plan, report: &mut PruneReport) {
    for (ns, id) in doomed {
        if let Some(known) = survey.checkpoints.get(&(ns.clone(), id.clone())) {
            plan.delete(&known.item);
            let index = layout::index(id, ns);
            plan.bytes += index.len() as u64 + super::blobs::null().len() as u64;
            plan.operations.push(Operation::Delete { sort: index });
            report.checkpoints.push(CheckpointKey::new(&survey.thread_id, ns, id));
        }
    }
}

/// Each namespace's latest checkpoint and count, where they change.
fn heads(survey: &Survey, doomed: &Keys, plan: &mut Plan) -> Result<()> {
    let mut left = BTreeMap::<&str, Head>::new();
    for (ns, id) in survey.checkpoints.keys().filter(|key| !doomed.contains(*key)) {
        // In order, so that the last id is the greatest.
        let count = left.get(ns.as_str()).map_or(1, |head| head.count + 1);
        left.insert(ns, Head { id: id.clone(), count });
    }
    let mut left: BTreeMap<String, Head> = left
        .into_iter()
        .map(|(ns, head)| Ok((Place::new(&survey.thread_id, ns)?.head(), head)))
        .collect::<Result<_>>()?;
    for item in &survey.heads {
        match left.remove(&item.sort) {
            None => plan.delete(item),
            Some(head) if layout::decode::<Head>(item)? == head => {}
            Some(head) => {
                let attributes = Json::from_serialize(&head)?;
                plan.bytes += item.attributes.len() as u64;
                plan.written += attributes.len() as u64;
                plan.operations.push(Operation::put(&item.sort, attributes, "", PutMode::Upsert));
            }
        }
    }
    Ok(())
}

/// What stays.
#[derive(Default)]
pub(super) struct Marked {
    values: HashSet<String>,
    nodes: HashSet<u128>,
    chunks: HashSet<u128>,
}

async fn mark(store: &dyn CollectionStore, survey: &Survey, doomed: &Keys) -> Result<Marked> {
    let mut marked = Marked::default();
    let mut roots = Vec::new();
    let kept = survey.checkpoints.iter().filter(|(key, _)| !doomed.contains(*key));
    let kept: Vec<(&str, &str)> =
        kept.map(|((ns, _), known)| (ns.as_str(), known.item.sort.as_str())).collect();
    for kept in kept.chunks(FETCHED) {
        let sorts: Vec<&str> = kept.iter().map(|(_, sort)| *sort).collect();
        let found = store.items(&survey.partition, &sorts).await?;
        for ((ns, sort), item) in kept.iter().zip(found) {
            let (versions, record) = split_body(&item.ok_or_else(|| layout::corrupt(sort))?)?;
            roots.push(record);
            let place = Place::new(&survey.thread_id, ns)?;
            let values = versions.iter().map(|(channel, version)| place.value(channel, version));
            marked.values.extend(values.filter(|sort| survey.values.contains_key(sort)));
        }
    }
    let writes = survey.writes.iter().filter(|(key, _)| !doomed.contains(*key)).flat_map(|(_, items)| items);
    let sorts = writes.map(|item| item.sort.as_str()).chain(marked.values.iter().map(String::as_str));
    let sorts: Vec<&str> = sorts.collect();
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

/// The unmarked chunks and nodes, and with them the hints, which may name them: what goes.
pub(super) async fn pieces(
    store: &dyn CollectionStore,
    partition: &Partition,
    marked: &Marked,
) -> Result<Vec<Item>> {
    let listed = |prefix| all(store, Query::prefix(partition.clone(), prefix, 1000).without_bodies());
    let mut unneeded = Vec::new();
    for (prefix, stay) in [("m:", &marked.nodes), ("k:", &marked.chunks)] {
        let hash = |item: &Item| item.sort.get(2..).and_then(|hash| u128::from_str_radix(hash, 16).ok());
        let found = listed(prefix).await?;
        unneeded.extend(found.into_iter().filter(|item| hash(item).is_none_or(|hash| !stay.contains(&hash))));
    }
    if !unneeded.is_empty() {
        unneeded.extend(listed("h:").await?);
    }
    Ok(unneeded)
}
