//! Concurrent callers share commits and visits, and none of them notices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod common;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Place, connected, json};
use futures::{FutureExt, future::BoxFuture, future::join_all};
use storage_core::{Batch, Entry, Error, ErrorKind, Expected, Json, StorageBackend};
use storage_sqlite::{SqliteBackend, SqliteConfig};

type Write<'a> = BoxFuture<'a, Result<i64, Error>>;

fn set<'a>(backend: &'a SqliteBackend, key: &'a str) -> Write<'a> {
    async move { backend.set(key, json("1"), None).await.map(|()| 1) }.boxed()
}

/// Runs the writes in one group: they wait together behind a lock that another program holds.
async fn in_one_group(
    place: &Place,
    backend: &SqliteBackend,
    writes: Vec<Write<'_>>,
) -> Vec<Result<i64, Error>> {
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let release = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        other.execute_batch("COMMIT").unwrap();
    };
    // By then the writer has the first one, and waits for the lock.
    let rest = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        join_all(writes).await
    };
    let (first, answers, ()) = tokio::join!(set(backend, "first:1"), rest, release);
    first.unwrap();
    answers
}

/// How many commits the write-ahead log holds: a frame that ends one tells the size of the database.
fn commits(place: &Place) -> usize {
    let log = fs::read(place.folder.path().join("agent.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let salt = &log[16..24];
    let current = log[32..].chunks_exact(24 + page).take_while(|frame| &frame[8..16] == salt);
    current.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn those_who_wait_share_one_commit() {
    let place = Place::new();
    let backend = place.connected().await;
    let keys: Vec<String> = (0..200).map(|number| format!("deal:{number}")).collect();
    let before = commits(&place);
    let answers = in_one_group(&place, &backend, keys.iter().map(|key| set(&backend, key)).collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(commits(&place) - before, 2, "the first caller's and one for all others");
    assert_eq!(backend.keys("deal:*").await.unwrap().len(), 200);
}

#[tokio::test]
async fn writes_of_one_key_in_a_group_act_as_if_one_after_the_other() {
    let place = Place::new();
    let backend = &place.connected().await;
    let swap = |expected| async move {
        let swapped = backend.compare_and_set("seen:1", expected, Some(json("10")), None).await;
        swapped.map(i64::from)
    };
    let writes: Vec<Write<'_>> = vec![
        backend.increment("seen:1", 1, None).boxed(),
        backend.increment("seen:1", 1, None).boxed(),
        swap(Expected::Absent).boxed(),
        swap(Expected::Value(json("2"))).boxed(),
        swap(Expected::Value(json("2"))).boxed(),
        backend.increment("seen:1", 5, None).boxed(),
        async { backend.delete("seen:1").await.map(i64::from) }.boxed(),
        async { backend.delete("seen:1").await.map(i64::from) }.boxed(),
        backend.increment("seen:1", 3, None).boxed(),
    ];
    let answers: Vec<i64> =
        in_one_group(&place, backend, writes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [1, 2, 0, 1, 0, 15, 1, 0, 3]);
    assert_eq!(backend.get("seen:1").await.unwrap(), Some(json("3")));
}

#[tokio::test]
async fn one_poisoned_write_fails_alone() {
    // SQLite undoes the statement, or (as where it runs out of memory) the whole transaction.
    for undoing in ["ABORT", "ROLLBACK"] {
        let place = Place::new();
        let backend = &place.connected().await;
        backend.set("value:text", json("\"a\""), None).await.unwrap();
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON kv_store WHEN NEW.key LIKE 'refused:%'
             BEGIN SELECT RAISE({undoing}, 's3cret'); END"
        );
        place.outside().execute_batch(&trigger).unwrap();
        let entries = || ["many:1", "refused:2"].map(|key| Entry::new(key, json("1")));
        let batch = Batch::new().set("batch:1", json("1"), None).set("refused:3", json("1"), None);
        let writes: Vec<Write<'_>> = vec![
            set(backend, "deal:1"),
            set(backend, "refused:1"),
            backend.increment("value:text", 1, None).boxed(),
            async { backend.set_many(entries().into()).await.map(|()| 1) }.boxed(),
            async { backend.apply(batch).await.map(|()| 1) }.boxed(),
            async { backend.delete_many(&["first:1", "none:1"]).await.map(|n| n as i64) }.boxed(),
            set(backend, "deal:2"),
        ];
        let answers = in_one_group(&place, backend, writes).await;
        let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Error::kind)).collect();
        let config = Some(ErrorKind::Config);
        assert_eq!(
            kinds,
            [None, config, Some(ErrorKind::InvalidInput), config, config, None, None],
            "{undoing}"
        );
        assert_eq!(answers[5].as_ref().unwrap(), &1);
        assert_eq!(answers[1].as_ref().unwrap_err().key(), Some("refused:1"), "each error names its own key");
        assert_eq!(backend.keys("*").await.unwrap(), ["deal:1", "deal:2", "value:text"], "{undoing}");
    }
}

