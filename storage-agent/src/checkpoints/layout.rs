//! Where things are in a thread's partition.
//!
//! | sort key | item |
//! |---|---|
//! | `c:{ns}:{id}` | a checkpoint: parent, type and metadata in the attributes; versions and payload in the body |
//! | `n:{ns}:{id}` | a checkpoint's whole metadata, where it is large: a payload |
//! | `i:{id}{ns}` | the same order over all namespaces |
//! | `w:{ns}:{id}:{task}:{index}` | a write |
//! | `v:{ns}:{channel}:{version}` | a channel's value |
//! | `k:{hash}`, `m:{hash}` | a chunk of payloads; a node of the tree that lists them |
//! | `h:{ns}:{channel}` | a hint: hashes that a channel's next value is likely to share |
//! | `l:{ns}` | the greatest checkpoint id of a namespace, and how many there are |
//! | `l-deleted` | that the thread was deleted: its greatest checkpoint id |
//! | `l-copying` | that a copy is on its way into the thread, which is not one yet |
//! | `l-named` | the thread's id, where that of the partition is a hash of it |
//! | `e`, `e:{number}:{nonce}` | the epoch that may write: its number and nonce, and what its writers depend on |
//!
//! The id ends its key unescaped, so that keys order as ids do. For names that are too long a hash stands in keys: for a
//! namespace instead of it, for a task as `{hash}::{index}`, for a channel and version as `{hash}`, for a channel's hint as
//! `{hash}:`, which no short name leads to. The first two stand whole in the attributes, the others in the checkpoint's body.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use storage_core::{
    Error, ErrorKind, Item, Json, MAX_KEY_BYTES, Operation, Partition, PutMode, Result, sort_key,
    sort_key_segments,
};

use super::{
    names::{check_name, fitting, hashed, is_hashed, namespace_in_keys, thread_in_keys},
    types::{Version, check_id},
};
use crate::shared::THREADS;

/// The item that says which epoch may write.
pub(super) const CLAIM: &str = "e";
/// The item that says that the thread was deleted. A query from here to the heads' end reads it, the next and all heads.
pub(super) const DELETED: &str = "l-deleted";
/// The item that says that a copy is on its way.
pub(crate) const COPYING: &str = "l-copying";

/// The item that says what a thread is called whose partition has a hash as its name.
pub(super) const NAMED: &str = "l-named";

/// A payload of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Checkpoint,
    Metadata,
    Channel(&'a str),
}

/// A namespace of a thread.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) partition: Partition,
    /// As it stands in keys.
    pub(super) ns: String,
}

impl Place {
    pub(super) fn new(thread_id: &str, ns: &str) -> Result<Self> {
        check_name("namespace", ns)?;
        Ok(Self { partition: thread(thread_id)?, ns: namespace_in_keys(ns).into_owned() })
    }

    /// By the namespace as it stands in keys.
    pub(super) fn by_key(partition: &Partition, ns: &str) -> Self {
        Self { partition: partition.clone(), ns: ns.to_owned() }
    }

    /// The namespace `ns`, which is this place's, for the attributes: `None` where it stands in keys as it is.
    pub(super) fn whole(&self, ns: &str) -> Option<String> {
        is_hashed(&self.ns).then(|| ns.to_owned())
    }

    /// Checks that an id fits the keys of a checkpoint and of its writes.
    pub(super) fn check_id(&self, id: &str) -> Result<()> {
        check_id(id)?;
        // A hash, two colons, and an index.
        let write = self.writes(id).len() + hashed(id).len() + 2 + 5;
        check_room(id, write.max(index(id, &self.ns).len()))
    }

    pub(super) fn checkpoints(&self) -> String {
        format!("{}:", sort_key(&["c", &self.ns]))
    }

    pub(super) fn checkpoint(&self, id: &str) -> String {
        format!("{}{id}", self.checkpoints())
    }

    pub(super) fn metadata(&self, id: &str) -> String {
        format!("{}:{id}", sort_key(&["n", &self.ns]))
    }

    pub(super) fn writes(&self, id: &str) -> String {
        format!("{}:", sort_key(&["w", &self.ns, id]))
    }

