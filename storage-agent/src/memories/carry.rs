//! Memories as exports and imports have them: whole, with their versions and times.

use std::{collections::BTreeMap, time::Duration};

use storage_core::{Error, ErrorKind, Json, Partition, Query, Result};

use super::{
    MemoryItem,
    item::{Content, Past, Stored},
    layout::{self, range},
    store::MemoryStore,
    write::{Expected, Write},
};

/// How many memories are read at a time.
const PAGE: usize = 500;

/// A memory, and how long it stays when its time to live begins anew.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) item: MemoryItem,
    pub(crate) ttl: Option<Duration>,
}

/// Memories that lie together: all of a partition whose sort keys begin with a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: Partition,
    pub(crate) sorts: String,
}

impl Place {
    /// A namespace with all below it; `None` where there cannot be such a namespace, as that of a very long id.
    pub(crate) fn of(namespace: &[String]) -> Result<Option<Self>> {
        let labels: Vec<&str> = namespace.iter().map(String::as_str).collect();
        match layout::check_labels(&labels).and_then(|()| range(&labels)) {
            Ok((partition, sorts)) => Ok(Some(Self { partition, sorts })),
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether all that lies in `other` lies here.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.partition == other.partition && other.sorts.starts_with(&self.sorts)
    }

    /// The query for the first of them.
    pub(crate) fn query(&self) -> Query {
        Query::prefix(self.partition.clone(), &self.sorts, PAGE)
    }
}

impl MemoryStore {
    /// A page of memories in the order of their places, without those that have expired, and the query for the next. One that
    /// cannot be read is an error among them.
    pub(crate) async fn carried(&self, query: Query) -> Result<(Vec<Result<Carried>>, Option<Query>)> {
        let partition = query.partition.clone();
        let page = self.shared.collections()?.query(query.clone()).await?;
        let next = query.after(&page);
        let (mut read, mut whole) = (BTreeMap::new(), Vec::new());
        for item in page.items {
            let sort = item.sort.clone();
            match Stored::decode(&partition, item) {
                Ok(stored) => whole.push(stored),
                Err(error) => drop(read.insert(sort, Err(error))),
            }
        }
        let (alive, _) = self.parted(whole).await?;
        for (stored, ends) in alive {
            let (sort, ttl) = (stored.item.sort.clone(), stored.lease.as_ref().map(|lease| lease.ttl));
            read.insert(sort, stored.into_memory(ends).map(|item| Carried { item, ttl }));
        }
        Ok((read.into_values().collect(), next))
    }

    /// The memory at a place, unless it has expired.
    pub(crate) async fn carried_at(&self, namespace: &[String], key: &str) -> Result<Option<Carried>> {
        let place = place(namespace, key)?;
        let found = self.shared.collections()?.items(&place.partition, &[&place.sort]).await?;
        let Some(item) = found.into_iter().flatten().next() else { return Ok(None) };
        let stored = Stored::decode(&place.partition, item)?;
        let ttl = stored.lease.as_ref().map(|lease| lease.ttl);
        Ok(self.living(stored, false).await?.map(|item| Carried { item, ttl }))
    }

    /// Puts a memory as it was elsewhere, with what is left of its time to live; where one is there, it is written over or a
    /// `Conflict`.
    pub(crate) async fn restore(&self, carried: Carried, left: Option<Duration>, over: bool) -> Result<()> {
        let Carried { item, ttl } = carried;
        let MemoryItem { namespace, key, value, created_at, updated_at, version, .. } = item;
        let past = Past { created_at, updated_at, left };
        let write = Write {
            place: place(&namespace, &key)?,
            content: Some(Content::carried(value, ttl, version, past)?),
            expected: if over { Expected::Anything } else { Expected::Nothing },
        };
        let partition = write.place.partition.clone();
        self.write(&partition, &[write]).await.map(drop)
    }
}

/// Checks what an import says of a memory.
pub(crate) fn check_carried(namespace: &[String], key: &str, value: &Json, version: &str) -> Result<()> {
    place(namespace, key)?;
    if !value.as_str().starts_with('{') {
        return Err(Error::invalid_input("the value of a memory is a JSON object"));
    }
    Partition::new(layout::LEASES, &[version]).map(drop)
}

/// The partition and the sort key of a memory.
pub(crate) fn place_of(namespace: &[String], key: &str) -> Result<(Partition, String)> {
    place(namespace, key).map(|place| (place.partition, place.sort))
}

fn place(namespace: &[String], key: &str) -> Result<layout::Place> {
    let labels: Vec<&str> = namespace.iter().map(String::as_str).collect();
    layout::Place::to_write(&labels, key)
}
