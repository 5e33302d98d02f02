//! How much memory it takes to follow a home.

use std::process::Command;

use crate::{Place, add, kills::example};

/// Opens a cache in a process of its own; the generation, and the most memory that it had, in KiB.
fn opened(place: &Place, cache: &str) -> (u64, u64) {
    let ended = Command::new(example("peak")).arg(place.home_path()).arg(place.cache(cache)).output();
    let ended = ended.expect("the example is built");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let said = String::from_utf8(ended.stdout).unwrap();
    let (generation, peak) = said.trim().split_once(' ').unwrap();
    (generation.parse().unwrap(), peak.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_unpack_to_much_are_followed_in_little_memory() {
    let place = Place::new();
    let options =
        storage_managed::Options { merge_segments: 1_000, fold_bytes: u64::MAX, ..place.options("writer") };
    let writer = storage_managed::DatabaseStore::open(place.home(), options).await.unwrap();
    add(&writer, "first").await.unwrap();
    let (_, before) = opened(&place, "reader");
    for _ in 0..6 {
        // 24 MiB that compress to little.
        let batch = |db: &rusqlite::Connection| {
            (0..24).try_for_each(|_| {
                db.execute("INSERT INTO t (body) VALUES (hex(zeroblob(524288)))", []).map(drop)
            })
        };
        writer.for_write(batch).await.unwrap();
    }
    let newest = writer.status().generation;
    writer.close().await.unwrap();
    for cache in ["reader", "empty"] {
        let (generation, peak) = opened(&place, cache);
        assert_eq!(generation, newest);
        assert!(peak < before + 64 * 1024, "{cache}: {peak} KiB, and {before} KiB for almost nothing");
    }
}
