//! Long-term memory: times to live, by the store's clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use storage_agent::{
    AgentConfig, AgentStorage, ListNamespaces, MemoryItem, MemoryStore, MemoryTtl, SearchMemories,
};
use storage_core::{ErrorKind, StorageExt};
use tokio::{task::JoinSet, time::sleep};

use super::memories::{number, put, store};
use crate::stores::{Backend, json};

/// Long enough for a few calls on a busy machine.
const SHORT: Duration = Duration::from_millis(1_500);
const LONG: Duration = Duration::from_secs(600);

async fn put_for(memories: &MemoryStore, key: &str, ttl: Duration) -> String {
    memories.put(&["a", "b"], key, json("{}"), MemoryTtl::After(ttl)).await.unwrap()
}

async fn get(memories: &MemoryStore, key: &str) -> Option<MemoryItem> {
    memories.get(&["a", "b"], key).await.unwrap()
}

/// Waits until a memory that no read refreshes has gone.
async fn gone(memories: &MemoryStore, key: &str) {
    let looking = memories.clone().with_refresh_on_read(false);
    let start = Instant::now();
    while get(&looking, key).await.is_some() {
        assert!(start.elapsed() < Duration::from_secs(60), "{key} stays");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn an_expired_memory_is_gone_for_every_call(storage: Backend) {
    let memories = store(&storage).with_refresh_on_read(false);
    let version = put_for(&memories, "k", SHORT).await;
    let found = get(&memories, "k").await.unwrap();
    let stays = found.expires_at.unwrap().duration_since(found.updated_at).unwrap_or_default();
    assert!(stays <= SHORT + Duration::from_millis(2), "{stays:?}");
    gone(&memories, "k").await;
    for prefix in [&[][..], &["a"], &["a", "b"]] {
        assert!(memories.search(prefix, &SearchMemories::default()).await.unwrap().is_empty());
    }
    assert!(memories.list_namespaces(&ListNamespaces::default()).await.unwrap().is_empty());
    let stale =
        memories.compare_and_set(&["a", "b"], "k", Some(&version), json("{}"), MemoryTtl::Never).await;
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!memories.delete(&["a", "b"], "k").await.unwrap());
    put_for(&memories, "k", SHORT).await;
    gone(&memories, "k").await;
    assert_eq!(memories.delete_namespace(&["a"]).await.unwrap(), 0);
    memories.compare_and_set(&["a", "b"], "k", None, json("{}"), MemoryTtl::Never).await.unwrap();
}

pub(crate) async fn reading_refreshes_where_it_should(storage: Backend) {
    let memories = store(&storage);
    put_for(&memories, "kept", SHORT).await;
    let first = get(&memories, "kept").await.unwrap();
    for _ in 0..4 {
        sleep(SHORT / 3).await;
        let found = get(&memories, "kept").await.unwrap();
        assert!(found.expires_at > first.expires_at && found.updated_at == first.updated_at);
        assert_eq!(found.version, first.version);
    }
    let looking = memories.clone().with_refresh_on_read(false);
    let ends = get(&looking, "kept").await.unwrap().expires_at;
    assert_eq!(get(&looking, "kept").await.unwrap().expires_at, ends);
    gone(&memories, "kept").await;
}

pub(crate) async fn searching_refreshes_what_it_returns(storage: Backend) {
    let memories = store(&storage);
    put_for(&memories, "old", LONG).await;
    sleep(Duration::from_millis(5)).await;
    put_for(&memories, "new", LONG).await;
    let looking = memories.clone().with_refresh_on_read(false);
    let ends = async |key: &str| get(&looking, key).await.unwrap().expires_at.unwrap();
    let before = (ends("old").await, ends("new").await);
    sleep(Duration::from_millis(20)).await;
    let look = SearchMemories { refresh_ttl: Some(false), ..SearchMemories::default() };
    let found = memories.search(&["a"], &look).await.unwrap();
    assert_eq!((found[1].expires_at, found[0].expires_at), (Some(before.0), Some(before.1)));
    let one = SearchMemories { limit: 1, ..SearchMemories::default() };
    let found = memories.search(&["a"], &one).await.unwrap();
    assert!(found[0].key == "new" && found[0].expires_at > Some(before.1));
    assert_eq!((ends("old").await, Some(ends("new").await)), (before.0, found[0].expires_at));
    let refresh = SearchMemories { refresh_ttl: Some(true), ..SearchMemories::default() };
    looking.search(&["a"], &refresh).await.unwrap();
    assert!(ends("old").await > before.0);
}

pub(crate) async fn a_memory_put_anew_after_its_end_begins_anew(storage: Backend) {
    let memories = store(&storage);
    put_for(&memories, "k", SHORT).await;
    let first = get(&memories, "k").await.unwrap();
    put_for(&memories, "k", SHORT).await;
    let again = get(&memories, "k").await.unwrap();
    assert_eq!(again.created_at, first.created_at);
    gone(&memories, "k").await;
    put_for(&memories, "k", SHORT).await;
    let anew = get(&memories, "k").await.unwrap();
    assert!(anew.created_at > first.created_at && anew.created_at == anew.updated_at);
}

pub(crate) async fn a_later_put_decides_how_long_it_stays(storage: Backend) {
    let memories = store(&storage).with_ttl(Some(SHORT)).unwrap();
    put_for(&memories, "for good", SHORT).await;
    memories.put(&["a", "b"], "for good", json("{}"), MemoryTtl::Never).await.unwrap();
    put_for(&memories, "by default", LONG).await;
    put(&memories, &["a", "b"], "by default", "{}").await;
    assert!(get(&memories, "by default").await.unwrap().expires_at.is_some());
    gone(&memories, "by default").await;
    assert_eq!(get(&memories, "for good").await.unwrap().expires_at, None);
}

pub(crate) async fn an_agents_settings_say_how_long_memories_stay(storage: Backend) {
    let config =
        AgentConfig { memory_ttl: Some(LONG), memory_refresh_on_read: false, ..AgentConfig::default() };
    let agent = AgentStorage::with_config(storage.clone(), config).unwrap();
    put(agent.memories(), &["a", "b"], "k", "{}").await;
    let found = get(agent.memories(), "k").await.unwrap();
    let stays = found.expires_at.unwrap().duration_since(found.updated_at).unwrap_or_default();
    assert!(LONG - stays < Duration::from_secs(60) && stays < LONG + Duration::from_secs(1), "{stays:?}");
    sleep(Duration::from_millis(5)).await;
    assert_eq!(get(agent.memories(), "k").await.unwrap().expires_at, found.expires_at);
    let wrong = AgentConfig { memory_ttl: Some(Duration::ZERO), ..AgentConfig::default() };
    assert!(AgentStorage::with_config(storage, wrong).is_err());
}

pub(crate) async fn a_memory_that_is_put_again_and_again_is_always_there(storage: Backend) {
    let memories = Arc::new(store(&storage));
    put_for(&memories, "k", LONG).await;
    let mut tasks = JoinSet::new();
    for writer in 0..2 {
        let memories = Arc::clone(&memories);
        tasks.spawn(async move {
            for n in 0..25 {
                let ttl = if n % 3 == 0 { MemoryTtl::Never } else { MemoryTtl::After(LONG) };
                memories.put(&["a", "b"], "k", number(writer * 100 + n), ttl).await.unwrap();
            }
        });
    }
    for refresh in [true, false] {
        let memories = memories.as_ref().clone().with_refresh_on_read(refresh);
        tasks.spawn(async move {
            for _ in 0..50 {
                assert!(get(&memories, "k").await.is_some());
                let found = memories.search(&["a"], &SearchMemories::default()).await.unwrap();
                assert_eq!(found.len(), 1);
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn what_is_left_of_expired_memories_is_removed(storage: Backend) {
    let memories = store(&storage);
    for n in 0..20 {
        put_for(&memories, &n.to_string(), SHORT).await;
    }
    put_for(&memories, "stays", LONG).await;
    put(&memories, &["a"], "for good", "{}").await;
    sleep(SHORT).await;
    for n in 0..20 {
        gone(&memories, &n.to_string()).await;
    }
    let agent = AgentStorage::new(storage.clone()).unwrap();
    assert_eq!(agent.get_metrics().await.unwrap().totals.memories, 22);
    assert_eq!(memories.remove_expired().await.unwrap(), 20);
    assert_eq!(memories.remove_expired().await.unwrap(), 0);
    assert_eq!(agent.get_metrics().await.unwrap().totals.memories, 2);
    put_for(&memories, "again", SHORT).await;
    gone(&memories, "again").await;
    memories.search(&["a"], &SearchMemories::default()).await.unwrap();
    assert_eq!(agent.get_metrics().await.unwrap().totals.memories, 2);
    // Leases of what has expired are gone too.
    let leases: Vec<_> = storage.partitions("memory_lease", &[]).try_collect().await.unwrap();
    assert_eq!(leases.len(), 1);
}
