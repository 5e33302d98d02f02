//! How long the log gets while there is no pause between writes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::fs;

use common::{Place, json};
use futures::future::join_all;
use storage_core::StorageBackend;
use storage_sqlite::SqliteBackend;

const MIB: u64 = 1024 * 1024;
/// What is moved at once, and room for what is written meanwhile.
const AT_ONCE: u64 = 64 * MIB;
const ROOM: u64 = 256 * MIB;

fn log_bytes(place: &Place) -> u64 {
    fs::metadata(place.folder.path().join("agent.db-wal")).unwrap().len()
}

/// Overwrites 64 entries as fast as it goes, until so many MiB were written.
async fn write(backend: &SqliteBackend, mib: u64) {
    // SQLite writes nothing where an entry is what it was.
    for letter in ["x", "y"].into_iter().cycle().take(usize::try_from(mib / 16).unwrap()) {
        let value = json(&format!("\"{}\"", letter.repeat(256 * 1024)));
        let writes = (0..64).map(|key| {
            let (key, value) = (format!("deal:{key}"), value.clone());
            async move { backend.set(&key, value, None).await.unwrap() }
        });
        join_all(writes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_starts_anew_while_writes_go_on() {
    let place = Place::new();
    let backend = place.connected().await;
    write(&backend, 768).await;
    let bytes = log_bytes(&place);
    assert!((AT_ONCE..AT_ONCE + ROOM).contains(&bytes), "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_kept_for_a_reader_starts_anew_when_he_has_ended() {
    let place = Place::new();
    let backend = place.connected().await;
    write(&backend, 16).await;
    let reader = place.outside();
    reader.execute_batch("BEGIN; SELECT count(*) FROM kv_store;").unwrap();
    write(&backend, 2 * AT_ONCE / MIB).await;
    let kept = log_bytes(&place);
    assert!(kept >= 2 * AT_ONCE, "{kept}");
    reader.execute_batch("COMMIT").unwrap();
    write(&backend, 768).await;
    let bytes = log_bytes(&place);
    assert!(bytes < kept + AT_ONCE + ROOM, "{bytes}");
}
