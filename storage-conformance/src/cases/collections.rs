//! **Collections**: partitions of ordered items; a commit happens whole or not at all.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use storage_core::{
    CollectionStore, Commit, Error, ErrorKind, Expire, Item, Json, MAX_ATTRIBUTES_BYTES, Operation, Order,
    Outcome, Partition, PartitionInfo, Precondition, PutMode, Query, sequence_key,
};

use crate::{
    Subject,
    sample::{Backend, at_once, value},
};

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

/// Puts, appends, deletes and increments answer what they did, and a query shows it.
pub async fn operations_of_a_commit_take_effect_in_order(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let commit = Commit::new(of.clone())
        .with(put("a", "1", PutMode::Insert))
        .with(put("a", "2", PutMode::InsertIfAbsent))
        .with(append("first"))
        .with(upsert("b", "3"))
        .with(upsert("b", "4"))
        .with(Operation::Delete { sort: "a".into() })
        .with(Operation::Delete { sort: "a".into() })
        .with(append("second"))
        .with(Operation::Increment { sort: "count".into(), by: 5 })
        .with(Operation::Increment { sort: "count".into(), by: -7 });
    let committed = store(&backend).commit(commit).await.unwrap();
    let appended = |sequence| Outcome::Appended { sequence, new: true };
    let applied = Outcome::Applied;
    let expected = [
        applied(true),
        applied(false),
        appended(1),
        applied(true),
        applied(true),
        applied(true),
        applied(false),
        appended(2),
        Outcome::Sum(5),
        Outcome::Sum(-2),
    ];
    assert_eq!(committed.outcomes, expected);
    assert_eq!(committed.version, 1);
    assert_eq!(sorts(&backend, &of).await, ["b", "count", &sequence_key("m:", 1), &sequence_key("m:", 2)]);
    let items = all(&backend, &of).await;
    assert_eq!((&*items[0].body, items[0].body_bytes, items[0].version), (&b"4"[..], 1, 1));
    assert_eq!(items[0].attributes, value(&json!({"of": "b"})));
    assert_eq!(items[1].attributes, Json::from(-2));
    assert_counted(&backend, &of).await;
    assert_eq!(info(&backend, &of).await.unwrap().sequence, 2);
    assert_eq!(info(&backend, &partition("s-2")).await, None);
}

/// What fails half-way leaves everything as it was: items, tags, counts, version and sequence.
pub async fn a_commit_that_fails_changes_nothing(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let first =
        Commit::new(of.clone()).with(upsert("a", "1")).with(tagged("x", "t-1")).with(upsert("word", "w"));
    store(&backend).commit(first).await.unwrap();
    let (before, items) = (info(&backend, &of).await, all(&backend, &of).await);
    let changes = || {
        Commit::new(of.clone())
            .with(upsert("a", "2"))
            .with(append("y"))
            .with(Operation::DeleteRange { from: "m:".into(), to: None })
            .with(tagged("z", "t-1"))
            .with(Operation::Trim { items: Some(1), bytes: None, written_since: None })
            .expire(Expire::After(Duration::from_secs(60)))
    };
    let taken = changes().with(upsert("b", "1")).with(put("b", "2", PutMode::Insert));
    assert_eq!(kind(store(&backend).commit(taken).await), ErrorKind::Conflict);
    let no_integer = changes().with(upsert("c", "1")).with(Operation::Increment { sort: "c".into(), by: 1 });
    assert_eq!(kind(store(&backend).commit(no_integer).await), ErrorKind::InvalidInput);
    let overflow = changes()
        .with(Operation::Increment { sort: "n".into(), by: i64::MAX })
        .with(Operation::Increment { sort: "n".into(), by: 1 });
    assert_eq!(kind(store(&backend).commit(overflow).await), ErrorKind::InvalidInput);
    let stale = changes().only_if(Precondition::Version(7));
    assert_eq!(kind(store(&backend).commit(stale).await), ErrorKind::Conflict);
    assert_eq!(info(&backend, &of).await, before);
    assert_eq!(all(&backend, &of).await, items);
    let again = store(&backend).commit(Commit::new(of.clone()).with(tagged("x", "t-1"))).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Appended { sequence: 1, new: false }]);
    let fresh = Commit::new(partition("s-2")).with(upsert("a", "1")).with(put("a", "2", PutMode::Insert));
    assert_eq!(kind(store(&backend).commit(fresh).await), ErrorKind::Conflict);
    assert_eq!(info(&backend, &partition("s-2")).await, None, "a failed first commit makes no partition");
}

