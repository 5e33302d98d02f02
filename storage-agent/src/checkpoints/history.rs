//! Lists of checkpoints, and walks along their parents.

use std::{
    collections::{BTreeMap, HashSet},
    iter,
};

use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use serde_json::Value;
use storage_core::{
    CollectionStore, Error, ErrorKind, Item, Json, Order, Partition, Query, Result, StorageExt,
    prefix_successor, same_value,
};

use super::{
    CheckpointerBackend,
    blobs::TRIES,
    body::split_body,
    layout::{self, CheckpointAttributes, Place},
    metadata,
    read::{Ancestors, found, header, moved, pending, thread_id, value, value_items, write_items},
    types::{Checkpoint, CheckpointHeader, DeltaHistory, ListCheckpoints},
};
use crate::shared::THREADS;

/// How many checkpoints are looked at at once where a filter may refuse some.
const PAGE: usize = 256;
/// Of how many checkpoints metadata is loaded at once.
const LOADED: usize = 16;

impl CheckpointerBackend {
    /// Checkpoints without their values, the newest first. Within a thread as many are read as are returned, those apart
    /// that the filter refuses; over all threads, as many of each.
    ///
    /// # Errors
    /// As the store.
    pub async fn list(&self, list: &ListCheckpoints) -> Result<Vec<CheckpointHeader>> {
        let work = async {
            let store = self.store()?;
            let most = list.limit.unwrap_or(usize::MAX);
            let Some(thread_id) = &list.thread_id else {
                let mut threads = self.shared.storage.partitions(THREADS, &[]);
                let mut newest = Vec::new();
                while let Some(info) = threads.try_next().await? {
                    let Some(thread_id) = thread_id(store, &info.partition).await? else { continue };
                    newest.extend(of_thread(store, &thread_id, list, most).await?);
                    newest.sort_by(|a: &CheckpointHeader, b| order(b).cmp(&order(a)));
                    newest.truncate(most);
                }
                return Ok(newest);
            };
            of_thread(store, thread_id, list, most).await
        };
        self.shared.measured("checkpointer.list", work).await
    }

    /// Checkpoints with their values and writes, the newest first. Where a pruning takes one of them meanwhile all are looked at
    /// again, so that none is missing between two others.
    ///
    /// # Errors
    /// `Conflict` where they are pruned all the time; else as [`get`](Self::get).
    pub async fn list_whole(&self, list: &ListCheckpoints) -> Result<Vec<Checkpoint>> {
        let work = async {
            for _ in 0..TRIES {
                let headers = self.list(list).await?;
                let whole = stream::iter(headers).map(|CheckpointHeader { key, .. }| async move {
                    self.get(&key.thread_id, &key.checkpoint_ns, Some(&key.checkpoint_id)).await
                });
                let whole: Vec<_> = whole.buffered(LOADED).try_collect().await?;
                if let Some(whole) = whole.into_iter().collect() {
                    return Ok(whole);
                }
            }
            Err(Error::new(ErrorKind::Conflict, "the checkpoints are pruned all the time"))
        };
        self.shared.measured("checkpointer.list_whole", Box::pin(work)).await
    }

    /// What a checkpoint's ancestors contributed to channels: their writes on the path of parents, from the nearest
    /// ancestor that has a value of the channel on, and that value. Without an id, of the latest checkpoint.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delta_history(
        &self,
        thread_id: &str,
        checkpoint_ns: &str,
        checkpoint_id: Option<&str>,
        channels: &[&str],
    ) -> Result<BTreeMap<String, DeltaHistory>> {
        let work = async {
            let place = Place::new(thread_id, checkpoint_ns)?;
            let store = self.store()?;
            for _ in 0..TRIES {
                let target = found(store, &place, checkpoint_id).await?;
                let walked = walk(store, &place, target.as_ref(), channels).await;
                let Some(target) = target else { return walked };
                // A pruning takes a checkpoint and its ancestors at once: while it is there, so are those it needs.
                let again = store.items(&place.partition, &[&target.sort]).await?.pop().flatten();
                if again.is_some_and(|again| again.version == target.version) {
                    return walked;
                }
            }
            Err(moved(&place))
        };
        self.shared.measured("checkpointer.delta_history", work).await
    }
}

