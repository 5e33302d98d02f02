//! **Atomic steps**: one winner, nothing lost, nothing half done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use storage_core::{
    Batch, Change, Entry, ErrorKind, Expected, Expiry, Json, StorageExt, add_integer, domain::AdSeller,
};

use crate::{
    Subject,
    sample::{at_once, numbered, value, wait_until_gone},
};

const LONG: Duration = Duration::from_secs(3600);

/// Of 32 callers who create one entry at once, one does.
pub async fn one_of_many_racers_creates_the_entry(subject: Subject) {
    let backend = subject.connected().await;
    for round in 0..5 {
        let winners = Arc::new(AtomicUsize::new(0));
        let key = format!("lock:{round}");
        at_once(32, |task| {
            let (backend, winners, key) = (backend.clone(), winners.clone(), key.clone());
            async move {
                if backend.set_if_absent(&key, numbered(task), Some(LONG)).await.unwrap() {
                    winners.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(
                        backend.get(&key).await.unwrap(),
                        Some(numbered(task)),
                        "the winner's value is there"
                    );
                }
            }
        })
        .await;
        assert_eq!(winners.load(Ordering::Relaxed), 1);
    }
}

/// Order of members and spelling of numbers do not count.
pub async fn compare_and_set_compares_values_not_spellings(subject: Subject) {
    let backend = subject.connected().await;
    for (stored, expected) in [
        (r#"{"a":1,"b":[1,2]}"#, r#"{ "b" : [1.0, 2e0], "a" : 1 }"#),
        ("100", "1e2"),
        ("1e2", "100.0"),
        (r#""é""#, r#""\u00e9""#),
        ("0.1234567890123456789", "0.12345678901234568"),
        ("null", "null"),
    ] {
        backend.set("deal:1", Json::parse(stored).unwrap(), None).await.unwrap();
        let expected = Expected::Value(Json::parse(expected).unwrap());
        let swapped = backend.compare_and_set("deal:1", expected, Some(numbered(1)), None).await.unwrap();
        assert!(swapped, "{stored}");
        assert_eq!(backend.get("deal:1").await.unwrap(), Some(numbered(1)));
    }
    for (stored, other) in
        [("1", "true"), ("1", "\"1\""), ("null", "{}"), ("9007199254740993", "9007199254740992")]
    {
        backend.set("deal:1", Json::parse(stored).unwrap(), None).await.unwrap();
        let other = Expected::Value(Json::parse(other).unwrap());
        assert!(
            !backend.compare_and_set("deal:1", other, Some(numbered(1)), None).await.unwrap(),
            "{stored}"
        );
    }
}

/// `None` deletes; a time to live counts; without one an earlier expiry goes.
pub async fn compare_and_set_deletes_and_expires(subject: Subject) {
    let backend = subject.connected().await;
    let (short, long) = (Some(Duration::from_millis(60)), Some(Duration::from_secs(60)));
    assert!(backend.compare_and_set("deal:1", Expected::Absent, Some(numbered(1)), long).await.unwrap());
    let first = Expected::Value(numbered(1));
    assert!(backend.compare_and_set("deal:1", first, Some(numbered(2)), None).await.unwrap());
    assert_eq!(backend.ttl("deal:1").await.unwrap(), Some(Expiry::Never));
    let second = Expected::Value(numbered(2));
    assert!(backend.compare_and_set("deal:1", second, Some(numbered(3)), short).await.unwrap());
    assert!(wait_until_gone(&backend, "deal:1").await);
    backend.set("deal:2", numbered(1), None).await.unwrap();
    assert!(backend.compare_and_set("deal:2", Expected::Value(numbered(1)), None, None).await.unwrap());
    assert!(!backend.exists("deal:2").await.unwrap());
    let zero =
        backend.compare_and_set("deal:2", Expected::Absent, Some(numbered(1)), Some(Duration::ZERO)).await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A caller with an old value changes neither value nor expiry.
pub async fn a_lost_compare_and_set_changes_nothing(subject: Subject) {
    let backend = subject.connected().await;
    backend.set("deal:1", numbered(1), Some(LONG)).await.unwrap();
    for expected in [Expected::Absent, Expected::Value(numbered(2))] {
        for new in [None, Some(numbered(3))] {
            assert!(!backend.compare_and_set("deal:1", expected.clone(), new, None).await.unwrap());
        }
    }
    let missing =
        backend.compare_and_set("deal:2", Expected::Value(numbered(1)), Some(numbered(2)), None).await;
    assert!(!missing.unwrap());
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(numbered(1)));
    assert!(matches!(backend.ttl("deal:1").await.unwrap(), Some(Expiry::After(_))));
    assert!(!backend.exists("deal:2").await.unwrap());
}

/// The expiry is that of the creation.
pub async fn increment_counts_from_zero_and_keeps_the_expiry(subject: Subject) {
    let backend = subject.connected().await;
    assert_eq!(backend.increment("rate_limit:1", 5, Some(LONG)).await.unwrap(), 5);
    assert_eq!(backend.increment("rate_limit:1", -7, Some(Duration::from_millis(1))).await.unwrap(), -2);
    assert!(
        matches!(backend.ttl("rate_limit:1").await.unwrap(), Some(Expiry::After(left)) if left > LONG / 2)
    );
    assert_eq!(backend.increment("seen:1", 0, None).await.unwrap(), 0);
    assert_eq!(backend.increment("seen:1", 1, Some(LONG)).await.unwrap(), 1);
    assert_eq!(backend.ttl("seen:1").await.unwrap(), Some(Expiry::Never));
    assert_eq!(backend.get("seen:1").await.unwrap(), Some(Json::from(1)));
    for text in ["5.0", "5e0", " 5 ", "5"] {
        backend.set("seen:2", Json::parse(text).unwrap(), None).await.unwrap();
        assert_eq!(backend.increment("seen:2", 1, None).await.unwrap(), 6, "{text}");
    }
    let zero = backend.increment("seen:3", 1, Some(Duration::ZERO)).await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Overflow and everything that is no integer change nothing.
pub async fn increment_refuses_what_is_no_integer(subject: Subject) {
    let backend = subject.connected().await;
    let refused = [
        ("9223372036854775807", 1),
        ("-9223372036854775808", -1),
        ("18446744073709551615", -1),
        ("1e300", 1),
        ("0.5", 1),
        ("\"5\"", 1),
        ("true", 1),
        ("null", 1),
        ("[1]", 1),
        ("{\"n\":1}", 1),
    ];
    for (text, by) in refused {
        let before = Json::parse(text).unwrap();
        assert!(add_integer(Some(&before), by).is_err(), "the reference refuses {text}");
        backend.set("seen:1", before.clone(), None).await.unwrap();
        let error = backend.increment("seen:1", by, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
        assert_eq!(error.key(), Some("seen:1"));
        assert_eq!(backend.get("seen:1").await.unwrap(), Some(before), "{text}");
    }
    backend.set("seen:2", Json::from(i64::MAX - 1), None).await.unwrap();
    assert_eq!(backend.increment("seen:2", 1, None).await.unwrap(), i64::MAX);
    assert_eq!(backend.increment("seen:2", i64::MIN, None).await.unwrap(), -1);
}

/// 16 tasks count to 800 together, and each sum is given out once.
pub async fn racing_increments_lose_none(subject: Subject) {
    let backend = subject.connected().await;
    let sums = Arc::new(std::sync::Mutex::new(Vec::new()));
    at_once(16, |_| {
        let (backend, sums) = (backend.clone(), sums.clone());
        async move {
            for _ in 0..50 {
                let sum = backend.increment("seen:1", 1, None).await.unwrap();
                sums.lock().unwrap().push(sum);
            }
        }
    })
    .await;
    let mut sums = sums.lock().unwrap().clone();
    sums.sort_unstable();
    assert_eq!(sums, (1..=800).collect::<Vec<i64>>());
}

/// As if one operation after the other: the last one on a key stands.
pub async fn apply_takes_effect_in_order(subject: Subject) {
    let backend = subject.connected().await;
    backend.set("order:{t}:1", numbered(1), Some(LONG)).await.unwrap();
    backend.set("order:{t}:2", numbered(2), None).await.unwrap();
    let batch = Batch::new()
        .set("order:{t}:1", numbered(10), None)
        .delete("order:{t}:2")
        .set("order:{t}:3", numbered(30), Some(LONG))
        .set("order:{t}:4", numbered(40), None)
        .delete("order:{t}:4")
        .delete("order:{t}:5")
        .set("order:{t}:5", numbered(50), None)
        .set("order:{t}:5", numbered(51), None)
        .delete("order:{t}:none");
    backend.apply(batch).await.unwrap();
    assert_eq!(backend.keys("order:*").await.unwrap(), ["order:{t}:1", "order:{t}:3", "order:{t}:5"]);
    assert_eq!(backend.get("order:{t}:1").await.unwrap(), Some(numbered(10)));
    assert_eq!(backend.get("order:{t}:5").await.unwrap(), Some(numbered(51)));
    assert_eq!(backend.ttl("order:{t}:1").await.unwrap(), Some(Expiry::Never));
    assert!(matches!(backend.ttl("order:{t}:3").await.unwrap(), Some(Expiry::After(_))));
    backend.apply(Batch::new()).await.unwrap();
}

/// Readers see the state before a batch or after it.
pub async fn readers_never_see_half_a_batch(subject: Subject) {
    let backend = subject.connected().await;
    let keys = ["order:{t}:a", "order:{t}:b", "order:{t}:c"];
    let batch =
        |round: usize| keys.iter().fold(Batch::new(), |batch, key| batch.set(*key, numbered(round), None));
    backend.apply(batch(0)).await.unwrap();
    let reading = tokio::spawn({
        let backend = backend.clone();
        async move {
            for _ in 0..150 {
                let found: Vec<_> = backend
                    .get_many(&keys)
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|one| one.unwrap().unwrap())
                    .collect();
                assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "half a batch: {found:?}");
            }
        }
    });
    for round in 1..150 {
        backend.apply(batch(round)).await.unwrap();
    }
    reading.await.unwrap();
}

/// A batch that cannot be applied whole is not applied at all.
pub async fn a_batch_with_one_wrong_key_changes_nothing(subject: Subject) {
    let backend = subject.connected().await;
    for wrong in [
        Batch::new().set("order:{t}:1", numbered(1), None).delete(""),
        Batch::new().set("order:{t}:1", numbered(1), None).set(
            "order:{t}:2",
            numbered(1),
            Some(Duration::ZERO),
        ),
        Batch::new().set("order:{t}:1", numbered(1), None).set("a\0", numbered(1), None),
    ] {
        assert_eq!(backend.apply(wrong).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(backend.keys("*").await.unwrap().is_empty());
}

/// 16 tasks change one document 25 times each.
pub async fn racing_updates_lose_none(subject: Subject) {
    let backend = subject.connected().await;
    at_once(16, |task| {
        let backend = backend.clone();
        async move {
            for _ in 0..25 {
                let count = backend.update("deal:1", None, |found| {
                    let mut counts: Vec<u64> = found.map_or(Ok(vec![0; 16]), Json::decode)?;
                    counts[task] += 1;
                    Ok(Change::Set(value(&json!(counts))))
                });
                count.await.unwrap();
            }
        }
    })
    .await;
    assert_eq!(backend.get_as::<Vec<u64>>("deal:1").await.unwrap(), Some(vec![25; 16]));
    let kept = backend.update("deal:1", None, |_| Ok(Change::Keep)).await.unwrap();
    assert_eq!(kept, backend.get("deal:1").await.unwrap());
    assert_eq!(backend.update("deal:1", None, |_| Ok(Change::Delete)).await.unwrap(), None);
    assert!(!backend.exists("deal:1").await.unwrap());
}

/// 64 tasks that each add 25 sessions to one buyer's index: all 1,600 are there, each once.
pub async fn a_buyer_index_loses_no_session(subject: Subject) {
    let backend = subject.connected().await;
    at_once(64, |task| {
        let backend = backend.clone();
        async move {
            for number in 0..25 {
                let session = format!("s-{task}-{number}");
                backend.add_session_to_buyer_index(&session, "acme|gold").await.unwrap();
            }
        }
    })
    .await;
    let mut sessions = backend.get_buyer_session_ids("acme|gold").await.unwrap();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 1_600);
}

/// Conditions on several keys, absent or of a value: where one does not hold, nothing changes and the error names its key.
pub async fn a_batch_applies_only_where_its_conditions_hold(subject: Subject) {
    let backend = subject.connected().await;
    let [deal, order, quote] = ["deal:{t}:1", "order:{t}:1", "quote:{t}:1"];
    let book = Batch::new()
        .require(quote, Expected::Value(numbered(5)))
        .require(order, Expected::Absent)
        .set(order, numbered(1), None)
        .set(deal, numbered(1), Some(LONG))
        .delete(quote);
    let refused = backend.apply(book.clone()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::Conflict, Some(quote)));
    backend.set(quote, numbered(6), None).await.unwrap();
    assert_eq!(backend.apply(book.clone()).await.unwrap_err().key(), Some(quote));
    backend.set(quote, numbered(5), None).await.unwrap();
    backend.apply(book.clone()).await.unwrap();
    assert_eq!(backend.keys("*{t}*").await.unwrap(), [deal, order]);
    assert!(matches!(backend.ttl(deal).await.unwrap(), Some(Expiry::After(_))));
    assert_eq!(backend.ttl(order).await.unwrap(), Some(Expiry::Never));
    backend.set(quote, numbered(5), None).await.unwrap();
    assert_eq!(backend.apply(book).await.unwrap_err().key(), Some(order));
    assert_eq!(backend.keys("*{t}*").await.unwrap(), [deal, order, quote]);

    // Nothing but conditions changes nothing; a key may be named twice; what has expired is absent.
    let look = |expected| Batch::new().require("gone:{t}", expected);
    backend.apply(look(Expected::Absent)).await.unwrap();
    assert_eq!(
        backend.apply(look(Expected::Value(numbered(1)))).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    backend.set("gone:{t}", numbered(1), Some(Duration::from_millis(20))).await.unwrap();
    assert!(wait_until_gone(&backend, "gone:{t}").await);
    let twice = look(Expected::Absent).require("gone:{t}", Expected::Absent).delete("gone:{t}");
    backend.apply(twice).await.unwrap();
    assert!(!backend.exists("gone:{t}").await.unwrap());
    assert_eq!(
        backend.apply(Batch::new().require("", Expected::Absent)).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

/// What is required means a value, however it is spelled and whatever the order of its members.
pub async fn conditions_compare_values_not_spellings(subject: Subject) {
    let backend = subject.connected().await;
    let spellings = [r#"{"a":100,"b":[1.5]}"#, r#"{ "b": [15e-1], "a": 1e2 }"#, r#"{"a":100.0,"b":[1.50]}"#];
    for (round, spelled) in spellings.iter().enumerate() {
        backend.set("deal:{t}:1", Json::parse(*spelled).unwrap(), None).await.unwrap();
        for required in spellings {
            let batch = Batch::new()
                .require("deal:{t}:1", Expected::Value(Json::parse(required).unwrap()))
                .set("seen:{t}", numbered(round), None);
            backend.apply(batch).await.unwrap();
        }
        let other =
            Batch::new().require("deal:{t}:1", Expected::Value(value(&json!({"a": 100, "b": [1.6]}))));
        assert_eq!(backend.apply(other).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
}

/// As many conditions as a batch of any size has, every one spelled otherwise than what is stored.
pub async fn any_number_of_conditions_may_be_spelled_otherwise(subject: Subject) {
    let backend = subject.connected().await;
    let key = |number: usize| format!("r:{{t}}:{number}");
    let stored = Json::parse(r#"{"a": 1, "b": 2}"#).unwrap();
    backend.set_many((0..200).map(|number| Entry::new(key(number), stored.clone())).collect()).await.unwrap();
    let required = Json::parse(r#"{"b":2,"a":1.0}"#).unwrap();
    let require = |batch: Batch, number| batch.require(key(number), Expected::Value(required.clone()));
    let batch = (0..200).fold(Batch::new(), require).set("done:{t}", numbered(1), None);
    backend.apply(batch).await.unwrap();
    assert_eq!(backend.get("done:{t}").await.unwrap(), Some(numbered(1)));
}

/// Eight callers move units between two entries, each step on the condition that nobody else has moved: none is lost.
pub async fn racing_conditional_batches_lose_none(subject: Subject) {
    let backend = subject.connected().await;
    let [from, to] = ["stock:{t}:from", "stock:{t}:to"];
    backend.apply(Batch::new().set(from, Json::from(40), None).set(to, Json::from(0), None)).await.unwrap();
    let racing = backend.clone();
    at_once(8, move |_| {
        let backend = racing.clone();
        async move {
            let mut moved = 0;
            while moved < 5 {
                let [left, right] = [from, to].map(|key| backend.get(key));
                let (left, right) = (left.await.unwrap().unwrap(), right.await.unwrap().unwrap());
                let batch = Batch::new()
                    .require(from, Expected::Value(left.clone()))
                    .require(to, Expected::Value(right.clone()))
                    .set(from, Json::from(add_integer(Some(&left), -1).unwrap()), None)
                    .set(to, Json::from(add_integer(Some(&right), 1).unwrap()), None);
                match backend.apply(batch).await {
                    Ok(()) => moved += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
        }
    })
    .await;
    assert_eq!(backend.get(from).await.unwrap(), Some(Json::from(0)));
    assert_eq!(backend.get(to).await.unwrap(), Some(Json::from(40)));
}
