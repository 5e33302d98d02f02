//! What a thread holds, without bodies.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use serde_json::Value;
use storage_core::{CollectionStore, Item, Partition, Query, Result};

use super::{
    body::split_body,
    layout::{self, CheckpointAttributes, Place, corrupt},
    metadata,
    pages::all,
    read::found,
    types::CheckpointKey,
};
use crate::shared::is_tag;

/// Namespace, as it stands in keys, and checkpoint id.
type Key = (String, String);

/// Checkpoints by namespace and id.
pub(super) type Keys = BTreeSet<Key>;

/// A checkpoint, its values unread.
#[derive(Debug)]
pub(super) struct Known {
    /// The namespace, where it stands in keys as a hash.
    pub(super) ns: Option<String>,
    pub(super) parent: Option<String>,
    /// The metadata: all of what prunings look at, and of the rest what is small.
    pub(super) metadata: BTreeMap<String, Value>,
    /// Whether all of it is elsewhere, too.
    has_moved: bool,
    pub(super) written_at: SystemTime,
    pub(super) item: Item,
}

impl Known {
    /// Whether its metadata has a tag. One that is large, and so elsewhere, is one.
    pub(super) fn has_tag(&self, tag: &str) -> bool {
        match self.metadata.get(tag) {
            None if self.has_moved => layout::decode::<CheckpointAttributes>(&self.item)
                .is_ok_and(|attributes| attributes.may_have_moved(tag)),
            member => is_tag(member),
        }
    }
}

/// The items of a thread.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) partition: Partition,
    pub(super) thread_id: String,
    pub(super) checkpoints: BTreeMap<Key, Known>,
    /// Metadata that is large.
    pub(super) metadata: BTreeMap<Key, Item>,
    pub(super) writes: BTreeMap<Key, Vec<Item>>,
    pub(super) values: BTreeMap<String, Item>,
    pub(super) heads: Vec<Item>,
}

impl Survey {
    pub(super) async fn of(store: &dyn CollectionStore, thread_id: &str) -> Result<Self> {
        let partition = &layout::thread(thread_id)?;
        let listed = |prefix| all(store, Query::prefix(partition.clone(), prefix, 1000).without_bodies());
        let checkpoints = checkpoints(store, partition).await?;
        let mut metadata = BTreeMap::new();
        if checkpoints.values().any(|known| known.has_moved) {
            for item in listed("n:").await? {
                let key = layout::checkpoint_parts(&item.sort).ok_or_else(|| corrupt(&item.sort))?;
                metadata.insert(key, item);
            }
        }
        let mut writes = BTreeMap::<Key, Vec<Item>>::new();
        for item in listed("w:").await? {
            let (ns, id, ..) = layout::write_parts(&item.sort).ok_or_else(|| corrupt(&item.sort))?;
            writes.entry((ns, id)).or_default().push(item);
        }
        let values = listed("v:").await?.into_iter().map(|item| (item.sort.clone(), item)).collect();
        let heads = listed("l:").await?;
        let (partition, thread_id) = (partition.clone(), thread_id.to_owned());
        Ok(Self { partition, thread_id, checkpoints, metadata, writes, values, heads })
    }

    /// What a checkpoint is called.
    pub(super) fn key(&self, key @ (in_keys, id): &Key) -> Option<CheckpointKey> {
        let ns = self.checkpoints.get(key)?.ns.as_ref().unwrap_or(in_keys);
        Some(CheckpointKey::new(&self.thread_id, ns, id))
    }

    /// The namespaces, as they stand in keys, with their ids, the oldest first.
    pub(super) fn namespaces(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut namespaces = BTreeMap::<&str, Vec<&str>>::new();
        for (ns, id) in self.checkpoints.keys() {
            namespaces.entry(ns).or_default().push(id);
        }
        namespaces
    }

    pub(super) fn parent(&self, ns: &str, id: &str) -> Option<String> {
        let parent = self.checkpoints.get(&(ns.to_owned(), id.to_owned()))?.parent.clone()?;
        self.checkpoints.contains_key(&(ns.to_owned(), parent.clone())).then_some(parent)
    }

    /// Those of the channels that have no value at a checkpoint.
    pub(super) async fn without_value(
        &self,
        store: &dyn CollectionStore,
        ns: &str,
        id: &str,
        channels: Vec<String>,
    ) -> Result<Vec<String>> {
        let place = Place::by_key(&self.partition, ns);
        let Some(item) = found(store, &place, Some(id)).await? else {
            return Err(corrupt(&place.checkpoint(id)));
        };
        let (versions, _) = split_body(&item)?;
        let empty = |channel: &String| {
            let stored =
                versions.get(channel).and_then(|version| self.values.get(&place.value(channel, version)));
            stored.is_none_or(|item| item.attributes.as_str() == "null")
        };
        Ok(channels.into_iter().filter(empty).collect())
    }
}

/// The checkpoints of a thread; without those that are removed meanwhile.
pub(super) async fn checkpoints(
    store: &dyn CollectionStore,
    partition: &Partition,
) -> Result<BTreeMap<Key, Known>> {
    let listed = all(store, Query::prefix(partition.clone(), "c:", 1000).without_bodies()).await?;
    let mut checkpoints = BTreeMap::new();
    for item in listed {
        let key = layout::checkpoint_parts(&item.sort).ok_or_else(|| corrupt(&item.sort))?;
        checkpoints.extend(known(store, partition, item).await?.map(|known| (key, known)));
    }
    Ok(checkpoints)
}

async fn known(store: &dyn CollectionStore, partition: &Partition, item: Item) -> Result<Option<Known>> {
    let mut attributes: CheckpointAttributes = layout::decode(&item)?;
    if metadata::NEEDED.iter().any(|name| attributes.may_have_moved(name)) {
        let Some((item, whole)) = metadata::whole(store, partition, item.clone()).await? else {
            return Ok(None);
        };
        attributes = CheckpointAttributes { metadata: whole, ..layout::decode(&item)? };
    }
    let CheckpointAttributes { parent, ns, metadata, moved, .. } = attributes;
    let (metadata, has_moved) = (metadata.decode()?, moved.is_some());
    Ok(Some(Known { ns, parent, metadata, has_moved, written_at: item.written_at, item }))
}
