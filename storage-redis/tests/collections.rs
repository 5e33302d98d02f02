//! Partitions on Redis: where their keys live, what a commit costs, and what damage does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt, future::join_all};
use redis::aio::MultiplexedConnection;
use storage_core::{
    CollectionStore, Commit, ErrorKind, Expire, Json, Operation, Order, Outcome, Partition, Precondition,
    PutMode, Query, Scan, StorageBackend, StorageExt, add_integer, sequence_key,
};
use storage_redis::RedisBackend;
use storage_tests::{Redis, RedisOptions};
use support::{config, json, open, raw, shared, variable};

fn partition(id: &str) -> Partition {
    Partition::new("conversation", &[id]).unwrap()
}

fn upsert(sort: &str, body: &str) -> Operation {
    Operation::put(sort, json("null"), body.to_owned(), PutMode::Upsert)
}

fn append(body: &str) -> Operation {
    Operation::append("m:", json("{\"role\":\"user\"}"), body.to_owned())
}

fn keys(namespace: &str, of: &Partition) -> [String; 2] {
    ["h", "s"].map(|ending| format!("{namespace}{{{}}}\0{ending}", of.as_str()))
}

async fn filled(backend: &RedisBackend, of: &Partition, count: usize) {
    let commit = (0..count).fold(Commit::new(of.clone()), |commit, _| commit.with(append("0123456789")));
    backend.commit(commit).await.unwrap();
}

async fn kind_of<T: std::fmt::Debug>(work: impl Future<Output = storage_core::Result<T>>) -> ErrorKind {
    work.await.unwrap_err().kind()
}

#[tokio::test]
async fn the_keys_of_a_partition_share_a_slot_whatever_its_text_holds() {
    let config = config(&variable("STORAGE_TEST_REDIS_CLUSTER_URL"));
    let namespace = config.namespace.clone();
    let backend = open(config).await;
    let names = ["a", "", "}", "{", "{}", "}{", "{a}b", "a}b", "a}}", "::%}", "é{x}"];
    for name in names {
        filled(&backend, &partition(name), 2).await;
    }
    let url = variable("STORAGE_TEST_REDIS_CLUSTER_URL");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in url.trim_start_matches("redis-cluster://").split(',') {
        let mut node = raw(&format!("redis://{node}")).await;
        let all: Vec<String> =
            redis::cmd("KEYS").arg(format!("{namespace}*")).query_async(&mut node).await.unwrap();
        for key in all {
            let slot: String =
                redis::cmd("CLUSTER").arg("KEYSLOT").arg(&key).query_async(&mut node).await.unwrap();
            found.entry(key.split('\0').next().unwrap().to_owned()).or_default().push(slot);
        }
    }
    assert_eq!(found.len(), names.len());
    for (text, slots) in found {
        assert!(slots.len() == 2 && slots[0] == slots[1], "{text}: {slots:?}");
    }
    for name in names {
        assert!(backend.delete_partition(&partition(name)).await.unwrap(), "{name}");
    }
}

#[tokio::test]
async fn partitions_are_no_entries_and_entries_no_partitions() {
    let (backend, namespace) = shared().await;
    let of = partition("s-1");
    filled(&backend, &of, 3).await;
    for key in keys(&namespace, &of) {
        let key = key.strip_prefix(&namespace).unwrap();
        assert_eq!(kind_of(backend.set(key, json("1"), None)).await, ErrorKind::InvalidInput);
        assert_eq!(kind_of(backend.delete(key)).await, ErrorKind::InvalidInput);
    }
    backend.set("{conversation:s-1}", json("1"), None).await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["{conversation:s-1}"]);
    assert_eq!(backend.records(Scan::entries("*").unwrap()).count().await, 1);
    let backend = std::sync::Arc::new(backend);
    let listed: Vec<_> = backend.partitions("conversation", &[]).try_collect().await.unwrap();
    assert_eq!(listed, [backend.partition(&of).await.unwrap().unwrap()]);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let (backend, _) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    let of = partition("s-1");
    for number in 1..=3 {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.unwrap();
        let committed = backend.commit(Commit::new(of.clone()).with(append("x"))).await.unwrap();
        assert_eq!(committed.outcomes, [Outcome::Appended { sequence: number, new: true }]);
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.unwrap();
        let page = backend.query(Query::all(of.clone(), 10)).await.unwrap();
        assert_eq!(page.items.len() as u64, number);
    }
}

