//! Several operations in one call.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::{Json, Listing, Partition, Result, engine::all_written};

use super::{
    item::{Content, MemoryItem, MemoryTtl},
    layout::Place,
    namespaces::ListNamespaces,
    search::SearchMemories,
    store::{MemoryStore, PARALLEL},
    write::{Expected, Write},
};

/// One operation of a [`batch`](MemoryStore::batch).
#[derive(Debug, Clone)]
pub enum MemoryOp {
    /// As [`MemoryStore::get`].
    Get {
        /// Where it is.
        namespace: Vec<String>,
        /// Its name there.
        key: String,
        /// Whether reading it refreshes its expiry; as the store is set up unless set otherwise.
        refresh_ttl: Option<bool>,
    },
    /// As [`MemoryStore::search`].
    Search {
        /// What the namespaces begin with.
        prefix: Vec<String>,
        /// Which memories.
        search: SearchMemories,
    },
    /// As [`MemoryStore::list_namespaces`].
    ListNamespaces(ListNamespaces),
    /// As [`MemoryStore::put`].
    Put {
        /// Where it is.
        namespace: Vec<String>,
        /// Its name there.
        key: String,
        /// A JSON object.
        value: Json,
        /// How long it stays.
        ttl: MemoryTtl,
    },
    /// As [`MemoryStore::delete`].
    Delete {
        /// Where it is.
        namespace: Vec<String>,
        /// Its name there.
        key: String,
    },
}

/// What an operation of a [`batch`](MemoryStore::batch) answers.
#[derive(Debug)]
pub enum MemoryAnswer {
    /// Of a get.
    Memory(Option<MemoryItem>),
    /// Of a search.
    Found(Listing<MemoryItem>),
    /// Of a listing of namespaces.
    Namespaces(Vec<Vec<String>>),
    /// Of a put or a deletion.
    Written,
}

/// A read that was checked.
enum Read {
    Get(Place, bool),
    Search(Vec<String>, SearchMemories),
    List(ListNamespaces),
    None,
}

type Writes = BTreeMap<Partition, BTreeMap<String, Write>>;

impl MemoryStore {
    pub(super) async fn all(&self, operations: Vec<MemoryOp>) -> Result<Vec<MemoryAnswer>> {
        let mut writes = Writes::new();
        let reads: Vec<Read> = operations
            .into_iter()
            .map(|operation| self.sorted(operation, &mut writes))
            .collect::<Result<_>>()?;
        let read = reads.into_iter().map(|read| self.answer(read));
        let answers = stream::iter(read).buffered(PARALLEL).try_collect().await?;
        let write = writes.into_iter().map(|(partition, writes)| async move {
            self.write(&partition, &writes.into_values().collect::<Vec<_>>()).await
        });
        let written: Vec<_> = stream::iter(write).buffer_unordered(PARALLEL).collect().await;
        all_written(written)?;
        Ok(answers)
    }

    /// Checks an operation and puts a write among the others, over an earlier one to the same place.
    fn sorted(&self, operation: MemoryOp, writes: &mut Writes) -> Result<Read> {
        let (place, content) = match operation {
            MemoryOp::Get { namespace, key, refresh_ttl } => {
                let refresh = refresh_ttl.unwrap_or(self.refresh_on_read);
                return Ok(Read::Get(Place::new(&borrowed(&namespace), &key)?, refresh));
            }
            MemoryOp::Search { prefix, search } => return Ok(Read::Search(prefix, search)),
            MemoryOp::ListNamespaces(list) => return Ok(Read::List(list)),
            MemoryOp::Put { namespace, key, value, ttl } => {
                let content = Content::new(value, self.ttl_of(ttl))?;
                (Place::to_write(&borrowed(&namespace), &key)?, Some(content))
            }
            MemoryOp::Delete { namespace, key } => (Place::new(&borrowed(&namespace), &key)?, None),
        };
        let (partition, sort) = (place.partition.clone(), place.sort.clone());
        writes
            .entry(partition)
            .or_default()
            .insert(sort, Write { place, content, expected: Expected::Anything });
        Ok(Read::None)
    }

    async fn answer(&self, read: Read) -> Result<MemoryAnswer> {
        Ok(match read {
            Read::Get(place, refresh) => MemoryAnswer::Memory(self.read(&place, refresh).await?),
            Read::Search(prefix, search) => {
                MemoryAnswer::Found(self.found(&borrowed(&prefix), &search).await?)
            }
            Read::List(list) => MemoryAnswer::Namespaces(self.listed(&list).await?),
            Read::None => MemoryAnswer::Written,
        })
    }
}

fn borrowed(labels: &[String]) -> Vec<&str> {
    labels.iter().map(String::as_str).collect()
}
