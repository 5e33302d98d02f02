//! Task contexts.

use storage_agent::TaskContextStore;
use storage_core::{ErrorKind, Json};
use tokio::task::JoinSet;

use crate::stores::{Backend, json};

pub(crate) async fn versions_are_numbered_and_bounded(storage: Backend) {
    let tasks = TaskContextStore::new(storage).unwrap().with_versions(3).unwrap();
    assert!(tasks.get_task_context(None, "t").await.unwrap().is_none());
    for n in 1..=5_i64 {
        assert_eq!(tasks.store_task_context(None, "t", Json::from(n * 10)).await.unwrap(), n as u64);
    }
    let latest = tasks.get_task_context(None, "t").await.unwrap().unwrap();
    assert_eq!((latest.version, latest.context), (5, json("50")));
    let versions = tasks.get_task_context_versions(None, "t", 10).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [5, 4, 3]);
    assert_eq!(tasks.get_task_context_versions(None, "t", 2).await.unwrap().len(), 2);
    assert!(tasks.delete_task_context(None, "t").await.unwrap());
    assert_eq!(tasks.compare_and_set_task_context(None, "t", 0, json("{}")).await.unwrap(), 1);
    assert!(tasks.with_versions(0).is_err());
}

pub(crate) async fn one_of_many_wins_each_version(storage: Backend) {
    let tasks = TaskContextStore::new(storage).unwrap().with_versions(1).unwrap();
    for expected in 0..10 {
        let mut writers = JoinSet::new();
        for writer in 0..16_i64 {
            let tasks = tasks.clone();
            writers.spawn(async move {
                tasks.compare_and_set_task_context(Some("s"), "t", expected, Json::from(writer)).await
            });
        }
        let (won, lost): (Vec<_>, Vec<_>) = writers.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!(won.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [expected + 1]);
        assert!(lost.into_iter().all(|lost| lost.unwrap_err().kind() == ErrorKind::Conflict));
    }
    for stale in [0, 9, 11] {
        let stale = tasks.compare_and_set_task_context(Some("s"), "t", stale, json("1")).await;
        assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    }
}

pub(crate) async fn tasks_of_sessions_and_of_none_never_meet(storage: Backend) {
    let tasks = TaskContextStore::new(storage).unwrap();
    let names = [(None, "a:b"), (Some("a"), "b"), (Some("a:b"), "c"), (Some("a"), "b:c"), (None, "a")];
    for (n, (session, task)) in names.into_iter().enumerate() {
        tasks.store_task_context(session, task, Json::from(n as i64)).await.unwrap();
    }
    for (n, (session, task)) in names.into_iter().enumerate() {
        let versions = tasks.get_task_context_versions(session, task, 10).await.unwrap();
        assert_eq!((versions.len(), &versions[0].context), (1, &Json::from(n as i64)));
    }
    for (session, task) in [(Some(""), "t"), (None, ""), (Some("s"), "")] {
        let refused = tasks.store_task_context(session, task, json("1")).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