/// Walks from a checkpoint along its parents.
async fn walk(
    store: &dyn CollectionStore,
    place: &Place,
    target: Option<&Item>,
    channels: &[&str],
) -> Result<BTreeMap<String, DeltaHistory>> {
    let parent_of = |item: &Item| Ok::<_, Error>(layout::decode::<CheckpointAttributes>(item)?.parent);
    let id_of = |item: &Item| layout::checkpoint_parts(&item.sort).map(|(_, id)| id);
    let mut histories: BTreeMap<String, DeltaHistory> =
        channels.iter().map(|channel| ((*channel).to_owned(), DeltaHistory::default())).collect();
    let mut open: HashSet<String> = histories.keys().cloned().collect();
    let mut parent = target.map(parent_of).transpose()?.flatten();
    let mut ancestors = Ancestors::new(store, place);
    // Parents may form a circle: nothing keeps a checkpoint from naming a later one.
    let mut seen: HashSet<String> = target.and_then(id_of).into_iter().collect();
    while let Some(id) = parent.filter(|id| !open.is_empty() && seen.insert(id.clone())) {
        let Some(item) = ancestors.take(&id).await? else { break };
        contribute(store, place, &id, &split_body(&item)?.0, &mut histories, &mut open).await?;
        parent = parent_of(&item)?;
    }
    histories.values_mut().for_each(|history| history.writes.reverse());
    Ok(histories)
}

/// Adds an ancestor's writes, the latest first, to the open channels, and closes those it has a value of.
async fn contribute(
    store: &dyn CollectionStore,
    place: &Place,
    id: &str,
    versions: &super::types::ChannelVersions,
    histories: &mut BTreeMap<String, DeltaHistory>,
    open: &mut HashSet<String>,
) -> Result<()> {
    let wanted = versions.iter().filter(|(channel, _)| open.contains(*channel));
    let (writes, values) = futures::try_join!(
        write_items(store, place, id),
        value_items(store, place, wanted.clone(), iter::empty())
    )?;
    for write in pending(store, place, &writes).await?.into_iter().rev() {
        if open.contains(&write.channel)
            && let Some(history) = histories.get_mut(&write.channel)
        {
            history.writes.push(write);
        }
    }
    let stored: Vec<_> = wanted
        .filter_map(|(channel, version)| Some((channel, values.get(&place.value(channel, version))?)))
        .collect();
    for (channel, item) in stored {
        let seed = value(store, place, item).await?;
        if let Some(history) = histories.get_mut(channel).filter(|_| seed.is_some()) {
            history.seed = seed;
            open.remove(channel);
        }
    }
    Ok(())
}

fn order(header: &CheckpointHeader) -> (&str, &str, &str) {
    (&header.key.checkpoint_id, &header.key.thread_id, &header.key.checkpoint_ns)
}

async fn of_thread(
    store: &dyn CollectionStore,
    thread_id: &str,
    list: &ListCheckpoints,
    most: usize,
) -> Result<Vec<CheckpointHeader>> {
    let partition = layout::thread(thread_id)?;
    let size = if list.filter.is_empty() { most.min(PAGE) } else { PAGE };
    let mut headers = Vec::new();
    let mut next = (most > 0).then(|| range(&partition, thread_id, list, size)).transpose()?;
    while let Some(query) = next {
        let page = store.query(query.clone()).await?;
        next = query.after(&page);
        let items =
            if list.checkpoint_ns.is_some() { page.items } else { indexed(store, &partition, &page).await? };
        for items in items.chunks(LOADED) {
            let listed = items.iter().map(|item| listed(store, &partition, thread_id, item, list));
            headers.extend(try_join_all(listed).await?.into_iter().flatten());
            if headers.len() >= most {
                headers.truncate(most);
                return Ok(headers);
            }
        }
    }
    Ok(headers)
}

