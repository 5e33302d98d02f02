//! What a replica does not do.

use rusqlite::ErrorCode;
use storage_core::ErrorKind;
use storage_managed::{Error, lazy::ReplicaOptions};

use crate::{Place, count, fill, open};

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..100).await;
    let replica = place.replica("replica").await;
    for write in ["DELETE FROM t", "CREATE TABLE u (x)", "VACUUM", "PRAGMA query_only = 0; DELETE FROM t"] {
        let error = replica.read(move |db| db.execute_batch(write)).await.unwrap_err();
        let Error::Sqlite { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.sqlite_error_code(), Some(ErrorCode::ReadOnly), "{write}: {error}");
    }
    assert_eq!(replica.read(count).await.unwrap(), 99);
    let panics = replica.read(|_| -> rusqlite::Result<()> { panic!("on purpose") }).await;
    assert!(matches!(panics, Err(Error::Panicked)));
    let fails =
        replica.read(|db| db.query_row("SELECT x FROM nowhere", [], |row| row.get::<_, i64>(0))).await;
    assert!(matches!(fails, Err(Error::Sqlite { .. })));
    assert_eq!(replica.read(count).await.unwrap(), 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_says_why() {
    let place = Place::new();
    let options = || place.replica_options("replica");
    let error = open(place.home(), options()).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    let store = place.writer().await;
    fill(&store, 1..100).await;
    let none = ReplicaOptions { readers: 0, ..options() };
    assert!(matches!(open(place.home(), none).await, Err(Error::Settings(_))));
    let replica = open(place.home(), options()).await.unwrap();
    let soon = ReplicaOptions { cache_wait: std::time::Duration::from_millis(20), ..options() };
    let error = open(place.home(), soon).await.unwrap_err();
    assert!(matches!(error, Error::CacheInUse { .. }), "{error}");
    drop(replica);
    open(place.home(), options()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_in_its_place_is_noticed() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..100).await;
    let replica = place.replica("replica").await;
    let home = place.folder.path().join("home");
    let earlier = std::fs::read(home.join("head")).unwrap();
    fill(&store, 100..200).await;
    assert_eq!(replica.refresh().await.unwrap(), 2);
    assert_eq!(replica.read(count).await.unwrap(), 199);
    std::fs::write(home.join("head"), earlier).unwrap();
    let error = replica.refresh().await.unwrap_err();
    assert!(matches!(error, Error::WentBack { known: 2, found: 1 }), "{error}");
    drop(store);
    std::fs::remove_file(home.join("head")).unwrap();
    assert!(matches!(replica.refresh().await, Err(Error::Recreated { found: None, .. })));
    // Without its folder it may be on a disk that is not mounted.
    std::fs::remove_dir_all(&home).unwrap();
    assert_eq!(replica.refresh().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let options = storage_managed::Options::new(place.folder.path().join("anew"));
    let anew = storage_managed::DatabaseStore::open(place.home(), options).await.unwrap();
    fill(&anew, 1..10).await;
    assert!(matches!(replica.refresh().await, Err(Error::Recreated { found: Some(_), .. })));
    assert_eq!(replica.read(count).await.unwrap(), 199, "what was seen stays");
}
