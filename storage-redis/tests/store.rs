//! What lies in the store: namespaces, expiry, foreign and corrupt entries, numbers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use storage_core::{Batch, Entry, ErrorKind, Expected, Expiry, Scan, StorageBackend, StorageExt};
use support::{config, json, open, raw, shared, variable};

#[tokio::test]
async fn namespaces_with_glob_characters_see_their_own_keys_alone() {
    let url = variable("STORAGE_TEST_REDIS_URL");
    let base = support::namespace();
    let spaces = ["a*:", "ab:", "a?:", "a[b]:", "a\\:", ""].map(|end| format!("{base}{end}"));
    let mut backends = Vec::new();
    for namespace in &spaces {
        let mut config = config(&url);
        config.namespace.clone_from(namespace);
        let backend = open(config).await;
        backend.set("own", json(&format!("{namespace:?}")), None).await.unwrap();
        backends.push(backend);
    }
    for (backend, namespace) in backends.iter().zip(&spaces) {
        let keys = backend.keys("*").await.unwrap();
        // The last namespace is a prefix of the others, so their keys are keys of its own too.
        let expected = if *namespace == base { spaces.len() } else { 1 };
        assert_eq!(keys.len(), expected, "{namespace} {keys:?}");
        assert_eq!(backend.get("own").await.unwrap(), Some(json(&format!("{namespace:?}"))));
    }
}

