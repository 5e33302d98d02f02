//! Random histories of memories, against a model that is one map and loops.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use storage_agent::{
    ListNamespaces, MemoryAnswer, MemoryItem, MemoryOp, MemoryStore, MemoryTtl, SearchMemories,
};
use storage_core::{Clock, ErrorKind, Json, ManualClock, MemoryBackend, MemoryConfig, StorageBackend};

type Labels = Vec<String>;

#[derive(Debug, Clone)]
enum Action {
    Put { at: At, n: i64, ttl: Option<u64> },
    CompareAndSet { at: At, n: i64, ttl: Option<u64>, expected: Expected },
    Delete(At),
    Get(At, bool),
    Search { prefix: Labels, least: Option<i64>, limit: usize, offset: usize, refresh: bool },
    List { prefix: Labels, suffix: Labels, depth: Option<usize>, limit: usize, offset: usize },
    Batch { writes: Vec<(At, Option<i64>)>, read: At },
    DeleteNamespace(Labels),
    RemoveExpired,
    Wait(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    namespace: Labels,
    key: String,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    Nothing,
    Now,
    Before,
}

fn label() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a", "a", "b", "b", "a-"]).prop_map(str::to_owned)
}

fn labels(range: std::ops::Range<usize>) -> impl Strategy<Value = Labels> {
    prop::collection::vec(label(), range)
}

fn pattern() -> impl Strategy<Value = Labels> {
    prop::collection::vec(prop_oneof![3 => label(), 1 => Just("*".to_owned())], 0..3)
}

fn at() -> impl Strategy<Value = At> {
    let key =
        prop::sample::select(vec!["k".to_owned(), "k".to_owned(), "\u{1}".to_owned(), "é".repeat(2_000)]);
    (labels(1..3), key).prop_map(|(namespace, key)| At { namespace, key })
}

fn action() -> impl Strategy<Value = Action> {
    let ttl = || prop::option::of(1..200_u64);
    let expected = prop::sample::select(vec![Expected::Nothing, Expected::Now, Expected::Before]);
    prop_oneof![
        6 => (at(), 0..9_i64, ttl()).prop_map(|(at, n, ttl)| Action::Put { at, n, ttl }),
        3 => (at(), 0..9_i64, ttl(), expected)
            .prop_map(|(at, n, ttl, expected)| Action::CompareAndSet { at, n, ttl, expected }),
        2 => at().prop_map(Action::Delete),
        3 => (at(), any::<bool>()).prop_map(|(at, refresh)| Action::Get(at, refresh)),
        3 => (labels(0..3), prop::option::of(0..9_i64), 0..6_usize, 0..3_usize, any::<bool>()).prop_map(
            |(prefix, least, limit, offset, refresh)| Action::Search { prefix, least, limit, offset, refresh }
        ),
        3 => (pattern(), pattern(), prop::option::of(1..4_usize), 0..6_usize, 0..3_usize)
            .prop_map(|(prefix, suffix, depth, limit, offset)| Action::List { prefix, suffix, depth, limit, offset }),
        2 => (prop::collection::vec((at(), prop::option::of(0..9_i64)), 0..6), at())
            .prop_map(|(writes, read)| Action::Batch { writes, read }),
        1 => labels(1..3).prop_map(Action::DeleteNamespace),
        1 => Just(Action::RemoveExpired),
        3 => (1..150_u64).prop_map(Action::Wait),
    ]
}

#[derive(Debug, Clone)]
struct Memory {
    n: i64,
    ttl: Option<u64>,
    created: SystemTime,
    updated: SystemTime,
    ends: Option<SystemTime>,
    version: String,
}

struct World {
    memories: MemoryStore,
    clock: Arc<ManualClock>,
    model: BTreeMap<At, Memory>,
    /// The versions that stood before, of which none may ever fit again.
    old: BTreeMap<At, String>,
}

fn millis(ttl: u64) -> Duration {
    Duration::from_millis(ttl)
}

