//! **Collections**: partitions of ordered items; a commit happens whole or not at all.

mod commits;
mod model;
mod partitions;
mod queries;
mod search;

pub use commits::*;
pub use model::*;
pub use partitions::*;
pub use queries::*;
pub use search::*;

use serde_json::json;
use storage_core::{
    CollectionStore, Commit, Error, ErrorKind, Item, Json, Operation, Partition, PartitionInfo, PutMode,
    Query,
};

use crate::sample::{Backend, value};

fn partition(id: &str) -> Partition {
    Partition::new("conversation", &[id]).unwrap()
}

fn store(backend: &Backend) -> &dyn CollectionStore {
    backend.collections().expect("the backend has collections")
}

fn none() -> Json {
    Json::parse("null").unwrap()
}

fn put(sort: &str, body: &str, mode: PutMode) -> Operation {
    Operation::put(sort, value(&json!({"of": sort})), body.to_owned(), mode)
}

fn upsert(sort: &str, body: &str) -> Operation {
    put(sort, body, PutMode::Upsert)
}

fn append(body: &str) -> Operation {
    Operation::append("m:", none(), body.to_owned())
}

fn tagged(body: &str, tag: &str) -> Operation {
    Operation::Append {
        prefix: "m:".into(),
        attributes: none(),
        body: body.to_owned().into(),
        tag: Some(tag.into()),
        search: None,
    }
}

async fn all(backend: &Backend, of: &Partition) -> Vec<Item> {
    store(backend).query(Query::all(of.clone(), 10_000)).await.unwrap().items
}

async fn sorts(backend: &Backend, of: &Partition) -> Vec<String> {
    all(backend, of).await.into_iter().map(|item| item.sort).collect()
}

async fn info(backend: &Backend, of: &Partition) -> Option<PartitionInfo> {
    store(backend).partition(of).await.unwrap()
}

/// What a partition says of itself is what its items add up to.
async fn assert_counted(backend: &Backend, of: &Partition) {
    let items = all(backend, of).await;
    let bytes: usize =
        items.iter().map(|item| item.sort.len() + item.attributes.len() + item.body.len()).sum();
    let info = info(backend, of).await.expect("the partition is there");
    assert_eq!((info.items, info.bytes), (items.len() as u64, bytes as u64));
}

fn kind<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorKind {
    answer.expect_err("it is refused").kind()
}

async fn filled(backend: &Backend, of: &Partition) {
    let keys = ["a", "a:1", "a:2", "a;", "A", "b", "b:%_*", "c\u{1}", "é", "日本", "z\u{10ffff}"];
    let commit = keys.iter().fold(Commit::new(of.clone()), |commit, key| commit.with(upsert(key, key)));
    store(backend).commit(commit).await.unwrap();
}