/// Each precondition holds or the commit is a `Conflict`.
pub async fn preconditions_are_kept(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let commit =
        |precondition: Precondition| Commit::new(of.clone()).only_if(precondition).with(upsert("a", "1"));
    let present = || Precondition::Present("a".into());
    let absent = || Precondition::Absent("a".into());
    let written_by = |version| Precondition::ItemVersion("a".into(), version);
    for wrong in [Precondition::Version(1), present(), written_by(1)] {
        assert_eq!(kind(store(&backend).commit(commit(wrong)).await), ErrorKind::Conflict);
    }
    let fresh = commit(absent()).only_if(Precondition::Version(0));
    assert_eq!(store(&backend).commit(fresh).await.unwrap().version, 1);
    for wrong in [Precondition::Version(0), Precondition::Version(2), absent(), written_by(2)] {
        assert_eq!(kind(store(&backend).commit(commit(wrong)).await), ErrorKind::Conflict);
    }
    let other = Commit::new(of.clone()).only_if(written_by(1)).with(upsert("b", "1"));
    store(&backend).commit(other).await.unwrap();
    let both = commit(written_by(1)).only_if(present()).only_if(Precondition::Version(2));
    assert_eq!(store(&backend).commit(both).await.unwrap().version, 3);
    assert_eq!(kind(store(&backend).commit(commit(written_by(1))).await), ErrorKind::Conflict);
}