#[tokio::test]
async fn a_commit_that_fails_fails_for_every_member() {
    let place = Place::new();
    let backend = &place.connected().await;
    // A deferred constraint is checked at the commit.
    place
        .outside()
        .execute_batch(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER orphan AFTER INSERT ON kv_store WHEN NEW.key LIKE 'orphan:%'
             BEGIN INSERT INTO child VALUES (1); END",
        )
        .unwrap();
    let writes = vec![set(backend, "deal:1"), set(backend, "orphan:1"), set(backend, "deal:2")];
    let answers = in_one_group(&place, backend, writes).await;
    assert!(
        answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Config))
    );
    assert_eq!(backend.keys("*").await.unwrap(), ["first:1"]);
    backend.set("deal:1", json("1"), None).await.unwrap();
}

#[tokio::test]
async fn callers_that_went_away_while_waiting_are_not_begun() {
    let place = Place::new();
    let backend = &place.connected().await;
    let hasty = (0..50).map(|_| async {
        let moment = Duration::from_millis(20);
        let gone = tokio::time::timeout(moment, backend.increment("seen:1", 1, None)).await;
        assert!(gone.is_err());
        Ok(0)
    });
    let mut writes: Vec<Write<'_>> = hasty.map(FutureExt::boxed).collect();
    writes.push(backend.increment("seen:1", 1, None).boxed());
    let answers = in_one_group(&place, backend, writes).await;
    assert_eq!(answers.last().unwrap().as_ref().unwrap(), &1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_written_is_read_and_small_entries_pass_a_flood_of_large_ones() {
    let place = Place::new();
    let backend = Arc::new(connected(SqliteConfig { readers: 2, ..place.config() }).await);
    let large = Json::parse(format!("\"{}\"", "x".repeat(2 << 20))).unwrap();
    let tasks = (0..48).map(|task: u64| {
        let (backend, large) = (Arc::clone(&backend), large.clone());
        tokio::spawn(async move {
            let key = format!("deal:{task}");
            for round in 0..3 {
                let value = if task < 12 { large.clone() } else { Json::from(round) };
                backend.set(&key, value.clone(), None).await.unwrap();
                assert_eq!(backend.get(&key).await.unwrap(), Some(value));
                assert!(backend.exists(&key).await.unwrap());
            }
            assert!(backend.delete(&key).await.unwrap());
            assert!(!backend.exists(&key).await.unwrap());
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_task_that_reads_and_reads_leaves_room_for_others() {
    let place = Place::new();
    let backend = place.connected().await;
    backend.set("deal:1", json("1"), None).await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        stop.send(()).unwrap();
    });
    // Both on one thread: without pauses the other task would never run.
    while stopped.try_recv().is_err() {
        assert!(backend.exists("deal:1").await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_crowd_of_readers_everybody_has_turns() {
    const READERS: usize = 600;
    const READS: usize = READERS * 64;
    let place = Place::new();
    let backend = Arc::new(place.connected().await);
    backend.set("deal:1", json("1"), None).await.unwrap();
    let all = Arc::new(AtomicUsize::new(0));
    let reader = || {
        let (backend, all) = (Arc::clone(&backend), Arc::clone(&all));
        tokio::spawn(async move {
            let mut reads = 0;
            while all.fetch_add(1, Ordering::Relaxed) < READS {
                backend.get("deal:1").await.unwrap().unwrap();
                reads += 1;
            }
            reads
        })
    };
    let reads = join_all((0..READERS).map(|_| reader()).collect::<Vec<_>>()).await;
    let least = reads.into_iter().map(Result::unwrap).min().unwrap();
    assert!(least >= 8, "of 64 reads on average, one task had {least}");
}
