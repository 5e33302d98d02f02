//! What a replica asks the home for.

use storage_managed::{DatabaseStore, Error, lazy::ReplicaStatus};

use crate::{Place, count, fill, open, row};

const MIB: u64 = 1024 * 1024;

fn spent(before: &ReplicaStatus, after: &ReplicaStatus) -> (u64, u64) {
    (after.requests - before.requests, after.bytes_received - before.bytes_received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_point_query_costs_little() {
    const ROWS: i64 = 64 * 1024;
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..ROWS + 1).await;
    // On the base alone, with single segments on it, and with a merged one and one more.
    for (state, ids) in [("base", 0..0), ("single", 1_000..1_010), ("merged", 30_000..34_000)] {
        if !ids.is_empty() {
            fill(&store, ids).await;
        }
        if state == "merged" {
            assert!(store.merge().await.unwrap());
            fill(&store, 5..6).await;
        }
        let expected = store.read(|db| row(db, 40_000)).await.unwrap();
        let home = place.home();
        let replica = open(home.clone(), place.replica_options(state)).await.unwrap();
        assert_eq!(replica.read(|db| row(db, 40_000)).await.unwrap(), expected);
        let (status, log) = (replica.status(), home.take_log());
        assert_eq!(status.requests, log.len() as u64, "{log:?}");
        assert!(status.requests <= 8 && status.bytes_received <= MIB / 2, "{state}: {status:?} {log:?}");
        println!("{state}: {} requests, {} bytes", status.requests, status.bytes_received);
    }
    let before = place.replica("merged-again").await;
    let cold = before.status();
    // A page that a segment holds.
    let expected = store.read(|db| row(db, 32_000)).await.unwrap();
    assert_eq!(before.read(|db| row(db, 32_000)).await.unwrap(), expected);
    let (requests, bytes) = spent(&cold, &before.status());
    assert!(requests <= 5 && bytes <= MIB / 2, "{requests} {bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_finds_what_this_one_has_read() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..4_000).await;
    fill(&store, 100..2_000).await;
    fill(&store, 200..210).await;
    let expected = store.read(|db| row(db, 3_000)).await.unwrap();
    let replica = place.replica("replica").await;
    assert_eq!(replica.read(|db| row(db, 3_000)).await.unwrap(), expected);
    drop(replica);
    let home = place.home();
    let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
    assert_eq!(replica.read(|db| row(db, 3_000)).await.unwrap(), expected);
    assert_eq!(home.take_log(), ["get head"], "preambles, small segments and pages are here");
    assert!(replica.status().bytes_received < 2_000);
    drop(replica);
    store.merge().await.unwrap();
    for asks in [2, 1] {
        let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
        assert_eq!(replica.read(|db| row(db, 3_000)).await.unwrap(), expected);
        assert_eq!(home.take_log().len(), asks, "for head and index, once");
    }
    let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
    home.take_log();
    // A new generation asks for what is new.
    fill(&store, 300..301).await;
    assert_eq!(replica.refresh().await.unwrap(), 4);
    assert_eq!(replica.read(|db| row(db, 3_000)).await.unwrap(), expected);
    let log = home.take_log();
    assert_eq!(log, ["get_if_changed head"], "the head names its pages");
    assert_eq!(replica.refresh().await.unwrap(), 4);
    assert_eq!(home.take_log(), ["get_if_changed head"]);
    let here = std::fs::read_dir(place.folder.path().join("replica/objects")).unwrap().count();
    assert_eq!(here, 1, "the index");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_in_its_order_is_fetched_in_large_parts() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..16_000).await;
    let replica = place.replica("replica").await;
    assert_eq!(replica.read(count).await.unwrap(), 15_999);
    let status = replica.status();
    assert!(status.requests < 60, "{status:?}");
    assert!(status.bytes_received < 20 * MIB, "each block comes once: {status:?}");
}

/// What a query for a row costs in a process that has nothing of the database, and that the answer is right.
async fn cold(place: &Place, store: &DatabaseStore, cache: &str, id: i64) -> ReplicaStatus {
    let expected = store.read(move |db| row(db, id)).await.unwrap();
    let home = place.home();
    let replica = open(home.clone(), place.replica_options(cache)).await.unwrap();
    assert_eq!(replica.read(move |db| row(db, id)).await.unwrap(), expected, "{cache}");
    let (status, log) = (replica.status(), home.take_log());
    assert!(status.requests <= 8 && status.bytes_received <= 2 * MIB, "{cache}: {status:?} {log:?}");
    drop(replica);
    // All rows, most of which are in segments that were not asked for.
    let expected = store.read(all).await.unwrap();
    let replica = open(place.home(), place.replica_options(&format!("{cache}, all"))).await.unwrap();
    assert!(replica.read(all).await.unwrap() == expected, "{cache}");
    status
}

fn all(db: &rusqlite::Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    db.prepare("SELECT id, body FROM t")?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_point_query_on_a_long_chain_costs_little() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..4_000).await;
    let change = async |from: i64, to: i64| {
        for at in from..to {
            let id = 1 + at * 61 % 3_999;
            fill(&store, id..id + 1 + at % 3).await;
        }
    };
    change(0, 120).await;
    let status = cold(&place, &store, "single ones", 2_000).await;
    assert_eq!(status.segments, 120);
    cold(&place, &store, "the newest", 1 + 119 * 61 % 3_999).await;
    for merge in 0..40 {
        change(120 + merge * 3, 123 + merge * 3).await;
        assert!(store.merge().await.unwrap());
    }
    change(300, 400).await;
    let status = cold(&place, &store, "merged and single ones", 2_000).await;
    assert_eq!(status.segments, 140);
    store.for_write(|db| db.execute_batch("DELETE FROM t WHERE id > 3000")).await.unwrap();
    store.vacuum().await.unwrap();
    change(400, 410).await;
    let status = cold(&place, &store, "cut and grown again", 2_000).await;
    assert_eq!(status.segments, 152);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_merged_segments_are_told_by_one_object() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..36_000).await;
    let merge = async |ids: std::ops::Range<i64>| {
        for id in ids.clone().step_by(18_000) {
            fill(&store, id..ids.end.min(id + 18_000)).await;
        }
        fill(&store, 5..6).await;
        assert!(store.merge().await.unwrap());
    };
    merge(1..36_000).await;
    merge(100..200).await;
    let first = place.objects("begin");
    assert_eq!(first.len(), 1);
    // Of two large ones and a small one, with single ones on them.
    merge(1..36_000).await;
    assert!(place.objects("begin").len() == 1 && place.objects("begin") != first, "the first has gone");
    merge(300..400).await;
    fill(&store, 5..6).await;
    let status = cold(&place, &store, "two large ones", 20_000).await;
    assert_eq!(status.segments, 5);
    let home = place.home();
    open(home.clone(), place.replica_options("two large ones")).await.unwrap();
    assert_eq!(home.take_log(), ["get head"], "it is kept");
    let path = &place.objects("begin")[0];
    let begin = std::fs::read(path).unwrap();
    std::fs::write(path, &begin[1..]).unwrap();
    let error = open(place.home(), place.replica_options("damaged")).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { object, .. } if object.starts_with("begin/")), "{error}");
    std::fs::remove_file(path).unwrap();
    let replica = place.replica("gone").await;
    let expected = store.read(|db| row(db, 20_000)).await.unwrap();
    assert_eq!(replica.read(|db| row(db, 20_000)).await.unwrap(), expected, "the segments tell it, too");
    store.fold().await.unwrap();
    merge(1..10).await;
    assert!(place.objects("begin").is_empty());
    cold(&place, &store, "folded", 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_commit_does_not_travel_for_one_row() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..8_000).await;
    fill(&store, 1_000..4_500).await;
    let status = cold(&place, &store, "a commit of 3.5 MB", 6_000).await;
    assert!(status.bytes_received < MIB / 2, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiny_cache_gives_way_and_answers_stay_right() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..8_000).await;
    fill(&store, 2_000..5_000).await;
    let options = storage_managed::lazy::ReplicaOptions {
        cache_bytes: 3 * 64 * 1024,
        ..place.replica_options("replica")
    };
    let replica = open(place.home(), options).await.unwrap();
    for id in [1, 7_999, 3_000, 4_999, 2_000, 1, 6_000] {
        let expected = store.read(move |db| row(db, id)).await.unwrap();
        assert_eq!(replica.read(move |db| row(db, id)).await.unwrap(), expected);
    }
    assert_eq!(replica.read(count).await.unwrap(), 7_999);
    let cached = replica.status().cached_bytes;
    assert!((64 * 1024..=3 * 64 * 1024).contains(&cached), "{cached}");
    let file = std::fs::metadata(place.folder.path().join("replica/pages")).unwrap();
    assert!(file.len() < 4 * 64 * 1024, "{}", file.len());
}