/// Of many callers who expect one version, one wins.
pub async fn one_of_many_racers_commits_on_a_version(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    for version in 0..5 {
        let winners = Arc::new(AtomicUsize::new(0));
        at_once(16, |task| {
            let (backend, of, winners) = (backend.clone(), of.clone(), winners.clone());
            async move {
                let body = task.to_string();
                let commit = Commit::new(of).only_if(Precondition::Version(version)).with(upsert("a", &body));
                match store(&backend).commit(commit).await {
                    Ok(_) => drop(winners.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
        })
        .await;
        assert_eq!(winners.load(Ordering::Relaxed), 1);
    }
}

/// 16 writers append 800 items: each number once, and no reader sees a gap that is filled later.
pub async fn a_sequence_has_no_gap_that_is_filled_later(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let reading = tokio::spawn({
        let (backend, of) = (backend.clone(), of.clone());
        async move {
            let mut seen = 0;
            while seen < 800 {
                let items = all(&backend, &of).await;
                let keys: Vec<String> =
                    (1..=items.len() as u64).map(|number| sequence_key("m:", number)).collect();
                let found: Vec<&String> = items.iter().map(|item| &item.sort).collect();
                assert!(found == keys.iter().collect::<Vec<_>>(), "a gap among {} items", found.len());
                assert!(items.len() >= seen, "items do not go");
                seen = items.len();
            }
        }
    });
    at_once(16, |task| {
        let (backend, of) = (backend.clone(), of.clone());
        async move {
            for number in 0..50 {
                let commit = Commit::new(of.clone()).with(append(&format!("{task}:{number}")));
                store(&backend).commit(commit).await.unwrap();
            }
        }
    })
    .await;
    reading.await.unwrap();
    let bodies: BTreeSet<_> = all(&backend, &of).await.into_iter().map(|item| item.body).collect();
    assert_eq!(bodies.len(), 800, "each once");
    let info = info(&backend, &of).await.unwrap();
    assert_eq!((info.version, info.sequence, info.items), (800, 800, 800));
}

/// An append that is tried again is done once, also by many at once; the tag goes with its item.
pub async fn a_tagged_append_is_done_once(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    at_once(16, |_| {
        let (backend, of) = (backend.clone(), of.clone());
        async move {
            for number in 0..5 {
                let commit = Commit::new(of.clone()).with(tagged("x", &format!("t-{number}")));
                store(&backend).commit(commit).await.unwrap();
            }
        }
    })
    .await;
    assert_eq!(all(&backend, &of).await.len(), 5);
    let twice = Commit::new(of.clone()).with(tagged("y", "t-9")).with(tagged("z", "t-9"));
    let outcomes = store(&backend).commit(twice).await.unwrap().outcomes;
    assert_eq!(outcomes[0], Outcome::Appended { sequence: 6, new: true });
    assert_eq!(outcomes[1], Outcome::Appended { sequence: 6, new: false });
    let again = Commit::new(of.clone())
        .with(Operation::Delete { sort: sequence_key("m:", 6) })
        .with(tagged("y", "t-9"));
    let outcomes = store(&backend).commit(again).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Appended { sequence: 7, new: true });
    assert_counted(&backend, &of).await;
}

async fn filled(backend: &Backend, of: &Partition) {
    let keys = ["a", "a:1", "a:2", "a;", "A", "b", "b:%_*", "c\u{1}", "é", "日本", "z\u{10ffff}"];
    let commit = keys.iter().fold(Commit::new(of.clone()), |commit, key| commit.with(upsert(key, key)));
    store(backend).commit(commit).await.unwrap();
}

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
    let refused = Commit::new(of.clone()).with(upsert("", "x"));
    assert_eq!(kind(store(&backend).commit(refused).await), ErrorKind::InvalidInput);
}

/// Ranges are deleted, and bounds by count, bytes and age drop the beginning.
pub async fn ranges_and_bounds_delete_what_they_say(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let ten = (0..10).fold(Commit::new(of.clone()), |commit, _| commit.with(append("0123456789")));
    store(&backend).commit(ten).await.unwrap();
    let range = Operation::DeleteRange { from: sequence_key("m:", 3), to: Some(sequence_key("m:", 5)) };
    let outcomes = store(&backend).commit(Commit::new(of.clone()).with(range)).await.unwrap().outcomes;
    assert_eq!(outcomes, [Outcome::Deleted(2)]);
    let trim = |items, bytes, written_since| {
        Commit::new(of.clone()).with(append("0123456789")).with(Operation::Trim {
            items,
            bytes,
            written_since,
        })
    };
    let outcomes = store(&backend).commit(trim(Some(5), None, None)).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(4));
    assert_eq!(sorts(&backend, &of).await[0], sequence_key("m:", 7));
    assert_counted(&backend, &of).await;
    let each = info(&backend, &of).await.unwrap().bytes / 5;
    let outcomes = store(&backend).commit(trim(None, Some(each * 3), None)).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(3));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let last = store(&backend).commit(Commit::new(of.clone()).with(append("new"))).await.unwrap();
    assert_eq!(last.version, 5);
    let since = all(&backend, &of).await.last().unwrap().written_at;
    let outcomes = store(&backend).commit(trim(None, None, Some(since))).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(3));
    let outcomes = store(&backend).commit(trim(None, Some(1), None)).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(2), "the last item stays, whatever it has");
    assert_counted(&backend, &of).await;
}

/// 8 writers into a bounded partition: it is never over its bound, and what stays is the latest.
pub async fn a_bound_holds_throughout(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    at_once(8, |_| {
        let (backend, of) = (backend.clone(), of.clone());
        async move {
            for _ in 0..40 {
                let trim = Operation::Trim { items: Some(20), bytes: None, written_since: None };
                store(&backend).commit(Commit::new(of.clone()).with(append("x")).with(trim)).await.unwrap();
                assert!(all(&backend, &of).await.len() <= 20);
            }
        }
    })
    .await;
    let expected: Vec<String> = (301..=320).map(|number| sequence_key("m:", number)).collect();
    assert_eq!(sorts(&backend, &of).await, expected);
}

