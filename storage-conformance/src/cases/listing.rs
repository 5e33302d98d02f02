//! **Listing**: one glob grammar, sorted keys, scans that see a lasting key exactly once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::StreamExt;
use serde_json::{Value, json};
use storage_core::{Cursor, Entry, ErrorKind, Glob, Record, Result, Scan, StorageExt};

use crate::{
    Subject,
    sample::{Backend, adversarial_keys, numbered, records, value},
};

async fn fill(backend: &Backend, keys: &[String]) {
    let entries = keys.iter().enumerate().map(|(number, key)| Entry::new(key.clone(), numbered(number)));
    backend.set_many(entries.collect()).await.unwrap();
}

fn reference(keys: &[String], pattern: &str) -> Vec<String> {
    let glob = Glob::new(pattern).unwrap();
    let mut matching: Vec<String> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
    matching.sort();
    matching
}

/// Byte order, not the order of a locale.
pub async fn keys_are_sorted_by_bytes_without_duplicates(subject: Subject) {
    let backend = subject.connected().await;
    let mut keys = adversarial_keys();
    fill(&backend, &keys).await;
    fill(&backend, &keys).await;
    keys.sort();
    assert_eq!(backend.keys("*").await.unwrap(), keys);
}

/// The grammar, on keys made for it.
pub async fn patterns_mean_what_the_grammar_says(subject: Subject) {
    let backend = subject.connected().await;
    let keys = adversarial_keys();
    fill(&backend, &keys).await;
    for pattern in [
        "deal:*",
        "deal:?",
        "deal:??",
        "*:1",
        "*",
        "deal:[0-9]",
        "deal:[!0-9]*",
        "deal:[^0-9]*",
        "deal:[a]",
        "deal:\\[a\\]",
        "deal:a\\*b",
        "deal:a\\?b",
        "deal:[*]",
        "deal:back\\\\slash",
        "[Dd]eal:1",
        "deal:[",
        "deal:[]a]*",
        "deal:[z-a]",
        "deal",
        "deal:",
        "",
        "nothing:*",
        "*é*",
        "deal:[а-я]*",
        "?eal:1*",
        "**",
        "deal:*:*",
        "\\",
        "deal:\u{10ffff}*",
    ] {
        assert_eq!(backend.keys(pattern).await.unwrap(), reference(&keys, pattern), "{pattern}");
    }
}

/// `_`, `%`, `.`, `+`, `^`, `$` and friends are plain text, and case counts.
pub async fn characters_of_other_grammars_mean_themselves(subject: Subject) {
    let backend = subject.connected().await;
    fill(&backend, &adversarial_keys()).await;
    assert_eq!(backend.keys("opt_decision:*").await.unwrap(), ["opt_decision:1"]);
    assert_eq!(backend.keys("deal:100%").await.unwrap(), ["deal:100%"]);
    assert_eq!(backend.keys("DEAL:*").await.unwrap(), [""; 0]);
    assert_eq!(backend.keys("Deal:*").await.unwrap(), ["Deal:1"]);
    assert_eq!(backend.keys("deal:.").await.unwrap(), [""; 0]);
    assert_eq!(backend.keys("deal:$1").await.unwrap(), ["deal:$1"]);
    assert_eq!(backend.keys("deal:{tag}").await.unwrap(), ["deal:{tag}"]);
}

/// A property: whatever the pattern, the store lists what the reference matcher lists.
pub async fn random_patterns_agree_with_the_reference_matcher(subject: Subject) {
    let backend = subject.connected().await;
    let keys = adversarial_keys();
    fill(&backend, &keys).await;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let pieces = [
        "deal:", "deal", "a", "1", "é", ":", "*", "?", "[", "]", "[!", "[^", "-", "\\", "[a-z]", "[0-9]",
        "%", "_", "'", "{",
    ];
    for _ in 0..150 {
        let length = random.usize(1..6);
        let pattern: String = (0..length).map(|_| pieces[random.usize(..pieces.len())]).collect();
        assert_eq!(
            backend.keys(&pattern).await.unwrap(),
            reference(&keys, &pattern),
            "{pattern:?}, seed {seed}"
        );
    }
}

