//! Long-term memory: searching, and listing namespaces.

use storage_agent::{ListNamespaces, MemoryOp, MemoryStore, MemoryTtl, SearchMemories};
use storage_core::{Commit, ErrorKind, Operation, Partition, PutMode};

use super::memories::{number, put, store};
use crate::stores::{Backend, json};

async fn keys(memories: &MemoryStore, prefix: &[&str], search: &SearchMemories) -> Vec<String> {
    let found = memories.search(prefix, search).await.unwrap().all().unwrap();
    found.into_iter().map(|memory| memory.key).collect()
}

pub(crate) async fn the_latest_come_first_in_pages(storage: Backend) {
    let memories = store(&storage);
    for n in 0..15 {
        put(&memories, &["a", if n % 2 == 0 { "even" } else { "odd" }], &n.to_string(), "{}").await;
    }
    put(&memories, &["a", "even"], "4", "{}").await;
    let latest = keys(&memories, &["a"], &SearchMemories::default()).await;
    assert_eq!(latest, ["4", "14", "13", "12", "11", "10", "9", "8", "7", "6"]);
    let page = SearchMemories { limit: 3, offset: 9, ..SearchMemories::default() };
    assert_eq!(keys(&memories, &["a"], &page).await, ["6", "5", "3"]);
    assert_eq!(keys(&memories, &[], &page).await, ["6", "5", "3"]);
    let beyond = SearchMemories { offset: 15, ..SearchMemories::default() };
    assert!(keys(&memories, &["a"], &beyond).await.is_empty());
    assert!(keys(&memories, &["a"], &SearchMemories { limit: 0, ..page }).await.is_empty());
    let huge = SearchMemories { limit: 10_001, ..SearchMemories::default() };
    assert_eq!(memories.search(&["a"], &huge).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    // Of one batch: by namespace and key.
    let of = |label: &str, key: &str| MemoryOp::Put {
        namespace: vec!["b".into(), label.into()],
        key: key.into(),
        value: json("{}"),
        ttl: MemoryTtl::Default,
    };
    memories.batch(vec![of("y", "1"), of("x", "2"), of("x", "1"), of("x-1", "0")]).await.unwrap();
    assert_eq!(keys(&memories, &["b"], &SearchMemories::default()).await, ["1", "2", "0", "1"]);
}

pub(crate) async fn filters_compare_as_documented(storage: Backend) {
    let memories = store(&storage);
    for (key, value) in [
        ("a", r#"{"color": "red", "score": 1, "on": true, "at": {"city": "Oslo", "zip": [1, 2]}}"#),
        ("b", r#"{"color": "blue", "score": 2.5, "on": false, "at": {"city": "Bonn"}}"#),
        ("c", r#"{"color": "red", "score": 10, "on": 1}"#),
        ("d", r#"{"color": null, "score": "10"}"#),
    ] {
        put(&memories, &["a"], key, value).await;
    }
    for (filter, expected) in [
        (r#"{"color": "red"}"#, "ca"),
        (r#"{"color": {"$eq": "blue"}}"#, "b"),
        (r#"{"color": {"$ne": "red"}}"#, "db"),
        (r#"{"color": null}"#, "d"),
        (r#"{"missing": null}"#, "dcba"),
        (r#"{"missing": {"$ne": 1}}"#, "dcba"),
        (r#"{"missing": {"$gt": 1}}"#, ""),
        (r#"{"score": {"$gt": 1}}"#, "cb"),
        (r#"{"score": {"$gte": 1.0, "$lt": 10}}"#, "ba"),
        (r#"{"score": {"$lte": 2.5}}"#, "ba"),
        (r#"{"score": {"$gte": "1"}}"#, "d"),
        (r#"{"score": 1.0}"#, "a"),
        (r#"{"on": true}"#, "a"),
        (r#"{"on": 1}"#, "c"),
        (r#"{"at": {"city": "Oslo"}}"#, "a"),
        (r#"{"at": {"city": {"$gt": "Bonn"}}}"#, "a"),
        (r#"{"at": {"$eq": {"city": "Oslo"}}}"#, ""),
        (r#"{"at": {"zip": [1, {"$gt": 1}]}}"#, "a"),
        (r#"{"color": "red", "score": {"$gt": 5}}"#, "c"),
        ("{}", "dcba"),
    ] {
        let search = SearchMemories { filter: Some(json(filter)), ..SearchMemories::default() };
        assert_eq!(keys(&memories, &["a"], &search).await.concat(), expected, "{filter}");
    }
    for filter in ["1", r#"{"a": {"$in": []}}"#] {
        let search = SearchMemories { filter: Some(json(filter)), ..SearchMemories::default() };
        let refused = memories.search(&["a"], &search).await.unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidInput && refused.hint().is_some());
    }
}

pub(crate) async fn a_prefix_finds_what_lies_below_it_and_nothing_beside_it(storage: Backend) {
    let memories = store(&storage);
    let namespaces: [&[&str]; 7] =
        [&["a"], &["a", "b"], &["a", "b", "c"], &["a", "bc"], &["a", "B"], &["a", "b:c"], &["ab"]];
    for namespace in namespaces {
        put(&memories, namespace, &namespace.join("|"), "{}").await;
    }
    for (prefix, expected) in [
        (&["a"][..], &["a|b:c", "a|B", "a|bc", "a|b|c", "a|b", "a"][..]),
        (&["a", "b"], &["a|b|c", "a|b"]),
        (&["a", "b", "c"], &["a|b|c"]),
        (&["a", "*"], &[]),
        (&["b"], &[]),
    ] {
        assert_eq!(keys(&memories, prefix, &SearchMemories::default()).await, expected, "{prefix:?}");
    }
    let mut all = keys(&memories, &[], &SearchMemories::default()).await;
    all.sort_unstable();
    assert_eq!(all, ["a", "ab", "a|B", "a|b", "a|b:c", "a|bc", "a|b|c"]);
}

async fn many(memories: &MemoryStore, namespace: &[&str], count: usize) {
    let put = |n: usize| MemoryOp::Put {
        namespace: namespace.iter().map(|&label| label.to_owned()).collect(),
        key: format!("{n:05}"),
        value: number(n),
        ttl: MemoryTtl::Default,
    };
    memories.batch((0..count).map(put).collect()).await.unwrap();
}

pub(crate) async fn more_than_a_page_is_searched(storage: Backend) {
    let memories = store(&storage);
    many(&memories, &["a", "b"], 2_500).await;
    let filter = Some(json(r#"{"n": {"$gte": 1990}}"#));
    let search = SearchMemories { filter, limit: 2, offset: 500, ..SearchMemories::default() };
    assert_eq!(keys(&memories, &["a"], &search).await, ["02490", "02491"]);
    let all = SearchMemories { limit: 10_000, ..SearchMemories::default() };
    assert_eq!(keys(&memories, &["a"], &all).await.len(), 2_500);
}

fn list(prefix: &[&str], suffix: &[&str], max_depth: Option<usize>) -> ListNamespaces {
    let owned = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect();
    ListNamespaces { prefix: owned(prefix), suffix: owned(suffix), max_depth, ..ListNamespaces::default() }
}

async fn listed(memories: &MemoryStore, list: &ListNamespaces) -> Vec<String> {
    memories.list_namespaces(list).await.unwrap().iter().map(|labels| labels.join("/")).collect()
}

pub(crate) async fn namespaces_are_listed_by_prefix_suffix_and_depth(storage: Backend) {
    let memories = store(&storage);
    for namespace in [
        "a/b/c",
        "a/b/d/e",
        "a/b/d/i",
        "a/b/f",
        "a/c/f",
        "b/b/f",
        "users",
        "users/1/v1",
        "users/2/v1",
        "users-1/x",
    ] {
        let labels: Vec<&str> = namespace.split('/').collect();
        put(&memories, &labels, "1", "{}").await;
        put(&memories, &labels, "2", "{}").await;
    }
    for (list, expected) in [
        (list(&["a", "b"], &[], Some(3)), "a/b/c a/b/d a/b/f"),
        (list(&["a", "b"], &[], None), "a/b/c a/b/d/e a/b/d/i a/b/f"),
        (list(&[], &["f"], None), "a/b/f a/c/f b/b/f"),
        (list(&["*", "b"], &[], None), "a/b/c a/b/d/e a/b/d/i a/b/f b/b/f"),
        (list(&["*", "*", "f"], &[], Some(1)), "a b"),
        (list(&["users"], &["v1"], None), "users/1/v1 users/2/v1"),
        (list(&["users"], &["*", "v1"], Some(2)), "users/1 users/2"),
        (list(&[], &["b", "*"], None), "a/b/c a/b/f b/b/f"),
        (list(&["a", "*", "f"], &[], None), "a/b/f a/c/f"),
        (list(&["users"], &[], Some(1)), "users"),
        (list(&["users", "*"], &[], Some(1)), "users"),
        (list(&[], &[], Some(1)), "a b users users-1"),
        (list(&[], &[], Some(2)), "a/b a/c b/b users users/1 users/2 users-1/x"),
        (list(&["nobody"], &[], None), ""),
        (list(&["a"], &["a", "b", "c", "d"], None), ""),
    ] {
        assert_eq!(listed(&memories, &list).await.join(" "), expected, "{list:?}");
    }
    let page = ListNamespaces { limit: 2, offset: 1, ..list(&["a"], &[], None) };
    assert_eq!(listed(&memories, &page).await, ["a/b/d/e", "a/b/d/i"]);
    let page = ListNamespaces { limit: 2, offset: 2, ..list(&[], &[], Some(1)) };
    assert_eq!(listed(&memories, &page).await, ["users", "users-1"]);
    assert!(listed(&memories, &ListNamespaces { limit: 0, ..page }).await.is_empty());
    for wrong in [
        list(&[""], &[], None),
        list(&[], &[], Some(0)),
        ListNamespaces { limit: 10_001, ..list(&[], &[], None) },
    ] {
        assert_eq!(memories.list_namespaces(&wrong).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

pub(crate) async fn namespaces_are_listed_in_pages_over_many_memories(storage: Backend) {
    let memories = store(&storage);
    for namespace in [&["a"][..], &["a", "b"], &["a", "c", "d"]] {
        many(&memories, namespace, 1_100).await;
    }
    put(&memories, &["a", "z"], "k", "{}").await;
    assert_eq!(listed(&memories, &list(&["a"], &[], None)).await, ["a", "a/b", "a/c/d", "a/z"]);
    assert_eq!(listed(&memories, &list(&["a"], &[], Some(2))).await, ["a", "a/b", "a/c", "a/z"]);
    assert_eq!(listed(&memories, &list(&[], &[], Some(1))).await, ["a"]);
    assert_eq!(listed(&memories, &list(&["a"], &["z"], None)).await, ["a/z"]);
    assert_eq!(listed(&memories, &list(&["a"], &["c", "*"], Some(2))).await, ["a/c"]);
}

pub(crate) async fn a_damaged_memory_hides_no_other(storage: Backend) {
    let memories = store(&storage);
    put(&memories, &["a", "b"], "good", "{}").await;
    put(&memories, &["a", "b"], "odd", "{}").await;
    let odd = Operation::put("b\u{1}\u{1}odd", json(r#"{"of": "another program"}"#), "", PutMode::Upsert);
    let commit = Commit::new(Partition::new("memory", &["a"]).unwrap()).with(odd);
    storage.collections().unwrap().commit(commit).await.unwrap();
    let found = memories.search(&["a"], &SearchMemories::default()).await.unwrap();
    assert_eq!((found.len(), found.corrupt.len(), found.corrupt[0].kind()), (1, 1, ErrorKind::Corrupt));
    assert_eq!(memories.get(&["a", "b"], "odd").await.unwrap_err().kind(), ErrorKind::Corrupt);
    put(&memories, &["a", "b"], "odd", "{}").await;
    assert!(memories.get(&["a", "b"], "odd").await.unwrap().is_some());
}
