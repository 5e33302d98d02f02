//! Partitions of ordered items: checks, then work for the writer or a reader.

mod commit;
mod item;
pub(crate) mod partition;
mod query;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use storage_core::{
    CollectionStore, Commit, Committed, Error, ErrorKind, Item, Operation, Page, Partition, PartitionInfo,
    Query, Result, check_key,
};

use crate::{
    SqliteBackend,
    backend::{NAME, at},
    statements::entries::View,
    work::writes::Steps,
};
use partition::{Listed, Stored};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CollectionStore for SqliteBackend {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let name = commit.partition.clone();
        let work = async {
            commit.check(self.store.config.max_value_bytes)?;
            let weight = commit.operations.iter().map(weight).sum();
            let committed = Arc::new(Mutex::new(None));
            let answer = Arc::clone(&committed);
            let perform = move |view: &View<'_>| {
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit::commit(view, &commit)?);
                Ok(1)
            };
            self.store.write(weight, Steps::Many, perform).await?;
            let committed = committed.lock().unwrap_or_else(PoisonError::into_inner).take();
            committed.ok_or_else(|| Error::new(ErrorKind::OutcomeUnknown, "the commit's answer was lost"))
        };
        at("commit", name.as_str(), work).await
    }

    async fn query(&self, query: Query) -> Result<Page> {
        let name = query.partition.clone();
        let work = async {
            query.check()?;
            self.store.read(move |view| query::page(view, &query)).await
        };
        at("query", name.as_str(), work).await
    }

    async fn items(&self, partition: &Partition, sorts: &[&str]) -> Result<Vec<Option<Item>>> {
        let work = async {
            let sorts = sorts.iter().map(|sort| check_key(sort).map(|()| (*sort).to_owned()));
            let (name, sorts) = (partition.as_str().to_owned(), sorts.collect::<Result<Vec<_>>>()?);
            self.store.read(move |view| query::items(view, &name, &sorts)).await
        };
        at("items", partition.as_str(), work).await
    }

    async fn partition(&self, partition: &Partition) -> Result<Option<PartitionInfo>> {
        let name = partition.as_str().to_owned();
        let work = self.store.read(move |view| Stored::find_live(view, &name));
        let found = at("partition", partition.as_str(), work).await?;
        Ok(found.map(|stored| stored.info(partition.clone())))
    }

    fn partitions(&self, kind: &str, segments: &[&str]) -> BoxStream<'_, Result<PartitionInfo>> {
        let range = Partition::range(kind, segments);
        let listing = async move {
            let (lower, upper, own) = range?;
            let own = match own {
                Some(own) => self.partition(&own).await.transpose(),
                None => None,
            };
            let pages = stream::try_unfold(Some(lower.into_bytes()), move |from| {
                let upper = upper.clone();
                async move {
                    let Some(from) = from else { return Ok(None) };
                    let listed = self.store.read(move |view| partition::list(view, &from, &upper)).await;
                    listed.map(|Listed { found, next }| Some((stream::iter(found), next)))
                }
            });
            Ok::<_, Error>(stream::iter(own).chain(pages.try_flatten()))
        };
        stream::once(listing).try_flatten().map_err(|error| error.at(NAME, "partitions")).boxed()
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let name = partition.as_str().to_owned();
        let delete = move |view: &View<'_>| partition::delete(view, &name).map(i64::from);
        let work = self.store.write(partition.as_str().len(), Steps::One, delete);
        at("delete_partition", partition.as_str(), work).await.map(|deleted| deleted > 0)
    }
}

/// Roughly how many bytes an operation writes.
fn weight(operation: &Operation) -> usize {
    match operation {
        Operation::Put { sort, attributes, body, .. } => sort.len() + attributes.len() + body.len(),
        Operation::Append { prefix, attributes, body, .. } => prefix.len() + attributes.len() + body.len(),
        _ => 64,
    }
}