    /// The key of a write, and the task's id where it does not stand there as it is.
    pub(super) fn write(&self, id: &str, task_id: &str, index: i64) -> (String, Option<String>) {
        let index = index.to_string();
        let key = sort_key(&["w", &self.ns, id, task_id, &index]);
        let fits = key.len() <= MAX_KEY_BYTES;
        let key = fitting(key, || sort_key(&["w", &self.ns, id, &hashed(task_id), "", &index]));
        (key, (!fits).then(|| task_id.to_owned()))
    }

    pub(super) fn value(&self, channel: &str, version: &Version) -> String {
        let names = sort_key(&[channel, &version.segment()]);
        fitting(format!("{}:{names}", sort_key(&["v", &self.ns])), || {
            sort_key(&["v", &self.ns, &hashed(&names)])
        })
    }

    /// The hint of what is stored as this part of checkpoints.
    pub(super) fn hint(&self, part: Part<'_>) -> String {
        match part {
            Part::Channel(channel) => fitting(sort_key(&["h", &self.ns, channel]), || {
                sort_key(&["h", &self.ns, &hashed(channel), ""])
            }),
            Part::Checkpoint => sort_key(&["h", &self.ns]),
            Part::Metadata => sort_key(&["h", &self.ns, "", "metadata"]),
        }
    }

    pub(super) fn head(&self) -> String {
        sort_key(&["l", &self.ns])
    }
}

pub(crate) fn thread(thread_id: &str) -> Result<Partition> {
    check_name("thread id", thread_id)?;
    Partition::new(THREADS, &[&thread_in_keys(thread_id, THREADS)])
}

/// The id of a partition's thread; `None` where an item within it says that.
pub(super) fn thread_id(partition: &Partition) -> Option<String> {
    let in_keys = partition.segments().into_iter().next().unwrap_or_default();
    (!is_hashed(&in_keys)).then_some(in_keys)
}

/// The item that says what the partition's thread is called, where it has to.
pub(super) fn named(partition: &Partition, thread_id: &str) -> Result<Option<Operation>> {
    if self::thread_id(partition).is_some() {
        return Ok(None);
    }
    let named = Json::from_serialize(&Named { id: thread_id.to_owned() })?;
    Ok(Some(Operation::put(NAMED, named, "", PutMode::InsertIfAbsent)))
}

/// Checks that an id has room in a key of so many bytes that it is in.
pub(super) fn check_room(id: &str, key: usize) -> Result<()> {
    let Some(over) = key.checked_sub(MAX_KEY_BYTES + 1) else { return Ok(()) };
    let (has, room) = (id.len(), id.len().saturating_sub(over + 1));
    let message = format!("a checkpoint id has room for about {room} bytes here; this one has {has}");
    Err(Error::invalid_input(message)
        .with_hint("ids of up to 40 bytes, as LangGraph's are, fit any namespace"))
}

/// The key of a checkpoint in the order over all namespaces. U+0001 ends the id, and is escaped within it, because no
/// other character orders before it.
pub(super) fn index(id: &str, ns: &str) -> String {
    format!("i:{}\u{1}\u{1}{ns}", id.replace('\u{1}', "\u{1}\u{2}"))
}

/// The namespace, as it stands in keys, and id of an [`index`] key.
pub(super) fn index_parts(key: &str) -> Option<(String, String)> {
    let (id, ns) = key.strip_prefix("i:")?.split_once("\u{1}\u{1}")?;
    Some((ns.to_owned(), id.replace("\u{1}\u{2}", "\u{1}")))
}

/// The key of the whole metadata of a checkpoint, by the checkpoint's.
pub(super) fn metadata_of(checkpoint: &str) -> String {
    format!("n{}", checkpoint.strip_prefix('c').unwrap_or(checkpoint))
}

/// The namespace, as it stands in keys, and id of the key of a checkpoint, or of its metadata.
pub(super) fn checkpoint_parts(key: &str) -> Option<(String, String)> {
    let (ns, id) = key.strip_prefix("c:").or_else(|| key.strip_prefix("n:"))?.split_once(':')?;
    Some((sort_key_segments(ns).into_iter().next()?, id.to_owned()))
}

/// The namespace, checkpoint id, task id and index of a write's key; namespace and task id as they stand in keys.
pub(super) fn write_parts(key: &str) -> Option<(String, String, String, i64)> {
    let mut segments = sort_key_segments(key).into_iter().skip(1);
    let (ns, id, task_id) = (segments.next()?, segments.next()?, segments.next()?);
    Some((ns, id, task_id, segments.next_back()?.parse().ok()?))
}

