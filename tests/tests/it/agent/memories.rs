//! Long-term memory: putting, getting, deleting, and several at a time.

use std::sync::Arc;

use storage_agent::{ListNamespaces, MemoryAnswer, MemoryOp, MemoryStore, MemoryTtl, SearchMemories};
use storage_core::{ErrorKind, Json};
use tokio::task::JoinSet;

use crate::stores::{Backend, json};

pub(crate) fn store(storage: &Backend) -> MemoryStore {
    MemoryStore::new(storage.clone()).unwrap()
}

pub(crate) fn number(n: usize) -> Json {
    json(&format!(r#"{{"n": {n}}}"#))
}

pub(crate) async fn put(memories: &MemoryStore, namespace: &[&str], key: &str, value: &str) -> String {
    memories.put(namespace, key, json(value), MemoryTtl::Default).await.unwrap()
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

fn put_op(namespace: &[&str], key: &str, value: Json) -> MemoryOp {
    MemoryOp::Put { namespace: owned(namespace), key: key.into(), value, ttl: MemoryTtl::Default }
}

fn get_op(namespace: &[&str], key: &str) -> MemoryOp {
    MemoryOp::Get { namespace: owned(namespace), key: key.into(), refresh_ttl: None }
}

pub(crate) async fn a_memory_comes_back_as_it_was_put(storage: Backend) {
    let memories = store(&storage);
    let facts = ["ada@example.com", "fäkten ☕"];
    assert!(memories.get(&facts, "tea").await.unwrap().is_none());
    let value =
        r#"{"text": "mag Tee ☕", "score": 0.5, "tags": ["a", {"b": null}], "big": 9007199254740993}"#;
    let version = put(&memories, &facts, "tea", value).await;
    let found = memories.get(&facts, "tea").await.unwrap().unwrap();
    assert_eq!((found.namespace.as_slice(), found.key.as_str()), (&owned(&facts)[..], "tea"));
    assert_eq!((&found.value, &found.version), (&json(value), &version));
    assert_eq!((found.created_at, found.expires_at), (found.updated_at, None));
    for (namespace, key) in [(&facts[..1], "tea"), (&facts, "te"), (&["fäkten ☕", "ada@example.com"], "tea")]
    {
        assert!(memories.get(namespace, key).await.unwrap().is_none());
    }
    assert!(memories.delete(&facts, "tea").await.unwrap());
    assert!(!memories.delete(&facts, "tea").await.unwrap());
    assert!(memories.get(&facts, "tea").await.unwrap().is_none());
    assert!(memories.search(&[], &SearchMemories::default()).await.unwrap().is_empty());
    assert!(memories.list_namespaces(&ListNamespaces::default()).await.unwrap().is_empty());
}

pub(crate) async fn putting_again_keeps_when_it_was_created(storage: Backend) {
    let memories = store(&storage);
    let first = put(&memories, &["a"], "k", r#"{"n": 1}"#).await;
    let created = memories.get(&["a"], "k").await.unwrap().unwrap().created_at;
    for n in 2..5 {
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        let version = memories.put(&["a"], "k", number(n), MemoryTtl::Never).await.unwrap();
        let found = memories.get(&["a"], "k").await.unwrap().unwrap();
        assert_eq!((found.value, found.created_at, &found.version), (number(n), created, &version));
        assert!(found.updated_at > created && version != first);
    }
    memories.delete(&["a"], "k").await.unwrap();
    put(&memories, &["a"], "k", r#"{"n": 9}"#).await;
    let anew = memories.get(&["a"], "k").await.unwrap().unwrap();
    assert!(anew.created_at > created && anew.created_at == anew.updated_at);
}

pub(crate) async fn values_and_namespaces_that_are_none_are_refused(storage: Backend) {
    let memories = store(&storage);
    for value in ["1", "[]", "null", r#""text""#] {
        let refused = memories.put(&["a"], "k", json(value), MemoryTtl::Default).await.unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidInput && refused.hint().is_some(), "{value}");
    }
    for namespace in [&[][..], &["a", ""], &["langgraph"], &["a\u{1}b"], &["a\0"]] {
        let refused = memories.put(namespace, "k", json("{}"), MemoryTtl::Default).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{namespace:?}");
    }
    memories.put(&["a"], "spaced", json(" {} "), MemoryTtl::Default).await.unwrap();
    let never = MemoryTtl::After(std::time::Duration::ZERO);
    assert!(memories.put(&["a"], "k", json("{}"), never).await.is_err());
    assert!(memories.get(&[], "k").await.is_err() && memories.delete(&[], "k").await.is_err());
    assert!(memories.search(&[""], &SearchMemories::default()).await.is_err());
    assert!(memories.delete_namespace(&[]).await.is_err());
    let operations = vec![put_op(&["a"], "k", json("{}")), put_op(&[], "k", json("{}"))];
    assert_eq!(memories.batch(operations).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(memories.get(&["a"], "k").await.unwrap().is_none());
}

pub(crate) async fn any_text_is_a_key(storage: Backend) {
    let memories = store(&storage);
    let (long, other) = ("é".repeat(5_000), format!("{}!", "é".repeat(5_000)));
    let keys = [
        "",
        "a",
        "a:b",
        "a%3Ab",
        "a/b",
        "%",
        "\u{1}",
        "\u{1}\u{1}",
        "\u{1}a",
        "*",
        ".",
        "a\nb",
        "🦀",
        &long,
        &other,
    ];
    for namespace in [&["n"][..], &["n", "a:b"], &["n", "a", "b"], &["n:a", "b"], &["n", "*"]] {
        for key in keys {
            let value = json(&serde_json::json!({"of": [namespace, [key]]}).to_string());
            memories.put(namespace, key, value, MemoryTtl::Default).await.unwrap();
        }
    }
    for namespace in [&["n"][..], &["n", "a:b"], &["n", "a", "b"], &["n:a", "b"], &["n", "*"]] {
        for key in keys {
            let found = memories.get(namespace, key).await.unwrap().unwrap();
            let value = json(&serde_json::json!({"of": [namespace, [key]]}).to_string());
            assert_eq!((found.key.as_str(), found.namespace, found.value), (key, owned(namespace), value));
        }
    }
    let all = SearchMemories { limit: 100, ..SearchMemories::default() };
    let found = memories.search(&["n", "a", "b"], &all).await.unwrap();
    let mut found: Vec<_> = found.iter().map(|memory| memory.key.as_str()).collect();
    let mut keys = keys.to_vec();
    found.sort_unstable();
    keys.sort_unstable();
    assert_eq!(found, keys);
    assert!(memories.delete(&["n"], &long).await.unwrap());
    assert!(memories.get(&["n"], &other).await.unwrap().is_some());
}

pub(crate) async fn one_of_eight_wins_each_compare_and_set(storage: Backend) {
    let memories = Arc::new(store(&storage));
    let mut expected: Option<String> = None;
    for round in 0..5 {
        // With and without a time to live.
        let ttl = if round % 2 == 0 {
            MemoryTtl::Never
        } else {
            MemoryTtl::After(std::time::Duration::from_secs(60))
        };
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let (memories, expected) = (Arc::clone(&memories), expected.clone());
            writers.spawn(async move {
                memories.compare_and_set(&["a", "b"], "k", expected.as_deref(), number(writer), ttl).await
            });
        }
        let (won, lost): (Vec<_>, Vec<_>) = writers.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 7));
        assert!(lost.into_iter().all(|lost| lost.unwrap_err().kind() == ErrorKind::Conflict));
        expected = won.into_iter().map(Result::unwrap).next();
        let found = memories.get(&["a", "b"], "k").await.unwrap().unwrap();
        assert_eq!(Some(found.version), expected);
    }
}

pub(crate) async fn a_version_never_fits_again_after_a_deletion(storage: Backend) {
    let memories = store(&storage);
    let old = put(&memories, &["a"], "k", "{}").await;
    assert!(memories.delete(&["a"], "k").await.unwrap());
    let stale = memories.compare_and_set(&["a"], "k", Some(&old), json("{}"), MemoryTtl::Default).await;
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    let new = memories.compare_and_set(&["a"], "k", None, json("{}"), MemoryTtl::Default).await.unwrap();
    for stale in [Some(old.as_str()), Some(""), None] {
        let stale = memories.compare_and_set(&["a"], "k", stale, json("{}"), MemoryTtl::Default).await;
        assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    }
    memories.compare_and_set(&["a"], "k", Some(&new), json("{}"), MemoryTtl::Default).await.unwrap();
}

pub(crate) async fn eight_tasks_that_put_lose_nothing_of_each_other(storage: Backend) {
    let memories = Arc::new(store(&storage));
    let mut writers = JoinSet::new();
    for writer in 0..8_usize {
        let memories = Arc::clone(&memories);
        writers.spawn(async move {
            for n in 0..10 {
                let own = format!("{writer}-{n}");
                memories.put(&["a", "facts"], &own, number(n), MemoryTtl::Default).await.unwrap();
                memories.put(&["a", "facts"], "shared", number(n), MemoryTtl::Default).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let all = SearchMemories { limit: 100, ..SearchMemories::default() };
    assert_eq!(memories.search(&["a"], &all).await.unwrap().len(), 81);
}

pub(crate) async fn a_batch_reads_before_it_writes_and_the_last_write_wins(storage: Backend) {
    let memories = store(&storage);
    put(&memories, &["a"], "k", r#"{"n": 1}"#).await;
    let answers = memories.batch(vec![
        put_op(&["a"], "k", number(2)),
        get_op(&["a"], "k"),
        put_op(&["b"], "new", number(3)),
        get_op(&["b"], "new"),
        put_op(&["a"], "k", number(4)),
        MemoryOp::Search { prefix: owned(&["b"]), search: SearchMemories::default() },
        MemoryOp::ListNamespaces(ListNamespaces::default()),
        put_op(&["a"], "gone", number(5)),
        MemoryOp::Delete { namespace: owned(&["a"]), key: "gone".into() },
    ]);
    let answers = answers.await.unwrap();
    let [
        MemoryAnswer::Written,
        MemoryAnswer::Memory(Some(before)),
        MemoryAnswer::Written,
        MemoryAnswer::Memory(None),
        MemoryAnswer::Written,
        MemoryAnswer::Found(found),
        MemoryAnswer::Namespaces(namespaces),
        MemoryAnswer::Written,
        MemoryAnswer::Written,
    ] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((&before.value, found.len(), namespaces), (&number(1), 0, &vec![owned(&["a"])]));
    let answers = memories.batch(vec![get_op(&["a"], "k"), get_op(&["b"], "new"), get_op(&["a"], "gone")]);
    let [MemoryAnswer::Memory(Some(k)), MemoryAnswer::Memory(Some(new)), MemoryAnswer::Memory(None)] =
        &answers.await.unwrap()[..]
    else {
        panic!("other answers")
    };
    assert_eq!((&k.value, k.created_at, &new.value), (&number(4), before.created_at, &number(3)));
    assert!(memories.batch(Vec::new()).await.unwrap().is_empty());
}

pub(crate) async fn a_batch_below_one_first_label_is_all_or_nothing(storage: Backend) {
    let memories = Arc::new(store(&storage));
    let pair =
        |n: usize| vec![put_op(&["a", "left"], "k", number(n)), put_op(&["a", "right"], "k", number(n))];
    memories.batch(pair(0)).await.unwrap();
    let mut tasks = JoinSet::new();
    for writer in 0..4 {
        let memories = Arc::clone(&memories);
        let batches: Vec<_> = (0..10).map(|n| pair(writer * 10 + n)).collect();
        tasks.spawn(async move {
            for batch in batches {
                memories.batch(batch).await.unwrap();
            }
        });
    }
    for _ in 0..2 {
        let memories = Arc::clone(&memories);
        tasks.spawn(async move {
            for _ in 0..40 {
                let found = memories.search(&["a"], &SearchMemories::default()).await.unwrap();
                assert_eq!((found.len(), &found[0].value), (2, &found[1].value));
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn a_namespace_is_deleted_with_all_below_it(storage: Backend) {
    let memories = store(&storage);
    let many: Vec<_> = (0..1_200).map(|n| put_op(&["a", "b", "c"], &n.to_string(), number(n))).collect();
    memories.batch(many).await.unwrap();
    let minute = MemoryTtl::After(std::time::Duration::from_secs(60));
    memories.put(&["a", "b"], "k", json("{}"), minute).await.unwrap();
    for namespace in [&["a"][..], &["a", "bb"], &["b", "b"]] {
        put(&memories, namespace, "k", "{}").await;
    }
    assert_eq!(memories.delete_namespace(&["a", "b"]).await.unwrap(), 1_201);
    assert_eq!(memories.delete_namespace(&["a", "b"]).await.unwrap(), 0);
    let left = memories.list_namespaces(&ListNamespaces::default()).await.unwrap();
    assert_eq!(left, [owned(&["a"]), owned(&["a", "bb"]), owned(&["b", "b"])]);
    assert_eq!(memories.delete_namespace(&["a"]).await.unwrap(), 2);
    assert_eq!(memories.search(&[], &SearchMemories::default()).await.unwrap().len(), 1);
}
