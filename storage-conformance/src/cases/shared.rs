//! Several handles on one store, as several processes have them.

use storage_core::{Change, Json, StorageExt};

use crate::{
    Subject,
    sample::{at_once, numbered},
};

/// What one handle wrote, another reads, lists and deletes.
pub async fn handles_see_each_others_writes(subject: Subject) {
    let (one, other) = (subject.connected().await, subject.connected().await);
    one.set("deal:1", numbered(1), None).await.unwrap();
    assert_eq!(other.get("deal:1").await.unwrap(), Some(numbered(1)));
    assert_eq!(other.keys("deal:*").await.unwrap(), ["deal:1"]);
    assert!(other.delete("deal:1").await.unwrap());
    assert_eq!(one.get("deal:1").await.unwrap(), None);
    one.disconnect().await.unwrap();
    other.set("deal:2", numbered(2), None).await.unwrap();
    assert!(other.exists("deal:2").await.unwrap(), "a handle that closed takes nothing with it");
}

/// Updates and increments through four handles lose nothing.
pub async fn handles_race_without_losing_updates(subject: Subject) {
    at_once(4, |_| {
        let subject = subject.clone();
        async move {
            let backend = subject.connected().await;
            for _ in 0..25 {
                backend.increment("seen:1", 1, None).await.unwrap();
                let add = |found: Option<&Json>| {
                    let sum: u64 = found.map_or(Ok(0), Json::decode)?;
                    Ok(Change::Set(Json::from_serialize(&(sum + 1))?))
                };
                backend.update("deal:sum", None, add).await.unwrap();
            }
            backend.disconnect().await.unwrap();
        }
    })
    .await;
    let backend = subject.connected().await;
    assert_eq!(backend.get("seen:1").await.unwrap(), Some(Json::from(100)));
    assert_eq!(backend.get("deal:sum").await.unwrap(), Some(Json::from(100)));
}

/// Many processes may start on a store that has nothing yet.
pub async fn handles_connect_to_an_empty_store_at_once(subject: Subject) {
    at_once(8, |task| {
        let subject = subject.clone();
        async move {
            let backend = subject.connected().await;
            backend.set(&format!("deal:{task}"), numbered(task), None).await.unwrap();
        }
    })
    .await;
    assert_eq!(subject.connected().await.keys("*").await.unwrap().len(), 8);
}

/// Two namespaces of one server do not see each other.
pub async fn namespaces_are_kept_apart(subject: Subject) {
    let (here, there) = (subject.connected().await, subject.elsewhere().connected().await);
    here.set("deal:1", numbered(1), None).await.unwrap();
    there.set("deal:1", numbered(2), None).await.unwrap();
    there.set("deal:2", numbered(2), None).await.unwrap();
    assert_eq!(here.keys("*").await.unwrap(), ["deal:1"]);
    assert_eq!(here.get("deal:1").await.unwrap(), Some(numbered(1)));
    assert!(!here.delete("deal:2").await.unwrap());
    assert_eq!(there.keys("*").await.unwrap(), ["deal:1", "deal:2"]);
}
