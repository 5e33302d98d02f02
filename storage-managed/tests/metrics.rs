//! What operators watch. In a process of its own, which has one recorder.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use storage_managed::{DatabaseStore, Options, home::FolderHome};

/// The counters and gauges of one home, by their names and other labels.
fn measured(snapshotter: &Snapshotter, home: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        assert!(key.labels().any(|label| label.key() == "home" && label.value() == home), "{key:?}");
        let kind = key.labels().find(|label| label.key() == "kind").map_or("", |label| label.value());
        let name = key.name().trim_start_matches("storage_managed_").to_owned();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(gauge) => gauge.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        found.insert([name.as_str(), kind].join(" ").trim_end().to_owned(), value);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_database_is_counted_for_its_home() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let home = || Arc::new(FolderHome::new(folder.path().join("home")));
    let options = |cache: &str| Options {
        grace: Duration::ZERO,
        lease_wait: Duration::from_millis(50),
        lease_idle: Duration::from_secs(60),
        freshness: Duration::ZERO,
        ..Options::new(folder.path().join(cache))
    };
    let store = DatabaseStore::open(home(), options("a")).await.unwrap();
    let batch = |db: &rusqlite::Connection| {
        db.execute_batch("CREATE TABLE IF NOT EXISTS t (n); INSERT INTO t VALUES (1)")
    };
    for _ in 0..3 {
        store.for_write(batch).await.unwrap();
    }
    assert!(store.merge().await.unwrap() && store.fold().await.unwrap());
    let name = store.status().home;
    let first = measured(&snapshotter, &name);
    assert_eq!(
        (first["publications_total"], first["publication_seconds"], first["folds_total"]),
        (3.0, 3.0, 1.0)
    );
    assert_eq!((first["generation"], first["unpublished"], first["merges_total"]), (3.0, 0.0, 1.0));
    assert_eq!(first["removed_objects_total"], 3.0, "the first base and two segments: {first:?}");
    assert_eq!(first["objects"], 4.0, "the head, a base, an index, and what was merged: {first:?}");
    assert!(first["sent_bytes_total"] as u64 <= store.status().bytes_sent && first["sent_bytes_total"] > 0.0);
    // Another store of the same home: refused while the lease is held, and fresh.
    let other = DatabaseStore::open(home(), options("b")).await.unwrap();
    other.for_write(batch).await.unwrap_err();
    other.ensure_fresh().await.unwrap();
    let second = measured(&snapshotter, &name);
    assert!(second["received_bytes_total"] > 0.0, "{second:?}");
    assert_eq!(second["failures_total timeout"], 1.0, "{second:?}");
    assert!(second["fresh_timestamp_seconds"] > 1.7e9, "{second:?}");
    other.close().await.unwrap();
    store.close().await.unwrap();
}