/// 16 tasks count to 800 together.
pub async fn racing_item_increments_lose_none(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    at_once(16, |_| {
        let (backend, of) = (backend.clone(), of.clone());
        async move {
            for _ in 0..50 {
                let commit =
                    Commit::new(of.clone()).with(Operation::Increment { sort: "count".into(), by: 1 });
                store(&backend).commit(commit).await.unwrap();
            }
        }
    })
    .await;
    let found = store(&backend).items(&of, &["count"]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().attributes, Json::from(800));
}

/// A partition expires whole and at once, and begins anew.
pub async fn a_partition_expires_whole_and_begins_anew(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let short = Expire::After(Duration::from_millis(80));
    store(&backend)
        .commit(Commit::new(of.clone()).with(append("old")).with(tagged("t", "t-1")).expire(short))
        .await
        .unwrap();
    assert!(info(&backend, &of).await.unwrap().expires_at.is_some());
    let stays = partition("s-2");
    store(&backend).commit(Commit::new(stays.clone()).with(append("x")).expire(short)).await.unwrap();
    store(&backend).commit(Commit::new(stays.clone()).with(append("y"))).await.unwrap();
    assert!(info(&backend, &stays).await.unwrap().expires_at.is_some(), "another commit keeps the expiry");
    store(&backend).commit(Commit::new(stays.clone()).expire(Expire::Never)).await.unwrap();
    for _ in 0..400 {
        if info(&backend, &of).await.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(info(&backend, &of).await, None);
    assert!(all(&backend, &of).await.is_empty());
    assert_eq!(store(&backend).items(&of, &[&sequence_key("m:", 1)]).await.unwrap(), [None]);
    assert!(!store(&backend).delete_partition(&of).await.unwrap());
    assert_eq!(all(&backend, &stays).await.len(), 2);
    let fresh = Commit::new(of.clone()).only_if(Precondition::Version(0)).with(tagged("new", "t-1"));
    let committed = store(&backend).commit(fresh).await.unwrap();
    assert_eq!(
        (committed.version, &committed.outcomes[0]),
        (1, &Outcome::Appended { sequence: 1, new: true })
    );
    assert_eq!(all(&backend, &of).await.len(), 1, "nothing of the old one comes back");
    assert_eq!(info(&backend, &of).await.unwrap().expires_at, None);
    backend.cleanup().await.unwrap();
    assert_eq!(all(&backend, &of).await.len(), 1);
    assert_counted(&backend, &of).await;
}

/// A deleted partition is gone at once, and begins anew.
pub async fn a_deleted_partition_begins_anew(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    filled(&backend, &of).await;
    assert!(store(&backend).delete_partition(&of).await.unwrap());
    assert!(!store(&backend).delete_partition(&of).await.unwrap());
    assert_eq!(info(&backend, &of).await, None);
    assert!(all(&backend, &of).await.is_empty());
    let fresh = Commit::new(of.clone()).only_if(Precondition::Absent("a".into())).with(append("x"));
    assert_eq!(store(&backend).commit(fresh).await.unwrap().version, 1);
    backend.cleanup().await.unwrap();
    assert_eq!(sorts(&backend, &of).await, [sequence_key("m:", 1)]);
}

async fn listed(backend: &Backend, kind: &str, segments: &[&str]) -> Vec<String> {
    let found: Vec<PartitionInfo> = store(backend).partitions(kind, segments).try_collect().await.unwrap();
    let mut texts: Vec<String> = found.into_iter().map(|info| info.partition.as_str().to_owned()).collect();
    texts.sort();
    texts
}

/// Partitions are listed by kind and first segments; look-alikes never meet.
pub async fn partitions_are_listed_by_kind_and_never_meet(subject: Subject) {
    let backend = subject.connected().await;
    let names: [&[&str]; 8] =
        [&["a"], &["a", ""], &["a", "b:c"], &["a:b", "c"], &["a", "b", "c"], &["ab"], &["a*"], &["é{x}"]];
    for (number, segments) in names.iter().enumerate() {
        let of = Partition::new("thread", segments).unwrap();
        store(&backend).commit(Commit::new(of).with(upsert("a", &number.to_string()))).await.unwrap();
    }
    let other = Partition::new("thread_2", &["a"]).unwrap();
    store(&backend).commit(Commit::new(other).with(upsert("a", "x"))).await.unwrap();
    for (number, segments) in names.iter().enumerate() {
        let items = all(&backend, &Partition::new("thread", segments).unwrap()).await;
        assert_eq!((items.len(), &items[0].body[..]), (1, number.to_string().as_bytes()), "{segments:?}");
    }
    assert_eq!(listed(&backend, "thread", &[]).await.len(), 8);
    assert_eq!(
        listed(&backend, "thread", &["a"]).await,
        ["thread:a", "thread:a:", "thread:a:b%3Ac", "thread:a:b:c"]
    );
    assert_eq!(listed(&backend, "thread", &["a", "b"]).await, ["thread:a:b:c"]);
    assert_eq!(listed(&backend, "thread", &["a:b"]).await, ["thread:a%3Ab:c"]);
    assert_eq!(listed(&backend, "nothing", &[]).await, [""; 0]);
    assert!(store(&backend).partitions("Wrong:Kind", &[]).next().await.unwrap().is_err());
    assert!(backend.keys("*").await.unwrap().is_empty(), "partitions are no entries");
}

/// Hundreds of partitions are listed, each once.
pub async fn many_partitions_are_listed_once_each(subject: Subject) {
    let backend = subject.connected().await;
    at_once(8, |task| {
        let backend = backend.clone();
        async move {
            for number in 0..75 {
                let of = partition(&format!("{task}-{number}"));
                store(&backend).commit(Commit::new(of).with(append("x"))).await.unwrap();
            }
        }
    })
    .await;
    let texts = listed(&backend, "conversation", &[]).await;
    assert_eq!(texts.len(), 600);
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 600);
}

