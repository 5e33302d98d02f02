//! What a replica asks the home for.

use storage_managed::lazy::ReplicaStatus;

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
    for asks in [3, 1] {
        let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
        assert_eq!(replica.read(|db| row(db, 3_000)).await.unwrap(), expected);
        assert_eq!(home.take_log().len(), asks, "for head, index and segment, once");
    }
    let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
    home.take_log();
    // A new generation asks for what is new.
    fill(&store, 300..301).await;
    assert_eq!(replica.refresh().await.unwrap(), 4);
    assert_eq!(replica.read(|db| row(db, 3_000)).await.unwrap(), expected);
    let log = home.take_log();
    assert!(
        log.len() == 2 && log[0] == "get_if_changed head" && log[1].starts_with("read_range seg/"),
        "{log:?}"
    );
    assert_eq!(replica.refresh().await.unwrap(), 4);
    assert_eq!(home.take_log(), ["get_if_changed head"]);
    let here = std::fs::read_dir(place.folder.path().join("replica/objects")).unwrap().count();
    assert_eq!(here, 3, "the index and two segments");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_is_a_request_for_each_segment_once() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..2_000).await;
    for id in 0..100 {
        fill(&store, id * 10 + 1..id * 10 + 2).await;
    }
    let home = place.home();
    let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
    let status = replica.status();
    println!("100 segments: {} requests, {} bytes", status.requests, status.bytes_received);
    assert_eq!((status.segments, status.requests), (100, 101));
    assert_eq!(replica.read(count).await.unwrap(), 1_999);
    drop(replica);
    home.take_log();
    let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
    assert_eq!((home.take_log(), replica.status().segments), (vec!["get head".to_owned()], 100));
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
