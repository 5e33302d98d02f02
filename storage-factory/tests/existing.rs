//! Stores are made by intent: what only wants one that is there makes nothing.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use storage_core::{ErrorKind, Json};
use storage_factory::{Settings, connect_existing, get_storage_backend};

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().fold(Settings::new(), |settings, (name, text)| settings.with(name, *text).unwrap())
}

/// Where there is none it says so and makes nothing; where there is one it connects.
async fn check(settings: &Settings, folder: &std::path::Path) {
    for _ in 0..2 {
        let error = connect_existing(settings).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.hint().unwrap().contains("storage init"), "{error}");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "{error}");
    }
    let storage = get_storage_backend(settings).unwrap();
    storage.connect().await.unwrap();
    storage.set("deal:1", Json::from(1), None).await.unwrap();
    storage.disconnect().await.unwrap();
    let storage = connect_existing(settings).await.unwrap();
    assert_eq!(storage.keys("*").await.unwrap(), ["deal:1"]);
    storage.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_file_is_made_by_connecting_alone() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:///{}/a/agent.db", folder.path().display());
    check(&settings(&[("DATABASE_URL", &url)]), folder.path()).await;
}

#[cfg(feature = "managed")]
#[tokio::test]
async fn a_managed_home_is_made_by_connecting_alone() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite+file://{}/home", folder.path().display());
    let cache = folder.path().join("cache");
    check(
        &settings(&[("DATABASE_URL", &url), ("STORAGE_CACHE_DIR", cache.to_str().unwrap())]),
        folder.path(),
    )
    .await;
}

#[tokio::test]
async fn the_memory_of_the_process_is_always_there() {
    connect_existing(&settings(&[("STORAGE_TYPE", "memory")])).await.unwrap();
}
