use futures::StreamExt;
use storage_core::{Batch, ErrorKind, Expected, Json, Scan, StorageBackend, StorageExt};

use crate::common::{config, open, outside, schema};

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap()
}

#[tokio::test]
async fn stored_values_that_we_cannot_take_are_corrupt_and_spare_the_rest() {
    let config = config("corrupt");
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    backend.set("v:good", json(r#"{"n": 1}"#), None).await.unwrap();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let insert = format!(
        "INSERT INTO {}.kv_store (key, value) VALUES ('v:huge', '1e400'), ('v:deep', '{deep}'), ('v:tiny', '1e-400')",
        schema(&config)
    );
    outside().await.batch_execute(&insert).await.unwrap();
    for key in ["v:huge", "v:deep", "v:tiny"] {
        let error = backend.get(key).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(key)));
        assert!(backend.exists(key).await.unwrap());
        assert!(!backend.compare_and_set(key, Expected::Value(Json::from(1)), None, None).await.unwrap());
    }
    let many = backend.get_many(&["v:huge", "v:good", "v:deep"]).await.unwrap();
    let kinds: Vec<_> =
        many.iter().map(|value| value.as_ref().err().map(storage_core::Error::kind)).collect();
    assert_eq!(kinds, [Some(ErrorKind::Corrupt), None, Some(ErrorKind::Corrupt)]);
    let listed: Vec<_> = backend.records(Scan::entries("v:*").unwrap()).collect().await;
    let good: Vec<_> =
        listed.iter().filter_map(|item| item.as_ref().ok()).map(|record| &*record.key).collect();
    let bad: Vec<_> =
        listed.iter().filter_map(|item| item.as_ref().err()).filter_map(|error| error.key()).collect();
    assert_eq!(good, ["v:good"]);
    assert_eq!(bad, ["v:deep", "v:huge", "v:tiny"]);
    assert_eq!(backend.increment("v:huge", 1, None).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn numbers_that_are_one_float_here_are_one_value_for_compare_and_set() {
    let backend = open(config("spelling"));
    backend.connect().await.unwrap();
    for (stored, expected) in [
        ("0.1", "0.1000000000000000055511151231257827"),
        ("[1e2, 5.0]", "[100, 5]"),
        (r#"{"a": 1, "b": 2}"#, r#"{"b":2.0,"a":1}"#),
        ("1e300", "1000e297"),
    ] {
        backend.set("k", json(stored), None).await.unwrap();
        let expected = Expected::Value(json(expected));
        assert!(backend.compare_and_set("k", expected, Some(json("true")), None).await.unwrap(), "{stored}");
    }
}

#[tokio::test]
async fn numeric_filters_find_every_spelling() {
    let backend = open(config("filters"));
    backend.connect().await.unwrap();
    for (key, value) in [("f:1", "0.1"), ("f:2", "0.1000000000000000055511151231257827"), ("f:3", "0.2")] {
        backend.set(key, json(&format!(r#"{{"n": {value}, "s": "x"}}"#)), None).await.unwrap();
    }
    let scan = Scan::keys("f:*").unwrap().filter("n", 0.1).filter("s", "x");
    let found: Vec<_> = backend.records(scan).map(|record| record.unwrap().key).collect().await;
    assert_eq!(found, ["f:1", "f:2"]);
}

#[tokio::test]
async fn a_listing_of_large_and_small_entries_is_whole() {
    let backend = open(config("pages"));
    backend.connect().await.unwrap();
    // Compresses well, so that the size in the table says little about the size on the way.
    let large = Json::from_serialize(&"x".repeat(1_000_000)).unwrap();
    for number in 0..400 {
        let value = if number % 10 == 3 { large.clone() } else { Json::from(number) };
        backend.set(&format!("p:{number:03}"), value, None).await.unwrap();
    }
    let keys: Vec<_> =
        backend.records(Scan::entries("p:*").unwrap()).map(|record| record.unwrap().key).collect().await;
    let expected: Vec<_> = (0..400).map(|number| format!("p:{number:03}")).collect();
    assert_eq!(keys, expected);
    assert_eq!(backend.keys("p:*").await.unwrap(), expected);
}

#[tokio::test]
async fn everything_works_without_prepared_statements() {
    let mut config = config("pooler");
    config.pooler = true;
    config.application_name = "pooler-mode".to_owned();
    let backend = open(config);
    backend.connect().await.unwrap();
    backend.set("a", json(r#"{"s": "x"}"#), None).await.unwrap();
    assert_eq!(backend.increment("n", 5, None).await.unwrap(), 5);
    assert!(
        backend
            .compare_and_set("n", Expected::Value(Json::from(5)), Some(Json::from(7)), None)
            .await
            .unwrap()
    );
    backend.apply(Batch::new().set("b", json("[1]"), None).delete("n")).await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["a", "b"]);
    let scan = Scan::entries("*").unwrap().filter("s", "x");
    assert_eq!(backend.records(scan).count().await, 1);
    assert_eq!(backend.delete_many(&["a", "b", "n"]).await.unwrap(), 2);
    assert_eq!(backend.cleanup().await.unwrap(), 0);
}
