//! Several keys in one call.

use serde_json::Value;
use storage_core::{Entry, ErrorKind};

use crate::{Subject, sample::numbered};

/// Answers stand in the order of the question, also for a key that stands there twice.
pub async fn get_many_keeps_order_and_duplicates(subject: Subject) {
    let backend = subject.connected().await;
    for number in 0..5 {
        backend.set(&format!("deal:{number}"), numbered(number), None).await.unwrap();
    }
    let asked = ["deal:4", "deal:none", "deal:0", "deal:4", "Deal:0", "cache:none", "deal:2"];
    let found = backend.get_many(&asked).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|one| one.unwrap()).collect();
    let expected = [Some(4), None, Some(0), Some(4), None, None, Some(2)];
    assert_eq!(found, expected.map(|number| number.map(numbered)));
}

/// Of a key that is written twice in one call the last value and expiry stand.
pub async fn set_many_lets_the_last_duplicate_stand(subject: Subject) {
    let backend = subject.connected().await;
    let entries = [("deal:b", 1), ("deal:a", 2), ("cache:a", 3), ("deal:b", 4), ("deal:a", 5)];
    let entries = entries.map(|(key, number)| Entry::new(key, numbered(number)));
    backend.set_many(entries.into()).await.unwrap();
    assert_eq!(backend.get("deal:a").await.unwrap(), Some(numbered(5)));
    assert_eq!(backend.get("deal:b").await.unwrap(), Some(numbered(4)));
    assert_eq!(backend.get("cache:a").await.unwrap(), Some(numbered(3)));
    let wrong = vec![Entry::new("deal:c", numbered(6)), Entry::new("", numbered(7))];
    assert_eq!(backend.set_many(wrong).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(!backend.exists("deal:c").await.unwrap(), "a wrong key is found before anything is written");
}

/// A key that is not there does not count, one that is given twice counts once.
pub async fn delete_many_counts_what_was_there(subject: Subject) {
    let backend = subject.connected().await;
    for number in 0..4 {
        backend.set(&format!("deal:{number}"), numbered(number), None).await.unwrap();
    }
    backend.set("cache:1", numbered(1), None).await.unwrap();
    let deleted = backend.delete_many(&["deal:0", "deal:none", "deal:1", "deal:0", "cache:1"]).await.unwrap();
    assert_eq!(deleted, 3);
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:2", "deal:3"]);
}

/// Thousands of keys in one call, and none.
pub async fn large_and_empty_calls_work(subject: Subject) {
    let backend = subject.connected().await;
    backend.set_many(Vec::new()).await.unwrap();
    assert!(backend.get_many(&[]).await.unwrap().is_empty());
    assert_eq!(backend.delete_many(&[]).await.unwrap(), 0);
    let keys: Vec<String> = (0..5_000).map(|number| format!("deal:{number}")).collect();
    let entries = keys.iter().enumerate().map(|(number, key)| Entry::new(key.clone(), numbered(number)));
    backend.set_many(entries.collect()).await.unwrap();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = backend.get_many(&names).await.unwrap();
    for (number, one) in found.into_iter().enumerate() {
        let value: Value = one.unwrap().unwrap().decode().unwrap();
        assert_eq!(value["n"], number);
    }
    assert_eq!(backend.keys("deal:*").await.unwrap().len(), 5_000);
    assert_eq!(backend.delete_many(&names).await.unwrap(), 5_000);
    assert!(backend.keys("*").await.unwrap().is_empty());
}
