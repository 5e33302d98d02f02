//! Rows that others wrote wrongly: corrupt, named, and no harm to the rest.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use common::{Place, json};
use futures::StreamExt;
use storage_core::{Error, ErrorKind, Expected, Record, Scan, StorageBackend, StorageExt};
use storage_sqlite::SqliteBackend;

/// A store with two good entries around one whose value is the SQL expression.
async fn with_value(place: &Place, sql: &str) -> SqliteBackend {
    let backend = place.connected().await;
    for key in ["value:1", "value:3"] {
        backend.set(key, json(r#"{"status": "active"}"#), None).await.unwrap();
    }
    place.outside().execute_batch(&format!("INSERT INTO kv_store VALUES ('value:2', {sql}, NULL)")).unwrap();
    backend
}

async fn scanned(backend: &SqliteBackend, scan: Scan) -> Vec<Result<Record, Error>> {
    backend.records(scan).collect().await
}

#[tokio::test]
async fn a_corrupt_value_is_named_and_spares_the_rest() {
    for sql in
        ["'NaN'", "''", "'s3cret'", "'{\"status\": \"\\ud800\"}'", "x'5b5d'", "CAST(x'22ff22' AS TEXT)"]
    {
        let place = Place::new();
        let backend = with_value(&place, sql).await;
        let error = backend.get("value:2").await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("value:2")), "{sql}");
        assert!(!format!("{error:?}").contains("s3cret"));
        assert!(backend.exists("value:2").await.unwrap());
        assert_eq!(backend.keys("value:*").await.unwrap().len(), 3);

        let many = backend.get_many(&["value:1", "value:2", "value:3"]).await.unwrap();
        assert!(matches!(&many[..], [Ok(Some(_)), Err(_), Ok(Some(_))]), "{sql}");
        assert_eq!(many[1].as_ref().unwrap_err().key(), Some("value:2"));

        let entries = Scan::entries("value:*").unwrap();
        for scan in [entries.clone(), entries.filter("status", "active")] {
            let found = scanned(&backend, scan).await;
            assert!(matches!(&found[..], [Ok(_), Err(_), Ok(_)]), "{sql}");
            let error = found[1].as_ref().unwrap_err();
            assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("value:2")), "{sql}");
        }
        assert_eq!(scanned(&backend, Scan::keys("*").unwrap()).await.len(), 3);
    }
}

#[tokio::test]
async fn atomic_steps_refuse_a_corrupt_value_and_leave_it() {
    let place = Place::new();
    let backend = with_value(&place, "'NaN'").await;
    // Neither absent nor a value, as on the other stores.
    let swap = |expected| backend.compare_and_set("value:2", expected, Some(json("1")), None);
    assert!(!swap(Expected::Absent).await.unwrap());
    assert_eq!(swap(Expected::Value(json("1"))).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(backend.increment("value:2", 1, None).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let text: String = place
        .outside()
        .query_row("SELECT value FROM kv_store WHERE key = 'value:2'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(text, "NaN");
    backend.set("value:2", json("1"), None).await.unwrap();
    assert_eq!(backend.increment("value:2", 1, None).await.unwrap(), 2);
}

#[tokio::test]
async fn keys_that_are_none_end_no_listing() {
    let place = Place::new();
    let backend = with_value(&place, "'1'").await;
    place
        .outside()
        .execute_batch(
            "INSERT INTO kv_store VALUES (NULL, '1', NULL), (x'76616c7565', '1', NULL), ('', '1', NULL),
             (CAST(x'76616c75653a32ff' AS TEXT), '1', NULL), ('value:2' || char(0), '1', NULL),
             ('value:' || printf('%02000d', 1), '1', NULL)",
        )
        .unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["value:1", "value:2", "value:3"]);
    let found = scanned(&backend, Scan::entries("value:*").unwrap()).await;
    assert_eq!(found.iter().filter(|record| record.is_ok()).count(), 3);
    assert!(found.iter().filter_map(|r| r.as_ref().err()).all(|error| error.kind() == ErrorKind::Corrupt));
}

#[tokio::test]
async fn an_expiry_that_is_no_number_never_comes() {
    let place = Place::new();
    let backend = place.connected().await;
    place.outside().execute_batch("INSERT INTO kv_store VALUES ('quote:1', '1', 'soon')").unwrap();
    assert!(backend.exists("quote:1").await.unwrap());
    assert_eq!(backend.ttl("quote:1").await.unwrap(), Some(storage_core::Expiry::Never));
    assert_eq!(backend.cleanup().await.unwrap(), 0);
    assert!(backend.delete("quote:1").await.unwrap());
}

#[tokio::test]
async fn filters_find_texts_however_they_are_spelled() {
    let place = Place::new();
    let backend = place.connected().await;
    let spellings =
        [r#"{"status": "é/\"\\"}"#, r#"{"status": "\u00e9\/\u0022\u005c"}"#, r#"{"\u0073tatus": "é/\"\\"}"#];
    for (number, text) in spellings.iter().enumerate() {
        backend.set(&format!("deal:{number}"), json(text), None).await.unwrap();
    }
    backend.set("deal:plain", json(r#"{"status": "é/", "other": "e"}"#), None).await.unwrap();
    for (wanted, found) in [(r#"é/"\"#, 3), ("é/", 1), ("e", 0), ("", 0)] {
        let scan = Scan::entries("deal:*").unwrap().filter("status", wanted);
        assert_eq!(scanned(&backend, scan).await.len(), found, "{wanted}");
    }
}

#[tokio::test]
async fn the_last_of_two_members_of_one_name_counts_in_filters() {
    let place = Place::new();
    let backend = with_value(&place, "'{\"status\": \"paused\", \"status\": \"active\"}'").await;
    let scan = Scan::entries("value:*").unwrap().filter("status", "active");
    assert_eq!(scanned(&backend, scan).await.len(), 3);
}
