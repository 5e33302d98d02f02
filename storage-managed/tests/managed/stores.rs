//! What stores on one home promise.

use std::{sync::Arc, time::Duration};

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error};

use crate::{Place, TABLE, add, copy_folder, rows, rows_in_home};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_in_the_home_when_it_returns() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    assert_eq!(store.status().generation, 0);
    for number in 1..=5_u64 {
        add(&store, &format!("row {number}")).await.unwrap();
        assert_eq!(store.status().generation, number);
    }
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.generation, verified.objects), (5, 5));
    store.close().await.unwrap();
    assert!(matches!(add(&store, "late").await, Err(Error::Closed)));
    let expected: Vec<_> = (1..=5).map(|number| format!("row {number}")).collect();
    assert_eq!(rows_in_home(&place).await, expected);
    let again = place.open("a").await.unwrap();
    assert_eq!((rows(&again).await, again.status().generation), (expected, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_two_requests_and_its_freshening_two_more() {
    let place = Place::new();
    let (home, readers_home) = (place.home(), place.home());
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    let reader = DatabaseStore::open(readers_home.clone(), place.options("b")).await.unwrap();
    home.take_log();
    add(&store, "second").await.unwrap();
    let log = home.take_log();
    assert!(log.len() == 2 && log[0].starts_with("put seg/") && log[1] == "replace head", "{log:?}");
    store.ensure_fresh().await.unwrap();
    store.for_write(|db| db.execute_batch("SELECT 1")).await.unwrap();
    assert_eq!(
        home.take_log(),
        [""; 0],
        "who holds the lease need not ask, nothing is published for nothing"
    );
    readers_home.take_log();
    let before = reader.status().bytes_received;
    assert_eq!(reader.ensure_fresh().await.unwrap(), 2);
    let log = readers_home.take_log();
    assert!(log.len() == 2 && log[0] == "get_if_changed head" && log[1].starts_with("read seg/"), "{log:?}");
    let received = reader.status().bytes_received - before;
    assert!(received < 3_000, "{received}");
    assert_eq!(reader.ensure_fresh().await.unwrap(), 2);
    assert_eq!(readers_home.take_log(), ["get_if_changed head"]);
    assert_eq!(reader.status().bytes_received - before, received);
    assert_eq!(rows(&reader).await, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_or_panics_is_rolled_back_and_harms_no_other() {
    let place = Place::new();
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.options("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    let fails = store.for_write(|db| {
        db.execute("INSERT INTO t (body) VALUES ('never')", [])?;
        db.execute("INSERT INTO nowhere VALUES (1)", []).map(drop)
    });
    let panics = store.for_write(|db| -> rusqlite::Result<()> {
        db.execute("INSERT INTO t (body) VALUES ('never')", [])?;
        panic!("on purpose")
    });
    let (works, fails, panics) = tokio::join!(add(&store, "second"), fails, panics);
    works.unwrap();
    assert!(matches!(fails, Err(Error::Batch(_))));
    assert!(matches!(panics, Err(Error::Panicked)));
    assert_eq!(rows(&store).await, ["first", "second"]);
    home.take_log();
    let alone = store.for_write(|db| db.execute("INSERT INTO nowhere VALUES (1)", []).map(drop)).await;
    assert_eq!(alone.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(!home.take_log().iter().any(|request| request.ends_with("head") && !request.starts_with("get")));
    assert_eq!(rows_in_home(&place).await, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_batches_share_publications() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    add(&store, "first").await.unwrap();
    let before = store.status().publications;
    let writes = (0..64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { add(&store, &format!("{number}")).await })
    });
    for written in futures::future::join_all(writes).await {
        written.unwrap().unwrap();
    }
    let publications = store.status().publications - before;
    assert!((1..=4).contains(&publications), "{publications}");
    assert_eq!(rows_in_home(&place).await.len(), 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_see_new_generations_and_open_transactions_do_not() {
    let place = Place::new();
    let (writer, reader) = (place.open("a").await.unwrap(), place.open("b").await.unwrap());
    add(&writer, "first").await.unwrap();
    assert_eq!(reader.ensure_fresh().await.unwrap(), 1);
    let open = rusqlite::Connection::open(reader.path()).unwrap();
    storage_managed::prepare(&open).unwrap();
    let count = || open.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    open.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 1);
    for number in 2..=6_u64 {
        add(&writer, &"x".repeat(20_000)).await.unwrap();
        assert_eq!(reader.ensure_fresh().await.unwrap(), number);
        assert_eq!(rows(&reader).await.len() as u64, number);
        assert_eq!(count(), 1, "its snapshot stays");
    }
    open.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 6);
    writer.for_write(|db| db.execute_batch("DELETE FROM t WHERE id > 2")).await.unwrap();
    writer.vacuum().await.unwrap();
    assert_eq!(reader.ensure_fresh().await.unwrap(), 8);
    assert_eq!(count(), 2, "it shrinks");
    let check: String = open.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    drop(open);
    assert_eq!(rows_in_home(&place).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_take_turns_and_lose_nothing() {
    let place = Place::new();
    let stores =
        [place.open("a").await.unwrap(), place.open("b").await.unwrap(), place.open("c").await.unwrap()];
    let writers = stores.iter().enumerate().map(|(name, store)| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..10 {
                add(&store, &format!("{name} {number}")).await.unwrap();
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    let expected = rows_in_home(&place).await;
    assert_eq!(expected.len(), 30);
    for store in &stores {
        store.ensure_fresh().await.unwrap();
        assert_eq!(rows(store).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_made_anew_or_went_back_is_refused() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    add(&store, "first").await.unwrap();
    store.close().await.unwrap();
    copy_folder(&place.home_path(), &place.cache("backup"));
    let store = place.open("a").await.unwrap();
    add(&store, "second").await.unwrap();
    // Who holds the lease does not ask: nobody else can have written.
    tokio::time::sleep(Duration::from_millis(200)).await;

    std::fs::remove_dir_all(place.home_path()).unwrap();
    copy_folder(&place.cache("backup"), &place.home_path());
    assert!(matches!(store.ensure_fresh().await, Err(Error::WentBack { known: 2, found: 1 })));
    store.close().await.unwrap();
    assert!(matches!(place.open("a").await, Err(Error::WentBack { .. })));

    std::fs::remove_dir_all(place.home_path()).unwrap();
    assert!(matches!(place.open("a").await, Err(Error::Recreated { found: None, .. })));
    let other = place.open("b").await.unwrap();
    add(&other, "another").await.unwrap();
    other.close().await.unwrap();
    assert!(matches!(place.open("a").await, Err(Error::Recreated { found: Some(_), .. })));
    assert_eq!(rows_in_home(&place).await, ["another"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_folder_is_for_one_store() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    let error = place.open("a").await.unwrap_err();
    assert!(matches!(&error, Error::CacheInUse { path } if *path == place.cache("a")));
    assert_eq!(error.kind(), ErrorKind::Timeout);
    store.close().await.unwrap();
    place.open("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_caller_goes_away_publishes_whole_or_not_at_all() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    add(&store, "first").await.unwrap();
    for pause in 0..20 {
        let writing = store.for_write(move |db| {
            db.execute_batch(TABLE)?;
            db.execute("INSERT INTO t (body) VALUES (?1), (?1)", [pause.to_string()]).map(drop)
        });
        let _ = tokio::time::timeout(Duration::from_micros(pause * 300), writing).await;
    }
    add(&store, "last").await.unwrap();
    let expected = rows(&store).await;
    assert!(expected.len() % 2 == 0 && expected.len() >= 2);
    store.close().await.unwrap();
    assert_eq!(rows_in_home(&place).await, expected);
    drop(Arc::new(store));
}