pub(super) fn chunk(hash: u128) -> String {
    format!("k:{hash:032x}")
}

pub(super) fn node(hash: u128) -> String {
    format!("m:{hash:032x}")
}

pub(super) fn epoch(number: u64, nonce: u64) -> String {
    format!("e:{number:020}:{nonce:016x}")
}

/// The attributes of a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CheckpointAttributes {
    #[serde(rename = "p", skip_serializing_if = "Option::is_none", default)]
    pub(super) parent: Option<String>,
    /// The namespace, where it stands in keys as a hash.
    #[serde(rename = "n", skip_serializing_if = "Option::is_none", default)]
    pub(super) ns: Option<String>,
    #[serde(rename = "t")]
    pub(super) kind: String,
    /// The metadata; without what was moved where it is large.
    #[serde(rename = "m")]
    pub(super) metadata: Json,
    /// That the metadata is large: the members that are not here, or none where they are too many to name.
    #[serde(rename = "x", skip_serializing_if = "Option::is_none", default)]
    pub(super) moved: Option<Vec<String>>,
}

impl CheckpointAttributes {
    /// Whether a member of the metadata may be elsewhere.
    pub(super) fn may_have_moved(&self, name: &str) -> bool {
        self.moved.as_ref().is_some_and(|moved| moved.is_empty() || moved.iter().any(|moved| moved == name))
    }
}

/// The attributes of a write.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WriteAttributes {
    #[serde(rename = "p", skip_serializing_if = "String::is_empty", default)]
    pub(super) path: String,
    #[serde(rename = "c")]
    pub(super) channel: String,
    /// The task, where it stands in the key as a hash.
    #[serde(rename = "i", skip_serializing_if = "Option::is_none", default)]
    pub(super) task: Option<String>,
    #[serde(rename = "t")]
    pub(super) kind: String,
}

/// The attributes of a namespace's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) id: String,
    #[serde(rename = "n")]
    pub(super) count: u64,
}

/// The attributes of what says what a thread is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
}

/// The attributes of a deleted thread's mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deleted {
    /// The greatest checkpoint id of all namespaces.
    pub(super) id: String,
    /// For how long it refuses late writers, in milliseconds from when it was written.
    #[serde(rename = "ms")]
    pub(super) millis: u64,
}

pub(super) fn decode<T: DeserializeOwned>(item: &Item) -> Result<T> {
    item.attributes.decode().map_err(|_| corrupt(&item.sort))
}

pub(super) fn conflict(place: &Place, what: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, what).with_key(place.partition.as_str())
}

pub(super) fn corrupt(sort: &str) -> Error {
    Error::corrupt("the item is not what a checkpointer wrote").with_key(sort)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_order_as_ids_do_and_come_apart_again(
            ids in prop::collection::vec("[a:%|\u{1}\u{2}0]{1,4}", 2),
            ns in prop::collection::vec("[a:%|#\u{1}]{0,4}", 2),
        ) {
            let ns: Vec<String> = ns.iter().map(|ns| namespace_in_keys(ns).into_owned()).collect();
            let place = Place::by_key(&thread("t").unwrap(), &ns[0]);
            prop_assert_eq!(place.checkpoint(&ids[0]).cmp(&place.checkpoint(&ids[1])), ids[0].cmp(&ids[1]));
            let pair = |at: usize| (ids[at].clone(), ns[at].clone());
            prop_assert_eq!(index(&ids[0], &ns[0]).cmp(&index(&ids[1], &ns[1])), pair(0).cmp(&pair(1)));
            let parts = Some((ns[0].clone(), ids[0].clone()));
            prop_assert_eq!(&checkpoint_parts(&place.checkpoint(&ids[0])), &parts);
            prop_assert_eq!(index_parts(&index(&ids[0], &ns[0])), parts);
            let (write, _) = place.write(&ids[0], &ids[1], -3);
            prop_assert!(write.starts_with(&place.writes(&ids[0])));
            prop_assert_eq!(write_parts(&write), Some((ns[0].clone(), ids[0].clone(), ids[1].clone(), -3)));
        }
    }
}