/// How often the server ran each command, scripts' own included, since it was asked last.
fn calls(server: &Redis) -> BTreeMap<String, u64> {
    let info = server.command(&["INFO", "commandstats"]).unwrap();
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    let lines = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    let counts =
        lines.map(|(name, rest)| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()));
    counts.filter(|(name, _)| !matches!(name.as_str(), "info" | "config|resetstat")).collect()
}

#[tokio::test]
async fn what_is_read_and_written_does_not_grow_with_the_partition() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let backend = open(config(&server.url())).await;
    let mut costs = Vec::new();
    for count in [50, 10_000] {
        let of = partition(&count.to_string());
        filled(&backend, &of, count).await;
        backend.query(Query::all(of.clone(), 1)).await.unwrap();
        calls(&server);
        let mut cost = Vec::new();
        for order in [Order::Ascending, Order::Descending] {
            let page = backend.query(Query::prefix(of.clone(), "m:", 10).order(order)).await.unwrap();
            assert_eq!(page.items.len(), 10);
            cost.push(calls(&server));
        }
        backend.query(Query::all(of.clone(), 10).without_bodies()).await.unwrap();
        cost.push(calls(&server));
        backend.items(&of, &[&sequence_key("m:", 7)]).await.unwrap();
        backend.partition(&of).await.unwrap();
        cost.push(calls(&server));
        backend.commit(Commit::new(of.clone()).with(append("x"))).await.unwrap();
        cost.push(calls(&server));
        let trim = Operation::Trim { items: Some(count as u64 - 2), bytes: None, max_age: None };
        assert_eq!(
            backend.commit(Commit::new(of.clone()).with(trim)).await.unwrap().outcomes,
            [Outcome::Deleted(3)]
        );
        cost.push(calls(&server));
        let range = Operation::DeleteRange { from: sequence_key("m:", 20), to: Some(sequence_key("m:", 30)) };
        backend.commit(Commit::new(of.clone()).with(range)).await.unwrap();
        cost.push(calls(&server));
        costs.push(cost);
    }
    assert_eq!(costs[0], costs[1]);
    let [with_bodies, without] = [&costs[1][0], &costs[1][2]];
    // Whether there is a partition, and of each item the header and the body.
    assert_eq!((with_bodies["hget"], with_bodies["zrangebylex"]), (21, 1));
    assert_eq!((without["hget"], without["zrangebylex"]), (11, 1), "bodies are not read");
}

/// Numbers on both sides of every border, and what is none, separated by bars.
const NUMBERS: &str = r##"0|-0|-0.0|5.0|5e0|50e-1|1.5| 7 |"5"|null|true|{}|[1]|1e3|1e18|9.3e18|-9.3e18|1e300|5e-324|9223372036854775807|9223372036854775806|9223372036854775807.0|9223372036854775808|18446744073709551615|-9223372036854775808|-9223372036854775809|-9223372036854775808.0|9007199254740993|9007199254740993.0|123456789012345678|-1|-1000000000|999999999|1000000000|-999999999|0.1e1|"0x10"|1E2"##;

