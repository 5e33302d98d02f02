//! What a replica sees while the home goes on.

use std::{sync::Arc, time::Duration};

use storage_core::ErrorKind;
use storage_managed::{Error, lazy::ReplicaOptions};

use crate::{Place, count, fill, open, row};

#[tokio::test(flavor = "multi_thread")]
async fn a_read_keeps_its_snapshot_while_later_ones_see_a_newer_one() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..2_000).await;
    let replica = place.replica("replica").await;
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let reading = replica.read(move |db| {
        let first: i64 = db.query_row("SELECT max(id) FROM t", [], |row| row.get(0))?;
        begun.send(()).unwrap();
        goes_on.recv().unwrap();
        Ok((first, count(db)?))
    });
    let meanwhile = async {
        has_begun.await.unwrap();
        fill(&store, 2_000..3_000).await;
        store.merge().await.unwrap();
        assert_eq!(replica.refresh().await.unwrap(), 2);
        assert_eq!(replica.read(count).await.unwrap(), 2_999);
        go_on.send(()).unwrap();
    };
    let (read, ()) = tokio::join!(reading, meanwhile);
    assert_eq!(read.unwrap(), (1_999, 1_999));
    assert_eq!(replica.read(count).await.unwrap(), 2_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_meanwhile_is_a_passing_error_and_the_next_read_works() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..3_000).await;
    let replica = place.replica("replica").await;
    assert_eq!(replica.read(|db| row(db, 1)).await.unwrap().len(), 980);
    fill(&store, 1..10).await;
    store.fold().await.unwrap();
    assert_eq!(place.objects("base").len(), 1, "the old one is gone");
    let error = replica.read(count).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("superseded"), "{error}");
    assert_eq!(replica.status().generation, 2);
    assert_eq!(replica.read(count).await.unwrap(), 2_999);
    // That the head names what is gone is another matter.
    let replica = open(place.home(), place.replica_options("other")).await.unwrap();
    std::fs::remove_file(&place.objects("base")[0]).unwrap();
    let error = replica.read(count).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { object, .. } if object.starts_with("base/")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_read_at_once() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..4_000).await;
    fill(&store, 1_000..2_000).await;
    let options =
        ReplicaOptions { readers: 8, cache_bytes: 20 * 64 * 1024, ..place.replica_options("replica") };
    let replica = open(place.home(), options).await.unwrap();
    let expected: Arc<Vec<Vec<u8>>> =
        Arc::new(store.read(|db| (1..4_000).map(|id| row(db, id)).collect()).await.unwrap());
    let reads = (0..64).map(|seed| {
        let (replica, expected) = (replica.clone(), Arc::clone(&expected));
        tokio::spawn(async move {
            let read = move |db: &rusqlite::Connection| {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..50 {
                    let id = random.i64(1..4_000);
                    assert!(row(db, id)? == expected[usize::try_from(id - 1).unwrap()], "{id}");
                }
                Ok(())
            };
            replica.read(read).await.unwrap();
        })
    });
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_stalls_ends_the_read_in_time() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..2_000).await;
    let home = place.home();
    let options =
        ReplicaOptions { fetch_timeout: Duration::from_millis(300), ..place.replica_options("replica") };
    let replica = open(home.clone(), options).await.unwrap();
    home.stall("read_range base/");
    let started = std::time::Instant::now();
    let error = replica.read(count).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    home.go_on();
    assert_eq!(replica.read(count).await.unwrap(), 1_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_now_is_tried_again() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..2_000).await;
    let home = place.home();
    home.fail([0, 2, 4], crate::faulty::Fault::After(ErrorKind::Unavailable));
    let replica = open(home.clone(), place.replica_options("replica")).await.unwrap();
    assert_eq!(replica.read(count).await.unwrap(), 1_999);
    home.fail(0..100, crate::faulty::Fault::Before(ErrorKind::Unavailable));
    let error = replica.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(replica.read(count).await.unwrap(), 1_999, "what is cached is read without the home");
}
