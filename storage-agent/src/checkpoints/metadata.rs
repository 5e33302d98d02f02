//! Metadata. What is large of it is a payload beside the checkpoint, so that an unchanged one is stored once, and what is
//! small stays with the checkpoint, so that filters and prunings need nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use storage_core::{CollectionStore, ErrorKind, Item, Json, Partition, Result};

use super::{
    blobs::{TRIES, load},
    layout::{self, CheckpointAttributes, corrupt, metadata_of},
    record::Record,
};

/// Metadata of more bytes is moved, but for so many.
const MOST_KEPT: usize = 16 * 1024;
/// The names of what was moved, in bytes.
const MOST_NAMED: usize = 8 * 1024;
/// What prunings look at. It is moved last.
pub(super) const NEEDED: [&str; 3] = ["run_id", "parents", "counters_since_delta_snapshot"];

/// What of metadata stays with the checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) metadata: Json,
    /// The members that do not, where it is large; none where they are too many to name.
    pub(super) moved: Option<Vec<String>>,
}

impl Kept {
    pub(super) fn of(metadata: &Json) -> Result<Self> {
        if metadata.len() <= MOST_KEPT {
            return Ok(Self { metadata: metadata.clone(), moved: None });
        }
        let members: BTreeMap<String, Box<RawValue>> = metadata.decode()?;
        let mut members: Vec<_> = members.into_iter().collect();
        members
            .sort_by_key(|(name, value)| (!NEEDED.contains(&name.as_str()), name.len() + value.get().len()));
        // The braces; a member has quotes, a colon and a comma.
        let mut room = MOST_KEPT - 2;
        let (mut kept, mut moved) = (BTreeMap::new(), Vec::new());
        for (name, value) in members {
            let quoted = Json::from_serialize(&name)?.len();
            match room.checked_sub(quoted + value.get().len() + 2) {
                Some(left) => {
                    room = left;
                    kept.insert(name, value);
                }
                None => moved.push(name),
            }
        }
        if moved.iter().map(String::len).sum::<usize>() > MOST_NAMED {
            moved.clear();
        }
        Ok(Self { metadata: Json::from_serialize(&kept)?, moved: Some(moved) })
    }
}

/// Metadata that is large, ready to be cut; `None` where it stays with the checkpoint.
pub(super) fn large(metadata: &Json) -> Option<Bytes> {
    (metadata.len() > MOST_KEPT).then(|| metadata.clone().into_text().into_bytes())
}

/// The whole metadata, from the item that it is.
pub(super) async fn text(store: &dyn CollectionStore, partition: &Partition, item: &Item) -> Result<Json> {
    let bytes = load(store, partition, Record::decode(&item.sort, &item.body)?).await?;
    let text =
        bytes.and_then(|bytes| String::from_utf8(bytes.into()).ok()).ok_or_else(|| corrupt(&item.sort))?;
    Json::from_stored(&item.sort, text)
}

/// A checkpoint with its whole metadata, as they are now where some of it is elsewhere; `None` where it was removed since it
/// was read.
pub(super) async fn whole(
    store: &dyn CollectionStore,
    partition: &Partition,
    mut item: Item,
) -> Result<Option<(Item, Json)>> {
    let mut tries = 1;
    loop {
        let CheckpointAttributes { metadata, moved, .. } = layout::decode(&item)?;
        if moved.is_none() {
            return Ok(Some((item, metadata)));
        }
        let sort = metadata_of(&item.sort);
        let mut found = store.items(partition, &[&item.sort, &sort]).await?.into_iter();
        let Some(again) = found.next().flatten() else { return Ok(None) };
        let read = match found.next().flatten() {
            Some(found) => text(store, partition, &found).await,
            None => Err(corrupt(&sort)),
        };
        match read {
            Ok(metadata) => return Ok(Some((again, metadata))),
            // A pruning may have taken some of it meanwhile.
            Err(error) if error.kind() != ErrorKind::Corrupt || tries >= TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        item = again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Kept {
        let kept = Kept::of(&Json::parse(text.to_owned()).unwrap()).unwrap();
        assert!(kept.metadata.len() <= MOST_KEPT);
        kept
    }

    #[test]
    fn what_is_small_and_what_prunings_need_stays() {
        let (long, longer) = ("x".repeat(12_000), "y".repeat(15_000));
        let of_parents = format!(r#"{{"a":"{long}","parents":{{"":"{long}"}},"step":1.50,"z":"{longer}"}}"#);
        let kept = kept(&of_parents);
        assert_eq!(kept.moved, Some(vec!["a".to_owned(), "z".to_owned()]));
        assert_eq!(kept.metadata.as_str(), format!(r#"{{"parents":{{"":"{long}"}},"step":1.50}}"#));
    }

    #[test]
    fn too_many_to_name_are_not_named() {
        let many: BTreeMap<String, u8> = (0..4_000).map(|number| (format!("member-{number}"), 1)).collect();
        let kept = kept(Json::from_serialize(&many).unwrap().as_str());
        assert_eq!(kept.moved, Some(Vec::new()));
        let few = kept_members(&kept);
        assert!(few > 500 && few < 4_000, "{few}");
    }

    fn kept_members(kept: &Kept) -> usize {
        kept.metadata.decode::<BTreeMap<String, u8>>().unwrap().len()
    }

    #[test]
    fn what_is_no_longer_than_its_room_stays_as_it_is() {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(MOST_KEPT - 8));
        assert_eq!((text.len(), kept(&text).moved), (MOST_KEPT, None));
        assert_eq!(kept(&text.replace("a\":", "aa\":")).moved, Some(vec!["aa".to_owned()]));
    }
}