fn range(partition: &Partition, thread_id: &str, list: &ListCheckpoints, size: usize) -> Result<Query> {
    let place = list.checkpoint_ns.as_ref().map(|ns| Place::new(thread_id, ns)).transpose()?;
    let key =
        |id: &String| place.as_ref().map_or_else(|| layout::index(id, ""), |place| place.checkpoint(id));
    let prefix = place.as_ref().map_or_else(|| "i:".to_owned(), Place::checkpoints);
    let (to, only) = (list.before.as_ref().map(key), list.checkpoint_id.as_ref().map(key));
    for (id, key) in [(&list.before, &to), (&list.checkpoint_id, &only)] {
        if let (Some(id), Some(key)) = (id, key) {
            layout::check_room(id, key.len())?;
        }
    }
    let mut query = Query::prefix(partition.clone(), &prefix, size).order(Order::Descending).without_bodies();
    if let Some(only) = only {
        // In the index the namespace follows.
        let end = place.map_or_else(|| prefix_successor(&only), |_| Some(format!("{only}\u{1}")));
        (query.from, query.to) = (only, end);
    }
    if let Some(to) = to {
        query.to = Some(query.to.map_or(to.clone(), |end| end.min(to)));
    }
    Ok(query)
}

/// The checkpoints that an index page names.
async fn indexed(
    store: &dyn CollectionStore,
    partition: &Partition,
    page: &storage_core::Page,
) -> Result<Vec<Item>> {
    let named = page.items.iter().map(|item| {
        let (ns, id) = layout::index_parts(&item.sort).ok_or_else(|| layout::corrupt(&item.sort))?;
        Ok(Place::by_key(partition, &ns).checkpoint(&id))
    });
    let sorts = named.collect::<Result<Vec<String>>>()?;
    let keys: Vec<&str> = sorts.iter().map(String::as_str).collect();
    Ok(store.items(partition, &keys).await?.into_iter().flatten().collect())
}

/// The header of a checkpoint that a filter lets through, with its whole metadata; `None` also where it was removed meanwhile.
async fn listed(
    store: &dyn CollectionStore,
    partition: &Partition,
    thread_id: &str,
    item: &Item,
    list: &ListCheckpoints,
) -> Result<Option<CheckpointHeader>> {
    let (filter, loose) = (&list.filter, list.bools_are_numbers);
    let attributes: CheckpointAttributes = layout::decode(item)?;
    let kept: Vec<_> = filter.iter().filter(|(name, _)| !attributes.may_have_moved(name)).collect();
    if !matches(&attributes.metadata, &kept, loose)? {
        return Ok(None);
    }
    if attributes.moved.is_none() {
        return header(thread_id, item, attributes).map(Some);
    }
    let Some((item, metadata)) = metadata::whole(store, partition, item.clone()).await? else {
        return Ok(None);
    };
    let matches = matches(&metadata, &filter.iter().collect::<Vec<_>>(), loose)?;
    let header = header(thread_id, &item, CheckpointAttributes { metadata, ..layout::decode(&item)? })?;
    Ok(matches.then_some(header))
}

fn matches(metadata: &Json, filter: &[(&String, &Value)], loose: bool) -> Result<bool> {
    if filter.is_empty() {
        return Ok(true);
    }
    let members: Value = metadata.decode()?;
    let same = |found: &Value, wanted: &Value| {
        same_value(found, wanted) || (loose && same_value(&without_bools(found), &without_bools(wanted)))
    };
    Ok(filter.iter().all(|(name, wanted)| same(members.get(name).unwrap_or(&Value::Null), wanted)))
}

/// The value with 1 for true and 0 for false.
fn without_bools(value: &Value) -> Value {
    match value {
        Value::Bool(bool) => u8::from(*bool).into(),
        Value::Array(values) => values.iter().map(without_bools).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), without_bools(value))).collect()
        }
        other => other.clone(),
    }
}
