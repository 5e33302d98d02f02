//! What is Postgres's own about collections: their schema, their statements' cost, their failures, their locks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[path = "../common/mod.rs"]
mod common;
mod cost;
mod failures;
mod killed;
mod locks;
mod plans;
mod schema;
mod search;
mod turns;

use storage_core::{
    CollectionStore, Commit, Item, Json, Operation, Partition, Query, StorageBackend, sequence_key,
};
use storage_postgres::PostgresBackend;

fn partition(id: &str) -> Partition {
    Partition::new("conversation", &[id]).unwrap()
}

fn store(backend: &PostgresBackend) -> &dyn CollectionStore {
    backend.collections().unwrap()
}

fn append(body: &str) -> Operation {
    Operation::append("m:", Json::from(1), body.to_owned())
}

/// A commit in one statement, or one of which the whole transaction is needed.
fn commit(of: &Partition, body: &str, whole: bool) -> Commit {
    let commit = (0..3).fold(Commit::new(of.clone()), |commit, _| commit.with(append(body)));
    if whole { commit.with(Operation::Increment { sort: "count".into(), by: 1 }) } else { commit }
}

async fn all(backend: &PostgresBackend, of: &Partition) -> Vec<Item> {
    let mut items = Vec::new();
    let mut next = Some(Query::all(of.clone(), 10_000));
    while let Some(query) = next {
        let page = store(backend).query(query.clone()).await.unwrap();
        next = query.after(&page);
        items.extend(page.items);
    }
    items
}

/// Every commit left all of its items or none, without a gap, and the partition counts them right.
async fn assert_whole(backend: &PostgresBackend, of: &Partition, whole: bool) -> Vec<String> {
    let items = all(backend, of).await;
    let info = store(backend).partition(of).await.unwrap().unwrap();
    let (counters, messages): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.sort == "count");
    assert_eq!((info.items, info.sequence), (items.len() as u64, messages.len() as u64));
    let commits = messages.first().map_or(0, |first| info.version - first.version + 1);
    assert_eq!(messages.len() as u64, commits * 3, "three of each commit");
    let bytes: usize =
        items.iter().map(|item| item.sort.len() + item.attributes.len() + item.body.len()).sum();
    assert_eq!(info.bytes, bytes as u64);
    for (number, item) in (1..).zip(&messages) {
        assert_eq!(item.sort, sequence_key("m:", number));
    }
    if whole {
        assert_eq!(counters[0].attributes, Json::from(i64::try_from(commits).unwrap()));
    }
    let bodies = messages.chunks(3).map(|three| {
        assert!(three.iter().all(|item| item.body == three[0].body && item.version == three[0].version));
        String::from_utf8(three[0].body.to_vec()).unwrap()
    });
    bodies.collect()
}
