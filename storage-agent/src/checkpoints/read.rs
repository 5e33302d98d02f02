//! How checkpoints come out.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures::future::try_join_all;
use storage_core::{CollectionStore, Error, ErrorKind, Item, MAX_KEY_BYTES, Order, Partition, Query, Result};

use super::{
    CheckpointerBackend,
    blobs::{TRIES, load},
    body::split_body,
    layout::{self, CheckpointAttributes, NAMED, Named, Place, WriteAttributes, corrupt, metadata_of},
    metadata,
    pages::all,
    record::Record,
    types::{Checkpoint, CheckpointHeader, CheckpointKey, Payload, PendingWrite, Version},
};

const PAGE: usize = 1000;

/// The header of a checkpoint, of whose metadata some may be elsewhere.
pub(super) fn header(
    thread_id: &str,
    item: &Item,
    attributes: CheckpointAttributes,
) -> Result<CheckpointHeader> {
    let (in_keys, checkpoint_id) = layout::checkpoint_parts(&item.sort).ok_or_else(|| corrupt(&item.sort))?;
    let CheckpointAttributes { parent, ns, metadata, .. } = attributes;
    let checkpoint_ns = ns.unwrap_or(in_keys);
    let key = CheckpointKey { thread_id: thread_id.to_owned(), checkpoint_ns, checkpoint_id };
    Ok(CheckpointHeader { key, parent_id: parent, metadata, written_at: item.written_at })
}

impl CheckpointerBackend {
    /// A checkpoint, or without an id the latest of the namespace: the one with the greatest id.
    ///
    /// # Errors
    /// `Corrupt` naming an item that is damaged; else as the store.
    pub async fn get(
        &self,
        thread_id: &str,
        checkpoint_ns: &str,
        checkpoint_id: Option<&str>,
    ) -> Result<Option<Checkpoint>> {
        let work = async {
            let place = Place::new(thread_id, checkpoint_ns)?;
            let store = self.store()?;
            let mut tries = 1;
            loop {
                let Some(item) = found(store, &place, checkpoint_id).await? else { return Ok(None) };
                match complete(store, thread_id, &place, &item).await {
                    Ok(Some(checkpoint)) => return Ok(Some(checkpoint)),
                    Err(error) if error.kind() != ErrorKind::Corrupt || tries >= TRIES => return Err(error),
                    Ok(None) if tries >= TRIES => return Err(moved(&place)),
                    Ok(None) | Err(_) => tries += 1,
                }
            }
        };
        self.shared.measured("checkpointer.get", work).await
    }
}

/// The id of a partition's thread; `None` where there is no thread any more.
pub(super) async fn thread_id(store: &dyn CollectionStore, partition: &Partition) -> Result<Option<String>> {
    if let Some(id) = layout::thread_id(partition) {
        return Ok(Some(id));
    }
    let named = store.items(partition, &[NAMED]).await?.pop().flatten();
    named.map(|item| Ok(layout::decode::<Named>(&item)?.id)).transpose()
}

pub(super) fn moved(place: &Place) -> Error {
    Error::new(ErrorKind::Conflict, "the checkpoint is rewritten all the time")
        .with_key(place.partition.as_str())
}

/// The item of a checkpoint, or of the latest.
pub(super) async fn found(
    store: &dyn CollectionStore,
    place: &Place,
    id: Option<&str>,
) -> Result<Option<Item>> {
    if let Some(id) = id {
        let found = store.items(&place.partition, &[&place.checkpoint(id)]).await?;
        return Ok(found.into_iter().next().flatten());
    }
    let latest = Query::prefix(place.partition.clone(), &place.checkpoints(), 1).order(Order::Descending);
    Ok(store.query(latest).await?.items.into_iter().next())
}

