//! What checkpoints take in the store.

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::{CollectionStore, Item, Query, Result};

use super::{
    CheckpointerBackend,
    layout::Place,
    pages::all,
    types::{CheckpointHeader, ListCheckpoints},
};

/// Of how many checkpoints the writes are counted at a time.
const PARALLEL: usize = 16;

/// A checkpoint, and what it takes in the store.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CheckpointOutline {
    /// Where it is, what it follows, its metadata.
    pub header: CheckpointHeader,
    /// How many writes it has.
    pub writes: u64,
    /// The bytes of its own in the store: of the checkpoint, its writes and its metadata. Not those of the values of channels, nor of
    /// what is so large that it is cut into pieces: checkpoints share them.
    pub bytes: u64,
}

impl CheckpointerBackend {
    /// Checkpoints as [`list`](Self::list) has them, with what they take; nothing of their values is read. One that is removed
    /// meanwhile has no bytes.
    ///
    /// # Errors
    /// As the store.
    pub async fn outline(&self, list: &ListCheckpoints) -> Result<Vec<CheckpointOutline>> {
        let work = async {
            let (store, headers) = (self.store()?, self.list(list).await?);
            let outlines = stream::iter(headers).map(|header| outlined(store, header));
            outlines.buffered(PARALLEL).try_collect().await
        };
        self.shared.measured("checkpointer.outline", Box::pin(work)).await
    }
}

async fn outlined(store: &dyn CollectionStore, header: CheckpointHeader) -> Result<CheckpointOutline> {
    let key = &header.key;
    let (place, id) = (Place::new(&key.thread_id, &key.checkpoint_ns)?, &key.checkpoint_id);
    let one = |sort: String| {
        let to = Some(format!("{sort}\u{1}"));
        Query::range(place.partition.clone(), sort, to, 1).without_bodies()
    };
    let writes =
        all(store, Query::prefix(place.partition.clone(), &place.writes(id), 1_000).without_bodies());
    let (checkpoint, metadata, writes) = futures::try_join!(
        store.query(one(place.checkpoint(id))),
        store.query(one(place.metadata(id))),
        writes
    )?;
    let bytes = checkpoint.items.iter().chain(&metadata.items).chain(&writes).map(size).sum();
    Ok(CheckpointOutline { header, writes: writes.len() as u64, bytes })
}

fn size(item: &Item) -> u64 {
    (item.sort.len() + item.attributes.len()) as u64 + item.body_bytes
}