#[tokio::test]
async fn an_entry_is_one_redis_string_with_its_own_expiry() {
    let (backend, namespace) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    let text = r#"{"b": 1e2,  "a": "é"}"#;
    backend.set("deal:1", json(text), Some(Duration::from_millis(60_000))).await.unwrap();
    let full = format!("{namespace}deal:1");
    let (found, left): (String, i64) =
        redis::pipe().get(&full).pttl(&full).query_async(&mut raw).await.unwrap();
    assert_eq!(found, text);
    assert!((59_000..=60_000).contains(&left), "{left}");
    backend.set("deal:1", json("1"), None).await.unwrap();
    assert_eq!(backend.ttl("deal:1").await.unwrap(), Some(Expiry::Never));
    backend.set("deal:1", json("1"), Some(Duration::from_nanos(1))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(backend.ttl("deal:1").await.unwrap(), None);
}

#[tokio::test]
async fn corrupt_entries_name_their_key_and_spare_the_others() {
    let (backend, namespace) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    let full = |key: &str| format!("{namespace}{key}");
    let mut plant = redis::pipe();
    plant.set(full("v:nan"), "NaN").set(full("v:bytes"), b"\"\xff\"".as_slice()).set(full("v:empty"), "");
    plant.hset(full("v:hash"), "a", 1).rpush(full("v:list"), 1);
    plant.set([full("v:").as_bytes(), b"\xff"].concat(), "1").set(&namespace, "1");
    plant.exec_async(&mut raw).await.unwrap();
    backend.set("v:good", json("1"), None).await.unwrap();

    for key in ["v:nan", "v:bytes", "v:empty", "v:hash", "v:list"] {
        let error = backend.get(key).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(key)), "{error}");
        assert!(backend.exists(key).await.unwrap());
        // Neither absent nor a value.
        let absent = Batch::new().require(key, Expected::Absent).set("v:good", json("2"), None);
        let error = backend.apply(absent).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Conflict, Some(key)), "{error}");
        let valued = Batch::new().require(key, Expected::Value(json("1"))).set("v:good", json("2"), None);
        let error = backend.apply(valued).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(key)), "{error}");
        assert!(!backend.compare_and_set(key, Expected::Absent, Some(json("2")), None).await.unwrap());
    }
    let found = backend.get_many(&["v:good", "v:nan", "v:hash", "v:gone"]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap(), &Some(json("1")));
    assert_eq!(found[1].as_ref().unwrap_err().key(), Some("v:nan"));
    assert_eq!(found[2].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(found[3].as_ref().unwrap(), &None);

    assert_eq!(backend.keys("*").await.unwrap(), ["v:bytes", "v:empty", "v:good", "v:nan"]);
    assert!(backend.keys("v:hash").await.unwrap().is_empty());
    let records: Vec<_> = backend.records(Scan::entries("v:*").unwrap()).collect().await;
    let (good, corrupt): (Vec<_>, Vec<_>) = records.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), corrupt.len()), (1, 3));
    let named: BTreeSet<String> =
        corrupt.into_iter().map(|error| error.unwrap_err().key().unwrap().to_owned()).collect();
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["v:bytes", "v:empty", "v:nan"]);

    let swapped = backend.compare_and_set("v:nan", Expected::Value(json("1")), None, None).await;
    assert_eq!(swapped.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(backend.increment("v:hash", 1, None).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn increments_read_every_spelling_of_an_integer() {
    let (backend, _) = shared().await;
    let long = Some(Duration::from_secs(100));
    for (stored, by, expected) in [
        ("5.0", 1, Some(6)),
        ("1e2", -1, Some(99)),
        ("-0", 3, Some(3)),
        (" 7 ", 1, Some(8)),
        ("9223372036854775806", 1, Some(i64::MAX)),
        ("9223372036854775807", 1, None),
        ("-9223372036854775808", -1, None),
        ("9007199254740993", 2, Some(9_007_199_254_740_995)),
        ("5.5", 1, None),
        ("\"5\"", 1, None),
        ("[5]", 1, None),
    ] {
        for ttl in [None, Some(Duration::from_secs(7))] {
            backend.set("n", json(stored), long).await.unwrap();
            match (backend.increment("n", by, ttl).await, expected) {
                (Ok(sum), Some(expected)) => {
                    assert_eq!(sum, expected, "{stored}");
                    assert_eq!(backend.get("n").await.unwrap().unwrap().as_str(), expected.to_string());
                }
                (Err(error), None) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{stored} {error}");
                    assert_eq!(backend.get("n").await.unwrap().unwrap().as_str(), stored);
                }
                (sum, expected) => panic!("{stored}: {sum:?} instead of {expected:?}"),
            }
            let Some(Expiry::After(left)) = backend.ttl("n").await.unwrap() else {
                panic!("{stored}: no expiry")
            };
            assert!(left > Duration::from_secs(90), "{stored} keeps its expiry: {left:?}");
        }
    }
    assert_eq!(backend.increment("new", i64::MIN, long).await.unwrap(), i64::MIN);
    assert!(matches!(backend.ttl("new").await.unwrap(), Some(Expiry::After(_))));
}

#[tokio::test]
async fn scripts_survive_a_server_that_forgets_them() {
    let (backend, _) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    for _ in 0..3 {
        backend.set("deal:1", json("{\"a\":1,\"b\":2}"), None).await.unwrap();
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.unwrap();
        let expected = Expected::Value(json("{\"b\":2.0,\"a\":1e0}"));
        assert!(backend.compare_and_set("deal:1", expected, Some(json("2")), None).await.unwrap());
        assert!(backend.persist("deal:1").await.unwrap());
    }
}

#[tokio::test]
async fn large_values_are_scanned_and_hold_up_no_small_read() {
    let (backend, _) = shared().await;
    let large = json(&format!("\"{}\"", "x".repeat(8 * 1024 * 1024)));
    for number in 0..6 {
        backend.set(&format!("big:{number}"), large.clone(), None).await.unwrap();
    }
    let small = (0..2_000).map(|number| Entry::new(format!("small:{number}"), json("{\"n\":1}")));
    backend.set_many(small.collect()).await.unwrap();
    let mut keys = BTreeSet::new();
    let mut records = backend.records(Scan::entries("*").unwrap().with_expiry());
    while let Some(record) = records.next().await {
        assert!(keys.insert(record.unwrap().key), "each once");
        assert!(backend.exists("small:1").await.unwrap());
    }
    assert_eq!(keys.len(), 2_006);
}

#[tokio::test]
async fn on_a_cluster_calls_span_slots_and_batches_do_not() {
    let backend = support::cluster().await;
    let entries = (0..3_000).map(|number| Entry::new(format!("deal:{number}"), json(&number.to_string())));
    backend.set_many(entries.collect()).await.unwrap();
    assert_eq!(backend.keys("deal:*").await.unwrap().len(), 3_000);
    assert_eq!(backend.records(Scan::entries("deal:*9").unwrap()).count().await, 300);
    let names: Vec<String> = (0..3_001).map(|number| format!("deal:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = backend.get_many(&names).await.unwrap();
    for (number, value) in found.into_iter().enumerate() {
        let expected = (number < 3_000).then(|| json(&number.to_string()));
        assert_eq!(value.unwrap(), expected);
    }
    assert_eq!(backend.delete_many(&names).await.unwrap(), 3_000);

    let apart = Batch::new().set("a", json("1"), None).set("b", json("1"), None).set("c", json("1"), None);
    assert_eq!(backend.apply(apart).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(backend.keys("*").await.unwrap().is_empty());
    let together = Batch::new().set("{o}:a", json("1"), None).set("{o}:b", json("2"), None).delete("{o}:a");
    backend.apply(together).await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["{o}:b"]);
}