fn value(n: i64) -> Json {
    Json::parse(format!(r#"{{"n": {n}}}"#)).unwrap()
}

fn borrowed(labels: &Labels) -> Vec<&str> {
    labels.iter().map(String::as_str).collect()
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
        let config = MemoryConfig { clock: clock.clone(), sweep: None, ..MemoryConfig::default() };
        let storage = Arc::new(MemoryBackend::with_config(config));
        storage.connect().await.unwrap();
        let memories = MemoryStore::new(storage).unwrap();
        Self { memories, clock, model: BTreeMap::new(), old: BTreeMap::new() }
    }

    /// Whether there is one; forgets one that has expired.
    fn live(&mut self, at: &At) -> Option<Memory> {
        let now = self.clock.now();
        self.model.retain(|_, memory| memory.ends.is_none_or(|ends| now < ends));
        self.model.get(at).cloned()
    }

    fn set(&mut self, at: &At, n: i64, ttl: Option<u64>, version: String) {
        let now = self.clock.now();
        let before = self.live(at);
        let created = before.as_ref().map_or(now, |before| before.created);
        if let Some(before) = before {
            self.old.insert(at.clone(), before.version);
        }
        let ends = ttl.map(|ttl| now + millis(ttl));
        self.model.insert(at.clone(), Memory { n, ttl, created, updated: now, ends, version });
    }

    fn refresh(&mut self, at: &At) {
        let now = self.clock.now();
        if let Some(memory) = self.model.get_mut(at) {
            memory.ends = memory.ttl.map(|ttl| now + millis(ttl));
        }
    }

    fn same(&self, at: &At, found: &MemoryItem) {
        let memory = &self.model[at];
        assert_eq!((&found.namespace, &found.key), (&at.namespace, &at.key));
        assert_eq!(
            (&found.value, found.created_at, found.updated_at),
            (&value(memory.n), memory.created, memory.updated)
        );
        assert_eq!((found.expires_at, &found.version), (memory.ends, &memory.version));
    }

    async fn act(&mut self, action: &Action) {
        // No two actions at one time: what is put last comes first.
        self.clock.advance(millis(1));
        let memories = self.memories.clone();
        match action {
            Action::Put { at, n, ttl } => {
                let ttl_of = ttl.map_or(MemoryTtl::Never, |ttl| MemoryTtl::After(millis(ttl)));
                let version =
                    memories.put(&borrowed(&at.namespace), &at.key, value(*n), ttl_of).await.unwrap();
                self.set(at, *n, *ttl, version);
            }
            Action::CompareAndSet { at, n, ttl, expected } => {
                self.compare_and_set(at, *n, *ttl, *expected).await;
            }
            Action::Delete(at) => {
                let was = self.live(at);
                let deleted = memories.delete(&borrowed(&at.namespace), &at.key).await.unwrap();
                assert_eq!(deleted, was.is_some());
                if let Some(was) = was {
                    self.old.insert(at.clone(), was.version);
                    self.model.remove(at);
                }
            }
            Action::Get(at, refresh) => self.get(at, *refresh).await,
            Action::Search { prefix, least, limit, offset, refresh } => {
                self.search(prefix, *least, *limit, *offset, *refresh).await;
            }
            Action::List { prefix, suffix, depth, limit, offset } => {
                let list = ListNamespaces {
                    prefix: prefix.clone(),
                    suffix: suffix.clone(),
                    max_depth: *depth,
                    limit: *limit,
                    offset: *offset,
                };
                assert_eq!(memories.list_namespaces(&list).await.unwrap(), self.listed(&list));
            }
            Action::Batch { writes, read } => self.batch(writes, read).await,
            Action::DeleteNamespace(prefix) => {
                let doomed: Vec<At> = self.below(prefix);
                let deleted = memories.delete_namespace(&borrowed(prefix)).await.unwrap();
                assert_eq!(deleted, doomed.len() as u64);
                for at in doomed {
                    let gone = self.model.remove(&at).unwrap();
                    self.old.insert(at, gone.version);
                }
            }
            Action::RemoveExpired => {
                memories.remove_expired().await.unwrap();
                assert_eq!(memories.remove_expired().await.unwrap(), 0);
            }
            Action::Wait(ms) => self.clock.advance(millis(*ms)),
        }
    }

    async fn compare_and_set(&mut self, at: &At, n: i64, ttl: Option<u64>, expected: Expected) {
        let now = self.live(at).map(|memory| memory.version);
        let expected = match expected {
            Expected::Nothing => None,
            Expected::Now => now.clone(),
            Expected::Before => Some(self.old.get(at).cloned().unwrap_or_else(|| "0".into())),
        };
        let ttl_of = ttl.map_or(MemoryTtl::Never, |ttl| MemoryTtl::After(millis(ttl)));
        let namespace = borrowed(&at.namespace);
        let set =
            self.memories.compare_and_set(&namespace, &at.key, expected.as_deref(), value(n), ttl_of).await;
        match set {
            Ok(version) => {
                assert_eq!(expected, now);
                self.set(at, n, ttl, version);
            }
            Err(error) => assert!(error.kind() == ErrorKind::Conflict && expected != now, "{error}"),
        }
    }

    async fn get(&mut self, at: &At, refresh: bool) {
        let memories = self.memories.clone().with_refresh_on_read(refresh);
        let found = memories.get(&borrowed(&at.namespace), &at.key).await.unwrap();
        assert_eq!(found.is_some(), self.live(at).is_some());
        if refresh {
            self.refresh(at);
        }
        if let Some(found) = found {
            self.same(at, &found);
        }
    }

    fn below(&mut self, prefix: &Labels) -> Vec<At> {
        self.live(&At { namespace: Vec::new(), key: String::new() });
        self.model.keys().filter(|at| at.namespace.starts_with(prefix)).cloned().collect()
    }

    async fn search(
        &mut self,
        prefix: &Labels,
        least: Option<i64>,
        limit: usize,
        offset: usize,
        refresh: bool,
    ) {
        let filter = least.map(|n| Json::parse(format!(r#"{{"n": {{"$gte": {n}}}}}"#)).unwrap());
        let search = SearchMemories { filter, limit, offset, refresh_ttl: Some(refresh) };
        let found = self.memories.search(&borrowed(prefix), &search).await.unwrap().all().unwrap();
        let mut all = self.below(prefix);
        all.retain(|at| least.is_none_or(|least| self.model[at].n >= least));
        all.sort_by_key(|at| (Reverse(self.model[at].updated), at.clone()));
        let expected: Vec<At> = all.iter().skip(offset).take(limit).cloned().collect();
        let returned: Vec<At> = found
            .iter()
            .map(|found| At { namespace: found.namespace.clone(), key: found.key.clone() })
            .collect();
        if prefix.is_empty() {
            // What one batch put below several first labels is in the order of none.
            assert_eq!(returned.len(), expected.len());
            let times = |places: &[At]| places.iter().map(|at| self.model[at].updated).collect::<Vec<_>>();
            assert_eq!(times(&returned), times(&expected));
        } else {
            assert_eq!(returned, expected);
        }
        for (at, found) in returned.iter().zip(&found) {
            if refresh {
                self.refresh(at);
            }
            self.same(at, found);
        }
    }

    fn listed(&mut self, list: &ListNamespaces) -> Vec<Labels> {
        let fits = |pattern: &str, label: &str| pattern == "*" || pattern == label;
        let mut all = BTreeSet::new();
        for At { namespace, .. } in self.below(&Vec::new()) {
            let (long, prefix, suffix) = (namespace.len(), list.prefix.len(), list.suffix.len());
            let begins = long >= prefix && (0..prefix).all(|n| fits(&list.prefix[n], &namespace[n]));
            let ends =
                long >= suffix && (0..suffix).all(|n| fits(&list.suffix[n], &namespace[long - suffix + n]));
            if begins && ends {
                all.insert(namespace[..long.min(list.max_depth.unwrap_or(long))].to_vec());
            }
        }
        all.into_iter().skip(list.offset).take(list.limit).collect()
    }

    async fn batch(&mut self, writes: &[(At, Option<i64>)], read: &At) {
        let before = self.live(read);
        let mut operations: Vec<MemoryOp> = writes
            .iter()
            .map(|(At { namespace, key }, n)| {
                let (namespace, key) = (namespace.clone(), key.clone());
                match n {
                    Some(n) => MemoryOp::Put { namespace, key, value: value(*n), ttl: MemoryTtl::Never },
                    None => MemoryOp::Delete { namespace, key },
                }
            })
            .collect();
        let At { namespace, key } = read.clone();
        operations.push(MemoryOp::Get { namespace, key, refresh_ttl: Some(false) });
        let answers = self.memories.batch(operations).await.unwrap();
        let Some(MemoryAnswer::Memory(found)) = answers.last() else { panic!("no answer to the read") };
        assert_eq!((answers.len(), found.is_some()), (writes.len() + 1, before.is_some()));
        if let Some(found) = found {
            self.same(read, found);
        }
        let last: BTreeMap<_, _> = writes.iter().cloned().collect();
        for (at, n) in last {
            let found = self
                .memories
                .clone()
                .with_refresh_on_read(false)
                .get(&borrowed(&at.namespace), &at.key)
                .await;
            match (n, found.unwrap()) {
                (Some(n), Some(found)) => self.set(&at, n, None, found.version),
                (None, None) => {
                    if let Some(was) = self.live(&at) {
                        self.old.insert(at.clone(), was.version);
                    }
                    self.model.remove(&at);
                }
                (n, found) => panic!("{n:?} was written, {found:?} is there"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_history_reads_as_the_model_says(actions in prop::collection::vec(action(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut world = World::new().await;
            for action in &actions {
                world.act(action).await;
            }
            for at in world.below(&Vec::new()) {
                world.get(&at, false).await;
            }
            let all = ListNamespaces::default();
            assert_eq!(world.memories.list_namespaces(&all).await.unwrap(), world.listed(&all));
        });
    }
}