/// A commit whose caller went away happened whole or not at all.
pub async fn a_dropped_commit_happened_whole_or_not_at_all(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let mut random = fastrand::Rng::new();
    let mut acknowledged = 0;
    for _ in 0..100 {
        let commit = Commit::new(of.clone()).with(append("a")).with(append("b")).with(append("c"));
        let moment = Duration::from_micros(random.u64(0..2_000));
        if let Ok(answer) = tokio::time::timeout(moment, store(&backend).commit(commit)).await {
            answer.unwrap();
            acknowledged += 1;
        }
    }
    store(&backend).commit(Commit::new(of.clone()).with(append("last"))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let items = all(&backend, &of).await;
    let info = info(&backend, &of).await.unwrap();
    assert_eq!(items.len() as u64, (info.version - 1) * 3 + 1, "three of each commit, or none");
    assert!(info.version > acknowledged && info.version <= 101);
    let keys: Vec<String> = (1..=items.len() as u64).map(|number| sequence_key("m:", number)).collect();
    assert_eq!(sorts(&backend, &of).await, keys);
}

/// Before `connect` and after `disconnect` every operation says so.
pub async fn unconnected_collections_say_so(subject: Subject) {
    let backend = subject.open();
    let of = partition("s-1");
    for _ in 0..2 {
        let collections = store(&backend);
        assert_eq!(
            kind(collections.commit(Commit::new(of.clone()).with(append("x"))).await),
            ErrorKind::NotConnected
        );
        assert_eq!(kind(collections.query(Query::all(of.clone(), 1)).await), ErrorKind::NotConnected);
        assert_eq!(kind(collections.items(&of, &["a"]).await), ErrorKind::NotConnected);
        assert_eq!(kind(collections.partition(&of).await), ErrorKind::NotConnected);
        assert_eq!(kind(collections.delete_partition(&of).await), ErrorKind::NotConnected);
        assert!(collections.partitions("conversation", &[]).next().await.unwrap().is_err());
        backend.connect().await.unwrap();
        store(&backend).commit(Commit::new(of.clone()).with(append("x"))).await.unwrap();
        backend.disconnect().await.unwrap();
    }
    backend.connect().await.unwrap();
    assert_eq!(all(&backend, &of).await.len(), 2, "partitions survive a reconnect");
}

/// Random commits answer what the memory backend answers, and leave what it has.
pub async fn random_commits_behave_as_in_memory(subject: Subject) {
    let backend = subject.connected().await;
    let reference: Backend = Arc::new(storage_core::MemoryBackend::new());
    reference.connect().await.unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let of = partition("s-1");
    for step in 0..250 {
        let commit = random_commit(&mut random, &of);
        let expected = store(&reference).commit(commit.clone()).await;
        let found = store(&backend).commit(commit.clone()).await;
        match (expected, found) {
            (Ok(expected), Ok(found)) => assert_eq!(found, expected, "step {step}, seed {seed}: {commit:?}"),
            (Err(expected), Err(found)) => {
                assert_eq!(found.kind(), expected.kind(), "step {step}, seed {seed}: {commit:?}");
            }
            (expected, found) => panic!("step {step}, seed {seed}: {commit:?}: {found:?}, not {expected:?}"),
        }
        if random.u8(..40) == 0 {
            let deleted = store(&backend).delete_partition(&of).await.unwrap();
            assert_eq!(deleted, store(&reference).delete_partition(&of).await.unwrap());
        }
    }
    let plain = |item: Item| (item.sort, item.attributes, item.body, item.version);
    let found: Vec<_> = all(&backend, &of).await.into_iter().map(plain).collect();
    let expected: Vec<_> = all(&reference, &of).await.into_iter().map(plain).collect();
    assert_eq!(found, expected, "seed {seed}");
    let plain = |info: PartitionInfo| (info.version, info.items, info.bytes, info.sequence);
    assert_eq!(info(&backend, &of).await.map(plain), info(&reference, &of).await.map(plain), "seed {seed}");
}

fn random_commit(random: &mut fastrand::Rng, of: &Partition) -> Commit {
    let sort = |random: &mut fastrand::Rng| ["a", "b", "c:1", "c:2", "m:", "n"][random.usize(..6)].to_owned();
    let mut commit = Commit::new(of.clone());
    if random.u8(..4) == 0 {
        commit = commit.only_if(match random.u8(..4) {
            0 => Precondition::Version(random.u64(..6)),
            1 => Precondition::Absent(sort(random)),
            2 => Precondition::Present(sort(random)),
            _ => Precondition::ItemVersion(sort(random), random.u64(1..6)),
        });
    }
    for _ in 0..random.usize(..5) {
        commit = commit.with(match random.u8(..12) {
            0..=2 => upsert(&sort(random), &"x".repeat(random.usize(..40))),
            3 => put(&sort(random), "if absent", PutMode::InsertIfAbsent),
            4 => put(&sort(random), "insert", PutMode::Insert),
            5 | 6 => append("appended"),
            7 => tagged("tagged", &format!("t-{}", random.u8(..4))),
            8 => Operation::Delete { sort: sort(random) },
            9 => Operation::DeleteRange { from: sort(random), to: random.bool().then(|| sort(random)) },
            10 => Operation::Increment {
                sort: "n".to_owned() + &random.u8(..2).to_string(),
                by: random.i64(-5..5),
            },
            _ => Operation::Trim {
                items: random.bool().then(|| random.u64(..12)),
                bytes: random.bool().then(|| random.u64(..400)),
                written_since: None,
            },
        });
    }
    commit
}
