//! Queries: ranges, pages, bodies.

use serde_json::json;
use storage_core::{Commit, ErrorKind, Json, MAX_ATTRIBUTES_BYTES, Operation, Order, PutMode, Query};

use super::*;
use crate::{Subject, sample::value};

/// Ranges, prefixes and limits, from either end, page by page.
pub async fn queries_page_through_ranges_in_both_directions(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    filled(&backend, &of).await;
    let everything = sorts(&backend, &of).await;
    let mut sorted = everything.clone();
    sorted.sort();
    assert_eq!(everything, sorted, "byte order");
    let queries = [
        Query::all(of.clone(), 3),
        Query::prefix(of.clone(), "a", 2),
        Query::prefix(of.clone(), "a:", 1),
        Query::prefix(of.clone(), "z\u{10ffff}", 1),
        Query::range(of.clone(), "a:1", Some("b:".into()), 2),
        Query::range(of.clone(), "b", None, 100),
        Query::range(of.clone(), "z", Some("a".into()), 5),
        Query::prefix(of.clone(), "nothing", 5),
    ];
    for query in queries {
        let inside = |sort: &&String| **sort >= query.from && query.to.as_ref().is_none_or(|to| *sort < to);
        let mut expected: Vec<String> = sorted.iter().filter(inside).cloned().collect();
        for order in [Order::Ascending, Order::Descending] {
            let mut next = Some(query.clone().order(order));
            let mut found = Vec::new();
            while let Some(query) = next {
                let page = store(&backend).query(query.clone()).await.unwrap();
                assert!(page.items.len() <= query.limit);
                found.extend(page.items.iter().map(|item| item.sort.clone()));
                next = query.after(&page);
            }
            assert_eq!(found, expected, "{query:?} {order:?}");
            expected.reverse();
        }
    }
    let absent = store(&backend).query(Query::all(partition("none"), 5)).await.unwrap();
    assert!(absent.items.is_empty() && !absent.more);
}

/// A query without bodies tells their sizes, and a page of large ones ends early.
pub async fn queries_leave_bodies_out_and_bound_pages(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let large = "x".repeat(3 * 1024 * 1024);
    for number in 0..4 {
        let commit = Commit::new(of.clone()).with(upsert(&format!("big:{number}"), &large));
        store(&backend).commit(commit).await.unwrap();
    }
    let bare = store(&backend).query(Query::all(of.clone(), 10).without_bodies()).await.unwrap();
    assert!(!bare.more && bare.items.len() == 4);
    assert!(bare.items.iter().all(|item| item.body.is_empty() && item.body_bytes == large.len() as u64));
    let page = store(&backend).query(Query::all(of.clone(), 10)).await.unwrap();
    assert!(page.more && !page.items.is_empty() && page.items.len() < 4, "{} items", page.items.len());
    let rest = store(&backend).query(Query::all(of.clone(), 10).after(&page).unwrap()).await.unwrap();
    assert!(!rest.items.is_empty());
    assert!(rest.items.iter().all(|item| item.body == large));
    for limit in [0, 10_001] {
        assert_eq!(kind(store(&backend).query(Query::all(of.clone(), limit)).await), ErrorKind::InvalidInput);
    }
}

/// Several items at once, in the order asked for.
pub async fn items_come_in_the_order_asked_for(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    filled(&backend, &of).await;
    let found = store(&backend).items(&of, &["日本", "none", "a", "日本"]).await.unwrap();
    let found: Vec<Option<String>> = found.into_iter().map(|item| item.map(|item| item.sort)).collect();
    assert_eq!(found, [Some("日本".into()), None, Some("a".into()), Some("日本".into())]);
    assert!(store(&backend).items(&of, &[]).await.unwrap().is_empty());
    assert_eq!(store(&backend).items(&partition("none"), &["a"]).await.unwrap(), [None]);
    assert_eq!(kind(store(&backend).items(&of, &[""]).await), ErrorKind::InvalidInput);
}

/// Bodies are any bytes; empty ones are kept apart from none.
pub async fn bodies_are_any_bytes(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let every: Vec<u8> = (0..=255).collect();
    let attributes = value(&json!({"é": "\u{1f680}", "n": [1.5, null, u64::MAX]}));
    let commit = Commit::new(of.clone())
        .with(Operation::put("every", attributes.clone(), every.clone(), PutMode::Insert))
        .with(Operation::put("empty", none(), Vec::new(), PutMode::Insert));
    store(&backend).commit(commit).await.unwrap();
    let found = store(&backend).items(&of, &["every", "empty"]).await.unwrap();
    let [Some(every_item), Some(empty)] = &found[..] else { panic!("both are there") };
    assert_eq!((&every_item.body[..], &every_item.attributes), (&every[..], &attributes));
    assert!(empty.body.is_empty());
    let too_long = Json::from_serialize(&"x".repeat(MAX_ATTRIBUTES_BYTES)).unwrap();
    let refused = Commit::new(of.clone()).with(Operation::put("a", too_long, "", PutMode::Upsert));
    assert_eq!(kind(store(&backend).commit(refused).await), ErrorKind::InvalidInput);
    let much = bytes::Bytes::from(vec![0; 16 * 1024 * 1024]);
    let heavy = |commit: Commit, n: usize| {
        commit.with(Operation::put(n.to_string(), none(), much.clone(), PutMode::Upsert))
    };
    let refused = (0..5).fold(Commit::new(of.clone()), heavy);
    assert_eq!(kind(store(&backend).commit(refused).await), ErrorKind::InvalidInput, "80 MiB in one commit");
    let refused = Commit::new(of.clone()).with(upsert("", "x"));
    assert_eq!(kind(store(&backend).commit(refused).await), ErrorKind::InvalidInput);
}
