//! Partitions of ordered items: checks, then work for the writer or a reader.

mod commit;
mod item;
pub(crate) mod partition;
mod query;
mod search;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use storage_core::{
    CollectionStore, Commit, Committed, Cursor, Error, ErrorKind, Hit, Item, Operation, Page, Partition,
    PartitionInfo, Query, Result, ScanPage, Search, check_key, check_page_limit,
};

use crate::{
    SqliteBackend,
    backend::at,
    statements::{entries::View, pages::Place},
    work::writes::Steps,
};
use partition::Stored;

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

    async fn partitions_page(
        &self,
        kind: &str,
        segments: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<ScanPage<PartitionInfo>> {
        let work = async {
            check_page_limit(limit)?;
            let (lower, upper, own) = Partition::range(kind, segments)?;
            let from = Place::of(after, &lower)?;
            if let (None, Some(own)) = (after, own) {
                let own = self.partition(&own).await.transpose();
                return Ok(ScanPage::new(own.into_iter().collect(), Some(Cursor::at(&from)?)));
            }
            self.store.read(move |view| partition::list(view, &from, &upper, limit)).await
        };
        at("partitions_page", None, work).await
    }

    async fn delete_partition(&self, partition: &Partition) -> Result<bool> {
        let name = partition.as_str().to_owned();
        let delete = move |view: &View<'_>| partition::delete(view, &name).map(i64::from);
        let work = self.store.write(partition.as_str().len(), Steps::One, delete);
        at("delete_partition", partition.as_str(), work).await.map(|deleted| deleted > 0)
    }

    fn searches(&self, _: &str) -> bool {
        true
    }

    async fn search(&self, search: Search) -> Result<Vec<Hit>> {
        let work = async {
            search.check()?;
            self.store.read(move |view| search::search(view, &search)).await
        };
        at("search", None, work).await
    }
}

/// Roughly how many bytes an operation writes.
fn weight(operation: &Operation) -> usize {
    match operation {
        Operation::Put { sort, attributes, body, search, .. }
        | Operation::Append { prefix: sort, attributes, body, search, .. } => {
            let words = search.as_ref().map_or(0, |search| search.words().len());
            sort.len() + attributes.len() + body.len() + words
        }
        _ => 64,
    }
}
