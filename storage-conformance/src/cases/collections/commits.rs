//! Commits: order, failure, preconditions, sequences, bounds.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use storage_core::{
    Commit, ErrorKind, Expire, Json, Operation, Outcome, Precondition, PutMode, sequence_key,
};

use super::*;
use crate::{
    Subject,
    sample::{at_once, value},
};

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
    assert!(committed.version > 0, "0 is that of no partition");
    assert_eq!(sorts(&backend, &of).await, ["b", "count", &sequence_key("m:", 1), &sequence_key("m:", 2)]);
    let items = all(&backend, &of).await;
    assert_eq!((&*items[0].body, items[0].body_bytes, items[0].version), (&b"4"[..], 1, committed.version));
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
            .with(Operation::Trim { items: Some(1), bytes: None, max_age: None })
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
    let version = before.as_ref().unwrap().version;
    let stale = changes().only_if(Precondition::Version(version + 1));
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
    let first = store(&backend).commit(fresh).await.unwrap().version;
    for wrong in [Precondition::Version(0), Precondition::Version(first + 1), absent(), written_by(first + 1)]
    {
        assert_eq!(kind(store(&backend).commit(commit(wrong)).await), ErrorKind::Conflict);
    }
    let other = Commit::new(of.clone()).only_if(written_by(first)).with(upsert("b", "1"));
    store(&backend).commit(other).await.unwrap();
    let both = commit(written_by(first)).only_if(present()).only_if(Precondition::Version(first + 1));
    assert_eq!(store(&backend).commit(both).await.unwrap().version, first + 2);
    assert_eq!(kind(store(&backend).commit(commit(written_by(first))).await), ErrorKind::Conflict);
}

/// Of many callers who expect one version, one wins.
pub async fn one_of_many_racers_commits_on_a_version(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let mut version = 0;
    for round in 0..5 {
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
        let after = info(&backend, &of).await.unwrap().version;
        assert!(round == 0 || after == version + 1, "{after} comes after {version}");
        version = after;
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
    let items = all(&backend, &of).await;
    let bodies: BTreeSet<_> = items.iter().map(|item| &item.body).collect();
    assert_eq!(bodies.len(), 800, "each once");
    let info = info(&backend, &of).await.unwrap();
    assert_eq!((info.version - items[0].version, info.sequence, info.items), (799, 800, 800));
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

/// Ranges are deleted, and bounds by count, bytes and age, which the store's clock judges, drop the beginning, but nothing that
/// the same commit wrote.
pub async fn ranges_and_bounds_delete_what_they_say(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let ten = (0..10).fold(Commit::new(of.clone()), |commit, _| commit.with(append("0123456789")));
    let first = store(&backend).commit(ten).await.unwrap().version;
    let range = Operation::DeleteRange { from: sequence_key("m:", 3), to: Some(sequence_key("m:", 5)) };
    let outcomes = store(&backend).commit(Commit::new(of.clone()).with(range)).await.unwrap().outcomes;
    assert_eq!(outcomes, [Outcome::Deleted(2)]);
    let trim = |items, bytes, max_age| {
        Commit::new(of.clone()).with(append("0123456789")).with(Operation::Trim { items, bytes, max_age })
    };
    let outcomes = store(&backend).commit(trim(Some(5), None, None)).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(4));
    assert_eq!(sorts(&backend, &of).await[0], sequence_key("m:", 7));
    assert_counted(&backend, &of).await;
    let each = info(&backend, &of).await.unwrap().bytes / 5;
    let outcomes = store(&backend).commit(trim(None, Some(each * 3), None)).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(3));
    let hour = Some(Duration::from_secs(3600));
    let outcomes = store(&backend).commit(trim(None, None, hour)).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(0));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let half = Some(Duration::from_millis(25));
    let committed = store(&backend).commit(trim(None, None, half)).await.unwrap();
    assert_eq!((committed.version, committed.outcomes[1]), (first + 5, Outcome::Deleted(4)));
    let outcomes = store(&backend).commit(trim(None, Some(1), None)).await.unwrap().outcomes;
    assert_eq!(outcomes[1], Outcome::Deleted(1), "what the commit wrote stays, whatever it has");
    assert_counted(&backend, &of).await;
    let many = (0..4).fold(Commit::new(of.clone()), |commit, _| commit.with(append("new")));
    let trim = |items, bytes, max_age| Operation::Trim { items, bytes, max_age };
    let many = many.with(trim(Some(2), None, Some(Duration::ZERO)));
    let outcomes = store(&backend).commit(many).await.unwrap().outcomes;
    assert_eq!(outcomes[4], Outcome::Deleted(1), "what it wrote stays, also beyond a bound");
    assert_eq!(all(&backend, &of).await.len(), 4);
    let alone = Commit::new(of.clone()).with(trim(None, Some(1), None));
    assert_eq!(store(&backend).commit(alone).await.unwrap().outcomes, [Outcome::Deleted(3)]);
    let rest = Commit::new(of.clone()).with(trim(Some(0), None, None));
    assert_eq!(store(&backend).commit(rest).await.unwrap().outcomes, [Outcome::Deleted(1)]);
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
                let trim = Operation::Trim { items: Some(20), bytes: None, max_age: None };
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
    let before_last = info.version - items[0].version;
    assert_eq!(items.len() as u64, before_last * 3 + 1, "three of each commit, or none");
    assert!(before_last >= acknowledged && before_last <= 100);
    let keys: Vec<String> = (1..=items.len() as u64).map(|number| sequence_key("m:", number)).collect();
    assert_eq!(sorts(&backend, &of).await, keys);
}
