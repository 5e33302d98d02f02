//! Commits whose plan needs to know more than is asked at first, against the memory backend.

use std::time::Duration;

use storage_core::{
    CollectionStore, Commit, Committed, Error, ErrorKind, Item, Json, MemoryBackend, Operation, Outcome,
    PartitionInfo, Precondition, PutMode, Query, StorageBackend, sequence_key,
};

use crate::{
    append,
    common::{config, open},
    partition,
};

fn put(sort: &str, body: &str) -> Operation {
    Operation::put(sort, Json::from(7), body.to_owned(), PutMode::Upsert)
}

fn tagged(prefix: &str, tag: &str) -> Operation {
    let (prefix, tag) = (prefix.to_owned(), Some(tag.to_owned()));
    Operation::Append { prefix, attributes: Json::from(1), body: "tagged".into(), tag, search: None }
}

fn trim(items: Option<u64>, bytes: Option<u64>) -> Operation {
    Operation::Trim { items, bytes, max_age: None }
}

/// `before`: what the versions of the partition are counted from.
async fn state(
    store: &dyn CollectionStore,
    before: u64,
) -> (Vec<impl PartialEq + std::fmt::Debug>, Option<impl PartialEq + std::fmt::Debug>) {
    let items = store.query(Query::all(partition("s"), 10_000)).await.unwrap().items;
    let plain = |item: Item| (item.sort, item.attributes, item.body, item.version - before);
    let counted = |info: PartitionInfo| (info.version - before, info.sequence, info.items, info.bytes);
    (items.into_iter().map(plain).collect(), store.partition(&partition("s")).await.unwrap().map(counted))
}

fn counted(answer: Result<Committed, Error>, before: u64) -> Result<(u64, Vec<Outcome>), ErrorKind> {
    answer.map(|committed| (committed.version - before, committed.outcomes)).map_err(|error| error.kind())
}

async fn same_as_in_memory(name: &str, commits: Vec<Vec<Operation>>) {
    let (backend, reference) = (open(config(name)), MemoryBackend::new());
    backend.connect().await.unwrap();
    reference.connect().await.unwrap();
    let (found, expected) = (backend.collections().unwrap(), reference.collections().unwrap());
    let mut before = None;
    for (number, operations) in commits.into_iter().enumerate() {
        let commit = operations.into_iter().fold(Commit::new(partition("s")), Commit::with);
        let (answer, right) = (found.commit(commit.clone()).await, expected.commit(commit).await);
        if let (None, Ok(answer), Ok(right)) = (before, &answer, &right) {
            before = Some((answer.version - 1, right.version - 1));
        }
        let (found_before, expected_before) = before.expect("the first commit made a partition");
        assert_eq!(counted(answer, found_before), counted(right, expected_before), "commit {number}");
        let (state, right) = (state(found, found_before).await, state(expected, expected_before).await);
        assert_eq!(state, right, "after commit {number}");
    }
}

#[tokio::test]
async fn appends_write_over_items_that_are_where_they_go() {
    let ahead = [1, 3, 6, 7, 9].map(|number| put(&sequence_key("m:", number), "ahead")).to_vec();
    let commits = vec![
        ahead,
        vec![append("a")],
        vec![append("b"), append("c"), append("d")],
        vec![tagged("m:", "t"), tagged("m:", "u"), put("z", "z")],
        // The first is there, so that the others go where nobody looked.
        vec![tagged("m:", "t"), append("e"), tagged("n:", "v"), append("f"), put("z", "z")],
        vec![tagged("m:", "t"), tagged("m:", "t"), append("g")],
        // It takes the tag with it.
        vec![put(&sequence_key("m:", 5), "over"), tagged("m:", "t"), tagged("m:", "u"), trim(Some(4), None)],
    ];
    same_as_in_memory("ahead", commits).await;
}

#[tokio::test]
async fn bounds_reach_as_far_as_they_have_to() {
    let many = |count: usize| (0..count).map(|number| append(&number.to_string())).collect::<Vec<_>>();
    let commits = vec![
        many(1_000),
        vec![trim(None, Some(9_000))],
        vec![put("a", "first"), trim(None, Some(9_100)), put("b", "then"), trim(Some(250), None)],
        vec![Operation::DeleteRange { from: "a".into(), to: Some("m:2".into()) }, trim(None, Some(1))],
        many(100),
        vec![trim(Some(50), Some(10_000_000)), append("x"), trim(Some(2), None), trim(Some(0), None)],
        vec![trim(Some(0), Some(0))],
    ];
    same_as_in_memory("bounds", commits).await;
}

#[tokio::test]
async fn increments_keep_the_body_and_drop_the_tag() {
    let count = |sort: &str, by| Operation::Increment { sort: sort.into(), by };
    let number = sequence_key("m:", 1);
    let commits = vec![
        vec![put("n", "body"), tagged("m:", "t")],
        vec![count("n", 1), count(&number, 4)],
        vec![tagged("m:", "t"), count("n", 1), put("n", "other"), count("n", 1)],
        vec![put("word", ""), Operation::Delete { sort: "n".into() }, count("n", 1), count("n", i64::MAX)],
        vec![Operation::Delete { sort: "n".into() }, count("n", 1)],
    ];
    same_as_in_memory("increments", commits).await;
}

#[tokio::test]
async fn preconditions_are_judged_before_anything_is_written() {
    let backend = open(config("preconditions"));
    backend.connect().await.unwrap();
    let store = backend.collections().unwrap();
    let only_if = |precondition| Commit::new(partition("s")).only_if(precondition);
    assert_eq!(store.commit(Commit::new(partition("s"))).await.unwrap().version, 0);
    assert_eq!(store.commit(only_if(Precondition::Version(0))).await.unwrap().version, 0);
    assert_eq!(store.partition(&partition("s")).await.unwrap(), None);
    let fresh = only_if(Precondition::Absent("a".into())).with(put("a", "x"));
    let first = store.commit(fresh).await.unwrap().version;
    let second = store.commit(only_if(Precondition::ItemVersion("a".into(), first))).await.unwrap().version;
    assert_eq!(second, first + 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let before = store.partition(&partition("s")).await.unwrap();
    store.commit(only_if(Precondition::Version(first)).with(put("a", "y"))).await.unwrap_err();
    assert_eq!(store.partition(&partition("s")).await.unwrap(), before);
}