/// Adds what belongs to a checkpoint; `None` where it was pruned or rewritten meanwhile.
async fn complete(
    store: &dyn CollectionStore,
    thread_id: &str,
    place: &Place,
    item: &Item,
) -> Result<Option<Checkpoint>> {
    let attributes: CheckpointAttributes = layout::decode(item)?;
    let kind = attributes.kind.clone();
    let moved = attributes.moved.is_some().then(|| metadata_of(&item.sort));
    let mut header = header(thread_id, item, attributes)?;
    let (versions, record) = split_body(item)?;
    let writes = write_items(store, place, &header.key.checkpoint_id).await?;
    // The checkpoint is looked at again after the writes, together with its values: a pruning takes all of them at once.
    let also = moved.as_deref().into_iter().chain([item.sort.as_str()]);
    let values = value_items(store, place, versions.iter(), also).await?;
    if values.get(&item.sort).is_none_or(|again| again.version != item.version) {
        return Ok(None);
    }
    let present = versions.iter().filter_map(|(channel, version)| {
        Some((channel.clone(), values.get(&place.value(channel, version))?))
    });
    let loaded =
        present.map(|(channel, item)| async move { Ok((channel, value(store, place, item).await?)) });
    let whole = async {
        let Some(sort) = &moved else { return Ok(None) };
        let whole = values.get(sort).ok_or_else(|| corrupt(sort))?;
        metadata::text(store, &place.partition, whole).await.map(Some)
    };
    let (checkpoint, whole, values, pending_writes) = futures::try_join!(
        payload(store, place, kind, record),
        whole,
        try_join_all(loaded),
        pending(store, place, &writes)
    )?;
    header.metadata = whole.unwrap_or(header.metadata);
    let channel_values = values.into_iter().filter_map(|(channel, value)| Some((channel, value?))).collect();
    Ok(Some(Checkpoint { header, checkpoint, channel_versions: versions, channel_values, pending_writes }))
}

pub(super) async fn value_items<'a>(
    store: &dyn CollectionStore,
    place: &Place,
    versions: impl Iterator<Item = (&'a String, &'a Version)>,
    also: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Item>> {
    let mut sorts: Vec<String> = versions.map(|(channel, version)| place.value(channel, version)).collect();
    sorts.extend(also.map(str::to_owned));
    let keys: Vec<&str> = sorts.iter().map(String::as_str).collect();
    let found = store.items(&place.partition, &keys).await?;
    Ok(found.into_iter().flatten().map(|item| (item.sort.clone(), item)).collect())
}

/// The value of a channel; `None` where it is empty.
pub(super) async fn value(
    store: &dyn CollectionStore,
    place: &Place,
    item: &Item,
) -> Result<Option<Payload>> {
    let Some(kind) = layout::decode::<Option<String>>(item)? else { return Ok(None) };
    let record = Record::decode(&item.sort, &item.body)?;
    Ok(Some(payload(store, place, kind, record).await?))
}

async fn payload(
    store: &dyn CollectionStore,
    place: &Place,
    kind: String,
    record: Record,
) -> Result<Payload> {
    let bytes: Option<Bytes> = load(store, &place.partition, record).await?;
    Ok(Payload { kind, bytes })
}

pub(super) async fn write_items(store: &dyn CollectionStore, place: &Place, id: &str) -> Result<Vec<Item>> {
    all(store, Query::prefix(place.partition.clone(), &place.writes(id), PAGE)).await
}

/// Writes in the order in which live execution applies them.
pub(super) async fn pending(
    store: &dyn CollectionStore,
    place: &Place,
    items: &[Item],
) -> Result<Vec<PendingWrite>> {
    let mut writes = try_join_all(items.iter().map(|item| pending_write(store, place, item))).await?;
    writes.sort_by(|a, b| (&a.task_path, &a.task_id, a.index).cmp(&(&b.task_path, &b.task_id, b.index)));
    Ok(writes)
}

async fn pending_write(store: &dyn CollectionStore, place: &Place, item: &Item) -> Result<PendingWrite> {
    let (_, _, in_key, index) = layout::write_parts(&item.sort).ok_or_else(|| corrupt(&item.sort))?;
    let WriteAttributes { path, channel, task, kind } = layout::decode(item)?;
    let task_id = task.unwrap_or(in_key);
    let record = Record::decode(&item.sort, &item.body)?;
    let value = payload(store, place, kind, record).await?;
    Ok(PendingWrite { task_id, task_path: path, index, channel, value })
}

/// Checkpoints by id, for walks that mostly go from one to the next older one.
pub(super) struct Ancestors<'a> {
    pub(super) store: &'a dyn CollectionStore,
    pub(super) place: &'a Place,
    read: BTreeMap<String, Item>,
}

impl<'a> Ancestors<'a> {
    pub(super) fn new(store: &'a dyn CollectionStore, place: &'a Place) -> Self {
        Self { store, place, read: BTreeMap::new() }
    }

    /// Takes a checkpoint out.
    pub(super) async fn take(&mut self, id: &str) -> Result<Option<Item>> {
        let sort = self.place.checkpoint(id);
        if sort.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        if let Some(item) = self.read.remove(&sort) {
            return Ok(Some(item));
        }
        let to = Some(format!("{sort}\u{1}"));
        let query = Query::range(self.place.partition.clone(), self.place.checkpoints(), to, 64);
        let page = self.store.query(query.order(Order::Descending)).await?;
        self.read = page.items.into_iter().map(|item| (item.sort.clone(), item)).collect();
        Ok(self.read.remove(&sort))
    }
}