#[tokio::test]
async fn increments_count_as_the_reference_does() {
    let (backend, _) = shared().await;
    let of = partition("s-1");
    let mut texts: Vec<String> = NUMBERS.split('|').map(str::to_owned).collect();
    let mut random = fastrand::Rng::with_seed(7);
    texts.extend((0..60).map(|_| (random.i64(..) >> random.u8(0..64)).to_string()));
    let mut steps = vec![0, 1, -1, i64::MAX, i64::MIN, 1_000_000_000, -1_000_000_000, 999_999_999];
    steps.extend((0..4).map(|_| random.i64(..) >> random.u8(0..64)));
    let mut pairs = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        pairs.extend(steps.iter().map(|by| (format!("n:{number}:{by}"), json(text), *by)));
    }
    join_all(pairs.iter().map(|(sort, before, by)| {
        let (backend, of) = (&backend, of.clone());
        async move {
            let put = Operation::put(sort.as_str(), before.clone(), "body", PutMode::Insert);
            let written = backend.commit(Commit::new(of.clone()).with(put)).await.unwrap().version;
            let step = Operation::Increment { sort: sort.clone(), by: *by };
            let outcome = backend.commit(Commit::new(of.clone()).with(step)).await;
            let item = backend.items(&of, &[sort]).await.unwrap().remove(0).unwrap();
            assert_eq!(&item.body[..], b"body");
            match add_integer(Some(before), *by) {
                Ok(sum) => {
                    assert_eq!(outcome.unwrap().outcomes, [Outcome::Sum(sum)], "{before} + {by}");
                    assert_eq!(item.attributes.as_str(), sum.to_string());
                }
                Err(_) => {
                    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput, "{before} + {by}");
                    assert_eq!((item.attributes.as_str(), item.version), (before.as_str(), written));
                }
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn the_largest_commits_fit() {
    let (backend, _) = shared().await;
    let of = partition("s-1");
    let start = std::time::Instant::now();
    filled(&backend, &of, 10_000).await;
    let first = backend.partition(&of).await.unwrap().unwrap().version;
    eprintln!("10,000 appends in one commit: {:?}", start.elapsed());
    let sorts: Vec<String> = (1..=10_000).map(|number| sequence_key("m:", number)).collect();
    let names: Vec<&str> = sorts.iter().map(String::as_str).collect();
    assert!(backend.items(&of, &names).await.unwrap().iter().all(Option::is_some));
    let start = std::time::Instant::now();
    assert_eq!(backend.query(Query::all(of.clone(), 10_000)).await.unwrap().items.len(), 10_000);
    eprintln!("a page of 10,000: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    let trim = || Operation::Trim { items: Some(9_999), bytes: None, max_age: None };
    let mixed = (0..5_000).fold(Commit::new(of.clone()), |commit, number| {
        commit.with(upsert(&format!("z:{number:04}"), "x")).with(trim())
    });
    assert!(backend.commit(mixed).await.unwrap().outcomes.contains(&Outcome::Deleted(1)));
    eprintln!("5,000 puts and 5,000 bounds: {:?}", start.elapsed());
    assert_eq!(backend.partition(&of).await.unwrap().unwrap().items, 9_999);
    let start = std::time::Instant::now();
    let everything = Commit::new(of.clone()).with(Operation::DeleteRange { from: String::new(), to: None });
    assert_eq!(backend.commit(everything).await.unwrap().outcomes, [Outcome::Deleted(9_999)]);
    eprintln!("a range of 9,999 deleted: {:?}", start.elapsed());
    let info = backend.partition(&of).await.unwrap().unwrap();
    assert_eq!((info.items, info.bytes, info.sequence, info.version), (0, 0, 10_000, first + 2));
    let large = vec![7_u8; 16 * 1024 * 1024];
    let put = Operation::put("large", json("1"), large.clone(), PutMode::Insert);
    backend.commit(Commit::new(of.clone()).with(put)).await.unwrap();
    assert_eq!(backend.query(Query::all(of.clone(), 1)).await.unwrap().items[0].body, large);
}

#[tokio::test]
async fn a_version_is_exact_wherever_it_is_read_and_compared() {
    let (backend, namespace) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    let backend = std::sync::Arc::new(backend);
    let of = partition("s-1");
    let [hash, _] = keys(&namespace, &of);
    let commit = || Commit::new(of.clone()).with(upsert("a", "1"));
    let time = backend.commit(commit()).await.unwrap().version;
    assert!(time > 1_000_000_000_000_000, "more digits than Lua writes: {time}");
    for before in [time, (1 << 53) - 10] {
        redis::cmd("HSET").arg(&hash).arg("version").arg(before).exec_async(&mut raw).await.unwrap();
        let version = backend.commit(commit()).await.unwrap().version;
        assert_eq!(version, before + 1);
        let info = backend.partition(&of).await.unwrap().unwrap();
        assert_eq!((info.version, info.items), (version, 1));
        let page = backend.query(Query::all(of.clone(), 5)).await.unwrap();
        let item = backend.items(&of, &["a"]).await.unwrap().remove(0).unwrap();
        assert_eq!((page.items[0].version, item.version), (version, version));
        for near in [version - 1, version + 1] {
            for wrong in [Precondition::Version(near), Precondition::ItemVersion("a".into(), near)] {
                let refused = kind_of(backend.commit(commit().only_if(wrong.clone()))).await;
                assert_eq!(refused, ErrorKind::Conflict, "{wrong:?}");
            }
        }
        let right = commit().only_if(Precondition::Version(version));
        let right = right.only_if(Precondition::ItemVersion("a".into(), version));
        assert_eq!(backend.commit(right).await.unwrap().version, version + 1);
        let listed: Vec<_> = backend.partitions("conversation", &[]).try_collect().await.unwrap();
        assert_eq!(listed[0].version, version + 1);
    }
}

async fn expiries(raw: &mut MultiplexedConnection, keys: &[String; 2]) -> [i64; 2] {
    let mut found = [0; 2];
    for (key, expiry) in keys.iter().zip(&mut found) {
        *expiry = redis::cmd("PTTL").arg(key).query_async(raw).await.unwrap();
    }
    found
}

#[tokio::test]
async fn both_keys_keep_one_expiry_also_when_the_last_item_went() {
    let (backend, namespace) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    let of = partition("s-1");
    let keys = keys(&namespace, &of);
    let hour = Expire::After(Duration::from_secs(3600));
    backend.commit(Commit::new(of.clone()).with(upsert("a", "1")).expire(hour)).await.unwrap();
    // The commit's moment is rounded up to the millisecond, so that nothing expires early; PTTL rounds it down.
    let about_an_hour = |left: i64| (3_500_000..=3_600_001).contains(&left);
    assert!(expiries(&mut raw, &keys).await.into_iter().all(about_an_hour));
    let gone = Commit::new(of.clone()).with(Operation::Delete { sort: "a".into() });
    backend.commit(gone.clone()).await.unwrap();
    assert_eq!(expiries(&mut raw, &keys).await[1], -2, "Redis keeps no empty index");
    backend.commit(Commit::new(of.clone()).with(upsert("b", "1"))).await.unwrap();
    assert!(expiries(&mut raw, &keys).await.into_iter().all(about_an_hour));
    // Takes the last item, then fails.
    let taken = Operation::put("c", json("1"), "", PutMode::Insert);
    let failing =
        Commit::new(of.clone()).with(Operation::Delete { sort: "b".into() }).with(taken.clone()).with(taken);
    assert_eq!(kind_of(backend.commit(failing)).await, ErrorKind::Conflict);
    assert!(expiries(&mut raw, &keys).await.into_iter().all(about_an_hour));
    assert_eq!(backend.query(Query::all(of.clone(), 5)).await.unwrap().items[0].sort, "b");
    backend.commit(Commit::new(of.clone()).expire(Expire::Never)).await.unwrap();
    assert_eq!(expiries(&mut raw, &keys).await, [-1, -1]);
    assert_eq!(backend.partition(&of).await.unwrap().unwrap().expires_at, None);
}

#[tokio::test]
async fn a_partition_that_lost_a_key_is_corrupt_or_gone_and_never_mixed() {
    let (backend, namespace) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    let of = partition("s-1");
    let [hash, index] = keys(&namespace, &of);
    filled(&backend, &of, 3).await;
    redis::cmd("DEL").arg(&index).exec_async(&mut raw).await.unwrap();
    assert_eq!(kind_of(backend.query(Query::all(of.clone(), 5))).await, ErrorKind::Corrupt);
    assert_eq!(kind_of(backend.commit(Commit::new(of.clone()).with(append("x")))).await, ErrorKind::Corrupt);
    assert!(backend.delete_partition(&of).await.unwrap());
    filled(&backend, &of, 3).await;
    redis::cmd("DEL").arg(&hash).exec_async(&mut raw).await.unwrap();
    assert!(backend.query(Query::all(of.clone(), 5)).await.unwrap().items.is_empty());
    assert_eq!(backend.partition(&of).await.unwrap(), None);
    let fresh = Commit::new(of.clone()).only_if(Precondition::Version(0)).with(upsert("a", "1"));
    backend.commit(fresh).await.unwrap();
    let items = backend.query(Query::all(of.clone(), 5)).await.unwrap().items;
    assert!(items.len() == 1 && items[0].sort == "a", "nothing of the old one comes back");
}

#[tokio::test]
async fn damage_is_named_and_spares_the_rest() {
    let (backend, namespace) = shared().await;
    let mut raw = raw(&variable("STORAGE_TEST_REDIS_URL")).await;
    let of = partition("s-1");
    let [hash, _] = keys(&namespace, &of);
    let commit =
        ["a", "b", "c"].iter().fold(Commit::new(of.clone()), |commit, sort| commit.with(upsert(sort, "x")));
    backend.commit(commit).await.unwrap();
    for damage in ["", "nonsense", "1 2 3", "1 2 1 9 null", "1 2 1 0 NaN", "99999999999999999999999 1 1 0 1"]
    {
        redis::cmd("HSET").arg(&hash).arg("a:b").arg(damage).exec_async(&mut raw).await.unwrap();
        assert_eq!(kind_of(backend.query(Query::all(of.clone(), 5))).await, ErrorKind::Corrupt, "{damage}");
        let error = backend.items(&of, &["a", "b"]).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("b")), "{damage}");
        assert!(backend.items(&of, &["a", "c"]).await.unwrap().iter().all(Option::is_some));
        backend.commit(Commit::new(of.clone()).with(upsert("c", damage))).await.unwrap();
    }
    redis::cmd("HDEL").arg(&hash).arg("a:b").exec_async(&mut raw).await.unwrap();
    let before = backend.partition(&of).await.unwrap();
    let range = Commit::new(of.clone()).with(Operation::DeleteRange { from: String::new(), to: None });
    assert_eq!(kind_of(backend.commit(range)).await, ErrorKind::Corrupt);
    assert_eq!(backend.partition(&of).await.unwrap(), before);
    redis::cmd("SET").arg(&hash).arg("text").exec_async(&mut raw).await.unwrap();
    assert_eq!(kind_of(backend.query(Query::all(of.clone(), 5))).await, ErrorKind::Corrupt);
    assert_eq!(kind_of(backend.commit(Commit::new(of.clone()).with(append("x")))).await, ErrorKind::Corrupt);
    assert_eq!(kind_of(backend.partition(&of)).await, ErrorKind::Corrupt);
    assert!(backend.delete_partition(&of).await.unwrap());
    let fresh = Commit::new(of.clone()).only_if(Precondition::Version(0)).with(append("x"));
    assert_eq!(backend.commit(fresh).await.unwrap().outcomes, [Outcome::Appended { sequence: 1, new: true }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_writers_lose_nothing_and_keep_the_bound() {
    for backend in [shared().await.0, support::cluster().await] {
        let of = partition("s-1");
        let start = std::time::Instant::now();
        let trim = || Operation::Trim { items: Some(9_000), bytes: None, max_age: None };
        let versions = join_all((0..64).map(|writer| {
            let (backend, of) = (&backend, of.clone());
            async move {
                let mut versions = Vec::new();
                for number in 0..150 {
                    let body = format!("{writer}:{number}");
                    let tagged = Operation::Append {
                        prefix: "m:".into(),
                        attributes: Json::from(number),
                        body: body.clone().into(),
                        tag: Some(body),
                        search: None,
                    };
                    let commit = Commit::new(of.clone()).with(tagged.clone()).with(trim());
                    let first = backend.commit(commit).await.unwrap();
                    let Outcome::Appended { sequence, new: true } = first.outcomes[0] else { panic!() };
                    let again = backend.commit(Commit::new(of.clone()).with(tagged)).await.unwrap();
                    assert_eq!(again.outcomes, [Outcome::Appended { sequence, new: false }]);
                    versions.extend([first.version, again.version]);
                }
                versions
            }
        }))
        .await;
        eprintln!("19,200 commits of 64 writers: {:?}", start.elapsed());
        let info = backend.partition(&of).await.unwrap().unwrap();
        assert_eq!((info.items, info.sequence), (9_000, 9_600));
        let mut versions = versions.concat();
        versions.sort_unstable();
        assert_eq!(versions, (info.version - 19_199..=info.version).collect::<Vec<_>>(), "one each");
        let items = backend.query(Query::all(of.clone(), 10_000)).await.unwrap().items;
        for (item, sequence) in items.iter().zip(601..) {
            assert_eq!(item.sort, sequence_key("m:", sequence));
        }
    }
}
