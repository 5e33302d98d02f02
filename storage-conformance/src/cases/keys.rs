//! **Keys**: 1 to 1,024 bytes of UTF-8 without NUL, compared byte for byte.

use std::time::Duration;

use futures::StreamExt;
use storage_core::{Batch, Entry, Error, ErrorKind, Expected, Scan, StorageExt};

use crate::{
    Subject,
    sample::{Backend, adversarial_keys, numbered},
};

/// Each of many look-alike keys holds its own value.
pub async fn every_legal_key_is_kept_apart(subject: Subject) {
    let backend = subject.connected().await;
    let keys = adversarial_keys();
    for (number, key) in keys.iter().enumerate() {
        backend.set(key, numbered(number), None).await.unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(backend.get(key).await.unwrap(), Some(numbered(number)), "{key:?}");
        assert!(backend.exists(key).await.unwrap(), "{key:?}");
    }
    assert!(backend.delete("deal:a*b").await.unwrap());
    assert!(backend.exists("deal:a?b").await.unwrap(), "a deletion takes one key alone");
    assert_eq!(backend.keys("*").await.unwrap().len(), keys.len() - 1);
}

fn illegal_keys() -> [String; 4] {
    [String::new(), "k".repeat(1025), "é".repeat(513), "deal:\0".to_owned()]
}

/// Every operation that takes a key answers `InvalidInput` for one that is none.
pub async fn illegal_keys_are_refused_by_every_operation(subject: Subject) {
    let backend = subject.connected().await;
    for key in illegal_keys() {
        for (operation, error) in errors_of_every_operation(&backend, &key).await {
            let error = error.unwrap_or_else(|| panic!("{operation} takes the key {key:?}"));
            let expected = [ErrorKind::InvalidInput, ErrorKind::Unsupported].contains(&error.kind());
            assert!(expected, "{operation} of {key:?}: {error}");
        }
    }
    assert!(backend.keys("*").await.unwrap().is_empty(), "nothing was written");
}

/// What each operation on `key` answers, where it is an error.
pub(super) async fn errors_of_every_operation(
    backend: &Backend,
    key: &str,
) -> Vec<(&'static str, Option<Error>)> {
    let value = numbered(1);
    let entry = Entry::new(key, value.clone());
    let swap = backend.compare_and_set(key, Expected::Absent, Some(value.clone()), None).await;
    vec![
        ("get", backend.get(key).await.err()),
        ("set", backend.set(key, value.clone(), None).await.err()),
        ("delete", backend.delete(key).await.err()),
        ("exists", backend.exists(key).await.err()),
        ("get_many", backend.get_many(&["deal:1", key]).await.err()),
        ("set_many", backend.set_many(vec![entry]).await.err()),
        ("delete_many", backend.delete_many(&[key]).await.err()),
        ("compare_and_set", swap.err()),
        ("increment", backend.increment(key, 1, None).await.err()),
        ("apply", backend.apply(Batch::new().set(key, value, None)).await.err()),
        ("ttl", backend.ttl(key).await.err()),
        ("expire", backend.expire(key, Duration::from_secs(1)).await.err()),
        ("persist", backend.persist(key).await.err()),
    ]
}

/// The same for the operations that take no key.
pub(super) async fn errors_of_keyless_operations(backend: &Backend) -> Vec<(&'static str, Option<Error>)> {
    let scanned = backend.scan(Scan::keys("*").unwrap()).next().await.and_then(Result::err);
    vec![
        ("keys", backend.keys("*").await.err()),
        ("scan", scanned),
        ("cleanup", backend.cleanup().await.err()),
        ("stats", backend.stats().await.err()),
    ]
}

/// An error says where it happened.
pub async fn an_error_names_backend_operation_and_key(subject: Subject) {
    let backend = subject.connected().await;
    let long = "k".repeat(1025);
    let error = backend.get(&long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.key(), Some(&*long));
    assert_eq!(error.operation(), Some("get"));
    assert!(error.backend().is_some());
    let shown = error.to_string();
    assert!(shown.contains("1024") && shown.contains("1025"), "the limit and the size: {shown}");
}
