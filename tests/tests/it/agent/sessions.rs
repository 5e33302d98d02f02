//! Sessions.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use storage_agent::{
    ACTIVE, ConversationStore, Metadata, NewSession, SessionFilter, SessionStore, SessionUpdate,
};
use storage_core::{ErrorKind, Expiry, StorageExt, domain::AdBuyer};
use tokio::{task::JoinSet, time::sleep};

use crate::stores::{Backend, json as raw};

pub(crate) fn metadata(value: Value) -> Metadata {
    let Value::Object(metadata) = value else { panic!("no object") };
    metadata
}

pub(crate) async fn created_once_and_read_back(storage: Backend) {
    let sessions = SessionStore::new(storage.clone());
    let created = sessions.create_session("s:1", "ada", metadata(json!({"ü": [1]}))).await.unwrap();
    assert_eq!((created.status.as_str(), created.created_at), (ACTIVE, created.updated_at));
    assert_eq!(sessions.get_session("s:1").await.unwrap(), Some(created));
    let error = sessions.create_session("s:1", "bob", Metadata::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Conflict, Some("session:s:1")));
    assert_eq!(sessions.get_session("s:1").await.unwrap().unwrap().user_id, "ada");

    let document: Value = storage.get_as("session:s:1").await.unwrap().unwrap();
    let time = document["created_at"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    let Some(Expiry::After(left)) = storage.ttl("session:s:1").await.unwrap() else { panic!("no expiry") };
    assert!(left > Duration::from_secs(86_000) && left < Duration::from_secs(86_401), "{left:?}");

    assert_eq!(sessions.get_session("s").await.unwrap(), None);
    assert_eq!(sessions.get_session("").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let none = sessions.update_session("s", &SessionUpdate::default()).await.unwrap();
    assert!(none.is_none() && !storage.exists("session:s").await.unwrap());
}

pub(crate) async fn no_update_of_64_tasks_is_lost(storage: Backend) {
    let sessions = SessionStore::new(storage);
    sessions.create_session("s", "ada", Metadata::new()).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let sessions = sessions.clone();
        tasks.spawn(async move {
            let update = SessionUpdate {
                metadata: metadata(json!({(format!("task-{task}")): true})),
                increment_requests: 1,
                add_processing_time: Duration::from_millis(250),
                mark_error: task == 0,
                ..SessionUpdate::default()
            };
            for _ in 0..200 {
                sessions.update_session("s", &update).await.unwrap().unwrap();
            }
        });
    }
    tasks.join_all().await;
    let session = sessions.get_session("s").await.unwrap().unwrap();
    assert_eq!((session.metrics.request_count, session.metrics.error_count), (12_800, 200));
    assert_eq!(session.metrics.total_processing_time, 3_200.0);
    assert_eq!(session.metadata.len(), 64);
    assert!(session.updated_at > session.created_at);
}

pub(crate) async fn one_update_that_no_store_can_keep_fails_alone(storage: Backend) {
    let sessions = SessionStore::new(storage);
    sessions.create_session("s", "ada", Metadata::new()).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let sessions = sessions.clone();
        tasks.spawn(async move {
            let text = if task % 16 == 0 { "a NUL: \0" } else { "fine" };
            let metadata = metadata(json!({(format!("task-{task}")): text}));
            let update = SessionUpdate { metadata, increment_requests: 1, ..SessionUpdate::default() };
            let updated = sessions.update_session("s", &update).await;
            assert_eq!(
                updated.err().map(|error| error.kind()),
                (task % 16 == 0).then_some(ErrorKind::InvalidInput)
            );
            let nobody = sessions.update_session("nobody", &update).await;
            assert!(nobody.unwrap().is_none());
        });
    }
    tasks.join_all().await;
    let session = sessions.get_session("s").await.unwrap().unwrap();
    assert_eq!((session.metrics.request_count, session.metadata.len()), (60, 60));
}

pub(crate) async fn an_update_keeps_what_it_does_not_name(storage: Backend) {
    let sessions = SessionStore::new(storage.clone());
    let document = json!({
        "session_id": "s", "user_id": "ada", "status": "active", "metadata": {"a": 1, "b": 2},
        "created_at": "2026-01-01T00:00:00.123456+00:00", "updated_at": "2026-01-01T00:00:00",
        "cart": ["of another program"],
    });
    storage.set_as("session:s", &document, None).await.unwrap();
    let update = SessionUpdate { metadata: metadata(json!({"a": null, "c": 3})), ..SessionUpdate::default() };
    sessions.update_session("s", &update).await.unwrap().unwrap();
    let ended = sessions.end_session("s", "completed").await.unwrap().unwrap();
    assert_eq!(ended.status, "completed");
    let now: Value = storage.get_as("session:s").await.unwrap().unwrap();
    assert_eq!(now["metadata"], json!({"b": 2, "c": 3}));
    assert_eq!((&now["cart"], &now["created_at"]), (&document["cart"], &json!("2026-01-01T00:00:00.123Z")));
    assert!(now["updated_at"].as_str().unwrap() > "2026-02");
}