/// What no key could match is `InvalidInput`.
pub async fn patterns_that_are_none_are_refused(subject: Subject) {
    let backend = subject.connected().await;
    for pattern in ["deal:\0*".to_owned(), "*".repeat(100_000)] {
        assert_eq!(backend.keys(&pattern).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

/// A scan with values carries them, one of keys does not.
pub async fn scan_returns_values_and_keys(subject: Subject) {
    let backend = subject.connected().await;
    let keys = adversarial_keys();
    fill(&backend, &keys).await;
    let found = records(&backend, Scan::entries("*").unwrap()).await;
    let by_key: BTreeMap<_, _> =
        found.iter().map(|record| (record.key.clone(), record.value.clone())).collect();
    assert_eq!(found.len(), keys.len());
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(by_key[key], Some(numbered(number)), "{key:?}");
    }
    let names = records(&backend, Scan::keys("deal:[0-9]*").unwrap()).await;
    assert!(names.iter().all(|record| record.value.is_none()));
    assert_eq!(names.len(), reference(&keys, "deal:[0-9]*").len());
}

fn filtered_samples() -> Vec<Value> {
    vec![
        json!({"status": "active", "deal_type": "PMP", "n": 1}),
        json!({"status": "Active", "n": 1.0}),
        json!({"status": "active ", "n": "1"}),
        json!({"status": null, "n": true}),
        json!({"status": ["active"], "product": {"product_id": "p-1"}}),
        json!({"status": {"status": "active"}, "product": "p-1"}),
        json!({"nothing": "active", "product": {"product_id": "p-1", "n": 18_446_744_073_709_551_615_u64}}),
        json!({"status": "it's \"active\" \\ é 🚀 %_", "n": 1e300}),
        json!("active"),
        json!(["active"]),
        json!(null),
        json!(1),
        json!({"a.b": "dotted", "a": {"b": "nested"}, "we\"ird'$": "x", "": "empty"}),
    ]
}

/// Field filters find the same entries on every store.
pub async fn scan_filters_as_the_reference_does(subject: Subject) {
    let backend = subject.connected().await;
    let samples = filtered_samples();
    for (number, sample) in samples.iter().enumerate() {
        backend.set(&format!("deal:{number:02}"), value(sample), None).await.unwrap();
    }
    let filters = [
        ("status", json!("active")),
        ("status", json!(null)),
        ("status", json!("it's \"active\" \\ é 🚀 %_")),
        ("status", json!({"status": "active"})),
        ("status.status", json!("active")),
        ("n", json!(1)),
        ("n", json!("1")),
        ("n", json!(true)),
        ("n", json!(1e300)),
        ("product.product_id", json!("p-1")),
        ("product.n", json!(18_446_744_073_709_551_615_u64)),
        ("a.b", json!("nested")),
        ("we\"ird'$", json!("x")),
        ("", json!("empty")),
        ("0", json!("active")),
        ("missing", json!("active")),
    ];
    for (path, equals) in filters {
        let scan = Scan::entries("deal:*").unwrap().filter(path, equals.clone());
        let expected: Vec<String> = (0..samples.len())
            .filter(|number| scan.filters()[0].accepts(&samples[*number]))
            .map(|number| format!("deal:{number:02}"))
            .collect();
        let found: Vec<_> = backend.collect::<Value>(scan).await.unwrap().all().unwrap();
        let found: Vec<String> = found.into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, expected, "{path} = {equals}");
    }
    let both = Scan::keys("deal:*").unwrap().filter("status", "active").filter("deal_type", "PMP");
    assert_eq!(records(&backend, both).await.len(), 1);
}

/// While others come and go, and while values are rewritten, what stays is seen once.
pub async fn scan_sees_a_lasting_key_exactly_once(subject: Subject) {
    let backend = subject.connected().await;
    let lasting: Vec<String> = (0..3_000).map(|number| format!("deal:{number:05}")).collect();
    fill(&backend, &lasting).await;
    let done = std::sync::Arc::new(AtomicBool::new(false));
    let churn = tokio::spawn({
        let (backend, done) = (backend.clone(), done.clone());
        async move {
            let mut number = 0_usize;
            while !done.load(Ordering::Relaxed) {
                let key = format!("deal:{:05}-x", number % 700);
                backend.set(&key, numbered(number), None).await.unwrap();
                backend.set(&format!("deal:{:05}", number % 3_000), numbered(number), None).await.unwrap();
                backend.delete(&format!("deal:{:05}-x", (number + 350) % 700)).await.unwrap();
                number += 1;
            }
        }
    });
    for _ in 0..3 {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut scan = backend.scan(Scan::entries("deal:*").unwrap());
        while let Some(record) = scan.next().await {
            let record = record.unwrap();
            assert!(record.value.is_some());
            *seen.entry(record.key).or_default() += 1;
        }
        assert!(seen.values().all(|times| *times == 1), "no key comes twice");
        assert!(lasting.iter().all(|key| seen.contains_key(key)), "every lasting key comes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done.store(true, Ordering::Relaxed);
    churn.await.unwrap();
}

/// The keys of a listing in pages, whose cursors go through text.
async fn paged(backend: &Backend, scan: &Scan, limit: usize) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let after: Option<Cursor> = cursor.map(|text| text.parse().unwrap());
        let page = backend.scan_page(scan, after.as_ref(), limit).await.unwrap();
        keys.extend(page.items.into_iter().map(|record| record.unwrap().key));
        match page.next {
            Some(next) => cursor = Some(next.to_string()),
            None => return keys,
        }
    }
}

/// Pages of any limit tell every key, each once but where the store says that one may come again.
pub async fn pages_go_on_from_a_cursor_that_was_kept_as_text(subject: Subject) {
    let backend = subject.connected().await;
    let mut keys: Vec<String> = (0..400).map(|number| format!("deal:{number:03}")).collect();
    keys.extend(adversarial_keys().into_iter().filter(|key| key.starts_with("deal:")));
    keys.sort_unstable();
    keys.dedup();
    fill(&backend, &keys).await;
    backend.set("other:1", numbered(1), None).await.unwrap();
    for limit in [1, 7, 100, 5_000] {
        let scans = [Scan::keys("deal:*"), Scan::entries("deal:*")].map(Result::unwrap);
        for scan in scans.iter().skip(usize::from(limit == 1)) {
            let mut found = paged(&backend, scan, limit).await;
            found.sort_unstable();
            found.dedup();
            assert_eq!(found, keys, "limit {limit}");
        }
    }
    let one = Scan::entries("deal:007").unwrap();
    assert_eq!(paged(&backend, &one, 10).await, ["deal:007"]);
    assert!(paged(&backend, &Scan::keys("nothing:*").unwrap(), 10).await.is_empty());
    let filtered = Scan::entries("deal:*").unwrap().filter("n", 5);
    assert_eq!(paged(&backend, &filtered, 3).await.len(), 1);
}

/// Neither a page without a limit nor a cursor of something else.
pub async fn cursors_and_limits_that_are_none_are_refused(subject: Subject) {
    let backend = subject.connected().await;
    let scan = Scan::keys("deal:*").unwrap();
    let refused = backend.scan_page(&scan, None, 0).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    for text in ["", "nonsense", "[1,2]", "{}"] {
        let cursor: Cursor = text.parse().unwrap();
        let refused = backend.scan_page(&scan, Some(&cursor), 10).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "`{text}`: {refused}");
    }
}

/// A stream owns what it needs: it is returned, kept, sent to another task, and goes on after a `disconnect` and `connect`.
pub async fn a_stream_may_be_spawned_and_kept(subject: Subject) {
    let backend = subject.connected().await;
    let keys: Vec<String> = (0..2_000).map(|number| format!("deal:{number:04}")).collect();
    fill(&backend, &keys).await;
    let mut kept = backend.scan(Scan::keys("deal:*").unwrap());
    assert!(kept.next().await.unwrap().is_ok());
    let mut entries = backend.scan(Scan::entries("deal:*").unwrap());
    assert!(entries.next().await.unwrap().is_ok());
    let spawned =
        tokio::spawn(backend.scan(Scan::entries("deal:*").unwrap()).collect::<Vec<Result<Record>>>());
    assert_eq!(spawned.await.unwrap().len(), 2_000);
    tokio::time::timeout(Duration::from_secs(8), backend.disconnect()).await.unwrap().unwrap();
    backend.connect().await.unwrap();
    for kept in [kept, entries] {
        let rest: Vec<Result<Record>> = kept.collect().await;
        assert_eq!(rest.into_iter().map(Result::unwrap).count(), 1_999);
    }
}