pub(crate) async fn listed_by_user_status_and_idle_time_page_by_page(storage: Backend) {
    let sessions = SessionStore::new(storage);
    let new = (0..50).map(|n| NewSession::new(format!("s-{n:02}"), if n % 2 == 0 { "ada" } else { "bob" }));
    assert!(sessions.batch_create_sessions(new.collect()).await.iter().all(Result::is_ok));
    for n in 0..10 {
        sessions.end_session(&format!("s-{n:02}"), "completed").await.unwrap();
    }
    let all = SessionFilter::default();
    let of = async |filter: SessionFilter| {
        let mut filter = SessionFilter { limit: 7, ..filter };
        let mut found = Vec::new();
        loop {
            let page = sessions.list_sessions(&filter).await.unwrap();
            assert!(page.sessions.len() <= 7 && page.corrupt.is_empty());
            found.extend(page.sessions.into_iter().map(|session| session.session_id));
            let Some(next) = page.next else { break found };
            // As another process would, that got it as a text.
            filter.after = Some(next.to_string().into());
        }
    };
    let everything = of(all.clone()).await;
    assert_eq!(everything, (0..50).map(|n| format!("s-{n:02}")).collect::<Vec<_>>());
    let ada = SessionFilter { user_id: Some("ada".into()), ..all.clone() };
    assert_eq!(of(ada.clone()).await.len(), 25);
    let ended = SessionFilter { status: Some("completed".into()), ..ada };
    assert_eq!(of(ended).await, ["s-00", "s-02", "s-04", "s-06", "s-08"]);
    let idle = |idle_for| SessionFilter { idle_for: Some(idle_for), ..all.clone() };
    assert_eq!(of(idle(Duration::ZERO)).await.len(), 50);
    assert!(of(idle(Duration::from_secs(3_600))).await.is_empty());
    let none = SessionFilter { limit: 0, ..all };
    assert_eq!(sessions.list_sessions(&none).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

pub(crate) async fn a_batch_has_a_result_for_each(storage: Backend) {
    let sessions = SessionStore::new(storage);
    sessions.create_session("there", "ada", Metadata::new()).await.unwrap();
    let new = ["a", "there", "", "b", "a"].map(|id| NewSession::new(id, "bob")).to_vec();
    let created = sessions.batch_create_sessions(new).await;
    let kinds: Vec<_> =
        created.iter().map(|result| result.as_ref().err().map(storage_core::Error::kind)).collect();
    let (conflict, invalid) = (Some(ErrorKind::Conflict), Some(ErrorKind::InvalidInput));
    assert_eq!(kinds, [None, conflict, invalid, None, conflict]);
    let found = sessions.batch_get_sessions(&["b", "nobody", "there", "b"]).await.unwrap();
    let users: Vec<_> =
        found.into_iter().map(|session| session.unwrap().map(|session| session.user_id)).collect();
    assert_eq!(users, [Some("bob".into()), None, Some("ada".into()), Some("bob".into())]);
}

pub(crate) async fn expire_unless_they_are_used(storage: Backend) {
    let ttl = Some(Duration::from_millis(1_500));
    let sessions = SessionStore::new(storage.clone()).with_ttl(ttl).unwrap();
    for id in ["used", "read", "spoken"] {
        sessions.create_session(id, "ada", Metadata::new()).await.unwrap();
    }
    let conversations = ConversationStore::new(storage).unwrap().with_sessions(sessions.clone());
    for _ in 0..8 {
        sleep(Duration::from_millis(300)).await;
        sessions.update_session("used", &SessionUpdate::default()).await.unwrap();
        conversations.add_conversation_message("spoken", "user", "hi", Metadata::new()).await.unwrap();
        sessions.get_session("read").await.unwrap();
    }
    let found = sessions.batch_get_sessions(&["used", "read", "spoken"]).await.unwrap();
    let there: Vec<_> = found.into_iter().map(|session| session.unwrap().is_some()).collect();
    assert_eq!(there, [true, false, true], "reading is no use");
}

pub(crate) async fn the_helpers_see_them(storage: Backend) {
    let sessions = SessionStore::new(storage.clone());
    sessions.create_session("s-1", "ada", Metadata::new()).await.unwrap();
    let seen: Value = storage.get_session("s-1").await.unwrap().unwrap();
    assert_eq!((&seen["session_id"], &seen["metrics"]["request_count"]), (&json!("s-1"), &json!(0)));
    assert!(storage.delete_session("s-1").await.unwrap());
    assert_eq!(sessions.get_session("s-1").await.unwrap(), None);
}

pub(crate) async fn a_document_of_another_shape_is_corrupt_and_stays(storage: Backend) {
    // The use of a session is noted each hundredth of its expiry.
    let sessions = SessionStore::new(storage.clone()).with_ttl(Some(Duration::from_secs(10))).unwrap();
    sessions.create_session("a", "ada", Metadata::new()).await.unwrap();
    storage.set("session:b", raw(r#"{"id": "b", "messages": []}"#), None).await.unwrap();
    let error = sessions.get_session("b").await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("session:b")));
    let error = sessions.update_session("b", &SessionUpdate::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("session:b")));
    let page = sessions.list_sessions(&SessionFilter::default()).await.unwrap();
    let keys: BTreeSet<_> = page.corrupt.iter().filter_map(storage_core::Error::key).collect();
    assert_eq!((page.sessions.len(), keys), (1, BTreeSet::from(["session:b"])));
    sleep(Duration::from_millis(300)).await;
    sessions.cleanup_expired_sessions(Duration::ZERO).await.unwrap();
    assert!(storage.exists("session:b").await.unwrap() && !storage.exists("session:a").await.unwrap());
}
