//! Collections in the file: what stands in it, what is read of it, and what becomes of what has ended.
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
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use common::{Place, connected, json};
use futures::{StreamExt, future::join_all};
use storage_core::{
    CollectionStore, Commit, ErrorKind, Expire, ManualClock, Operation, Outcome, Partition, PutMode, Query,
    Search, SearchText, StorageBackend, StorageExt, SweepConfig, sequence_key,
};
use storage_sqlite::{SqliteBackend, SqliteConfig};

const SECOND: Duration = Duration::from_secs(1);

fn partition(id: &str) -> Partition {
    Partition::new("conversation", &[id]).unwrap()
}

fn append(body: impl Into<Vec<u8>>) -> Operation {
    Operation::append("m:", json(r#"{"role": "user"}"#), body.into())
}

fn appends(of: &Partition, count: usize, body: &str) -> Commit {
    (0..count).fold(Commit::new(of.clone()), |commit, _| commit.with(append(body)))
}

fn count(place: &Place, table: &str) -> i64 {
    place.outside().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn manual(place: &Place, batch: u32) -> (Arc<ManualClock>, SqliteConfig) {
    let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(1_795_000_000_123)));
    let sweep = Some(SweepConfig { interval: 3_600 * SECOND, batch });
    let config = SqliteConfig { clock: clock.clone(), sweep, ..place.config() };
    (clock, config)
}

async fn sorts(backend: &SqliteBackend, of: &Partition) -> Vec<String> {
    let page = backend.query(Query::all(of.clone(), 10_000)).await.unwrap();
    page.items.into_iter().map(|item| item.sort).collect()
}

#[tokio::test]
async fn a_file_of_the_python_agents_gets_the_tables_beside_its_own() {
    let place = Place::new();
    let python = "CREATE TABLE kv_store (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at REAL);
        CREATE INDEX idx_expires_at ON kv_store (expires_at);
        INSERT INTO kv_store VALUES ('deal:1', '{}', NULL);";
    place.outside().execute_batch(python).unwrap();
    let backend = place.connected().await;
    backend.commit(appends(&partition("s-1"), 1, "x")).await.unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("{}")));
    let sql: String = place
        .outside()
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'kv_store'", [], |row| row.get(0))
        .unwrap();
    assert!(python.contains(&sql), "its columns stay: {sql}");
    assert_eq!(count(&place, "kv_store"), 1);
    let version: i64 = place.outside().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 0, "the version of the file is not ours to set");
}

#[tokio::test]
async fn a_file_of_a_later_release_is_refused() {
    let place = Place::new();
    place.connected().await.disconnect().await.unwrap();
    place.outside().execute_batch("UPDATE storage_meta SET version = 99").unwrap();
    let error = SqliteBackend::new(place.config()).unwrap().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    place.outside().execute_batch("UPDATE storage_meta SET version = 1").unwrap();
    place.connected().await;
}

#[tokio::test]
async fn a_partition_expires_at_its_millisecond_and_its_items_go_in_batches() {
    let place = Place::new();
    let (clock, config) = manual(&place, 100);
    let backend = connected(config).await;
    let (of, stays) = (partition("s-1"), partition("s-2"));
    let expiring = |commit: Commit| backend.commit(commit.expire(Expire::After(SECOND)));
    expiring(appends(&of, 250, "old")).await.unwrap();
    backend.commit(appends(&stays, 3, "x")).await.unwrap();
    clock.advance(Duration::from_millis(999));
    assert_eq!(sorts(&backend, &of).await.len(), 250);
    clock.advance(Duration::from_millis(1));
    assert!(sorts(&backend, &of).await.is_empty());
    assert_eq!(backend.partition(&of).await.unwrap(), None);
    assert!(!backend.delete_partition(&of).await.unwrap());
    assert_eq!(count(&place, "storage_item"), 253, "reading removes nothing");

    let fresh = expiring(appends(&of, 1, "new")).await.unwrap();
    assert_eq!(fresh.outcomes, [Outcome::Appended { sequence: 1, new: true }]);
    assert_eq!(sorts(&backend, &of).await, [sequence_key("m:", 1)]);
    assert_eq!(count(&place, "storage_item"), 254, "a commit removes none of the old");
    assert_eq!(backend.cleanup().await.unwrap(), 251, "the old items and their partition");
    assert_eq!(backend.cleanup().await.unwrap(), 0);
    assert_eq!(sorts(&backend, &of).await, [sequence_key("m:", 1)]);

    clock.advance(2 * SECOND);
    assert!(backend.delete_partition(&stays).await.unwrap());
    assert!(sorts(&backend, &stays).await.is_empty());
    assert_eq!(backend.cleanup().await.unwrap(), 6, "an expired one with its item, a deleted one with three");
    assert_eq!((count(&place, "storage_item"), count(&place, "storage_partition")), (0, 0));
}

#[tokio::test]
async fn the_sweep_removes_large_items_a_few_at_a_time_and_all_in_the_end() {
    let place = Place::new();
    let sweep = Some(SweepConfig { interval: Duration::from_millis(20), batch: 1_000 });
    let backend = connected(SqliteConfig { sweep, ..place.config() }).await;
    let large = vec![b'x'; 6 * 1024 * 1024];
    for _ in 0..8 {
        backend.commit(Commit::new(partition("s-1")).with(append(large.clone()))).await.unwrap();
    }
    assert!(backend.delete_partition(&partition("s-1")).await.unwrap());
    let mut left = 8;
    for _ in 0..500 {
        left = count(&place, "storage_item") + count(&place, "storage_partition");
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_deleted_partition_stays_gone_where_the_clock_goes_back() {
    let place = Place::new();
    let (clock, config) = manual(&place, 2);
    let backend = connected(config.clone()).await;
    backend.commit(appends(&partition("s-1"), 5, "x").expire(Expire::After(SECOND))).await.unwrap();
    clock.advance(2 * SECOND);
    let hasty = SqliteConfig { operation_timeout: Duration::from_millis(2_000), ..config };
    assert!(connected(hasty).await.cleanup().await.unwrap() > 0);
    let earlier = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(1_795_000_000_123)));
    let back = connected(SqliteConfig { clock: earlier, ..place.config() }).await;
    assert_eq!(back.partition(&partition("s-1")).await.unwrap(), None, "half a partition is none");
}

#[tokio::test]
async fn a_query_without_bodies_does_not_read_them() {
    let place = Place::new();
    let backend = place.connected().await;
    let of = partition("s-1");
    let large = vec![b'x'; 300_000];
    backend.commit(Commit::new(of.clone()).with(append(large)).with(append("small"))).await.unwrap();
    backend.disconnect().await.unwrap();
    place.outside().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    // Every page that holds nothing but body is lost.
    let mut file = fs::read(place.path()).unwrap();
    let lost = file.chunks_mut(4096).filter(|page| page[4..].iter().all(|byte| *byte == b'x'));
    assert!(lost.map(|page| page.fill(0)).count() > 60);
    fs::write(place.path(), file).unwrap();

    let backend = place.connected().await;
    let bare = backend.query(Query::all(of.clone(), 10).without_bodies()).await.unwrap();
    assert_eq!(bare.items.iter().map(|item| item.body_bytes).collect::<Vec<_>>(), [300_000, 5]);
    let beyond = backend.query(Query::range(of.clone(), sequence_key("m:", 2), None, 1)).await.unwrap();
    assert_eq!(&beyond.items[0].body[..], b"small");
    assert_eq!(backend.partition(&of).await.unwrap().unwrap().items, 2);
    assert!(backend.query(Query::all(of, 10)).await.is_err(), "the body is lost indeed");
}

#[tokio::test]
async fn corrupt_attributes_are_named_and_spare_the_rest() {
    for sql in ["'s3cret'", "'NaN'", "x'6e756c6c'", "CAST(x'22ff22' AS TEXT)"] {
        let place = Place::new();
        let backend = place.connected().await;
        let of = partition("s-1");
        backend.commit(appends(&of, 3, "s3cret")).await.unwrap();
        let (good, bad) = (sequence_key("m:", 1), sequence_key("m:", 2));
        let corrupt = format!("UPDATE storage_item SET attributes = {sql} WHERE sort = '{bad}'");
        place.outside().execute_batch(&corrupt).unwrap();
        let add = Operation::Increment { sort: bad.clone(), by: 1 };
        for error in [
            backend.query(Query::all(of.clone(), 10)).await.unwrap_err(),
            backend.items(&of, &[&good, &bad]).await.unwrap_err(),
            backend.commit(Commit::new(of.clone()).with(append("x")).with(add)).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&*bad)), "{sql}");
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
        assert_eq!(backend.query(Query::all(of.clone(), 1)).await.unwrap().items.len(), 1);
        assert!(backend.items(&of, &[&good]).await.unwrap()[0].is_some());
        let put = Operation::put(bad.clone(), json("1"), "y", PutMode::Upsert);
        backend.commit(Commit::new(of.clone()).with(put)).await.unwrap();
        assert_eq!(sorts(&backend, &of).await.len(), 3, "written over, it is well again");
    }
}

#[tokio::test]
async fn corrupt_partitions_are_named_and_spare_the_rest() {
    let place = Place::new();
    let backend = place.connected().await;
    for id in ["a", "b", "c"] {
        backend.commit(appends(&partition(id), 1, "x")).await.unwrap();
    }
    place
        .outside()
        .execute_batch(
            "UPDATE storage_partition SET version = 'two' WHERE name = 'conversation:b';
             INSERT INTO storage_partition VALUES (70, 'conversation:%', 1, 1, 1, 1, 1, NULL),
                (71, CAST(x'636f6e766572736174696f6e3aff' AS TEXT), 1, 1, 1, 1, 1, NULL);",
        )
        .unwrap();
    let error = backend.partition(&partition("b")).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("conversation:b")));
    let backend = Arc::new(backend);
    let listed: Vec<_> = backend.partitions("conversation", &[]).collect().await;
    let (found, errors): (Vec<_>, Vec<_>) = listed.into_iter().partition(Result::is_ok);
    let names: Vec<_> = found.into_iter().map(|info| info.unwrap().partition).collect();
    assert_eq!(names, [partition("a"), partition("c")]);
    let errors: Vec<_> = errors.into_iter().map(Result::unwrap_err).collect();
    assert!(errors.len() == 3 && errors.iter().all(|error| error.kind() == ErrorKind::Corrupt), "{errors:?}");
    backend.commit(appends(&partition("c"), 1, "x")).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_waits_for_a_lock_too_long_applies_nothing() {
    let place = Place::new();
    let limit = Duration::from_millis(300);
    let backend = connected(SqliteConfig { operation_timeout: limit, ..place.config() }).await;
    let of = partition("s-1");
    let first = backend.commit(appends(&of, 1, "x")).await.unwrap().version;
    let other = place.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commits = (0..20).map(|_| backend.commit(appends(&of, 3, "y")));
    for answer in join_all(commits).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(sorts(&backend, &of).await.len(), 1, "readers go on");
    other.execute_batch("COMMIT").unwrap();
    tokio::time::sleep(limit).await;
    let next = backend.commit(appends(&of, 1, "z")).await.unwrap().version;
    assert_eq!(next, first + 1, "nothing is applied later");
}

#[tokio::test]
async fn one_bad_commit_fails_alone_among_those_that_share_its_transaction() {
    let place = Place::new();
    let backend = place.connected().await;
    let of = partition("s-1");
    let put = |body: &'static str| Operation::put("taken", json("null"), body, PutMode::Insert);
    let first = backend.commit(Commit::new(of.clone()).with(put("x"))).await.unwrap().version;
    let commits = (0..60).map(|number| {
        let commit = appends(&of, 3, "x");
        backend.commit(if number % 3 == 0 { commit.with(put("y")) } else { commit })
    });
    let answers = join_all(commits).await;
    for (number, answer) in answers.iter().enumerate() {
        match number % 3 {
            0 => assert_eq!(answer.as_ref().unwrap_err().kind(), ErrorKind::Conflict),
            _ => assert_eq!(answer.as_ref().unwrap().outcomes.len(), 3),
        }
    }
    let info = backend.partition(&of).await.unwrap().unwrap();
    assert_eq!((info.version - first, info.sequence, info.items), (40, 120, 121));
}

#[tokio::test]
async fn a_file_of_a_release_without_search_gets_it_on_connect_and_works_until_then() {
    let place = Place::new();
    place.connected().await.disconnect().await.unwrap();
    let earlier = "DROP TRIGGER storage_item_text; DROP TABLE storage_text; DELETE FROM storage_meta WHERE name = 'search';";
    place.outside().execute_batch(earlier).unwrap();
    let of = partition("s-1");
    let said = |sort: &str, body: &str| {
        Operation::put(sort, json("1"), body.to_owned(), PutMode::Upsert)
            .searched(Some(SearchText::new(body)))
    };
    let found = async |backend: &SqliteBackend| {
        let hits = backend.search(Search::new(of.kind(), "word".parse().unwrap())).await?;
        Ok::<_, storage_core::Error>(hits.into_iter().map(|hit| hit.item.sort).collect::<Vec<_>>())
    };
    // Tools that only change what is there leave the tables as they are.
    let tool = connected(SqliteConfig { create: false, ..place.config() }).await;
    for body in ["word early", "word over"] {
        tool.commit(Commit::new(of.clone()).with(said("a", body))).await.unwrap();
    }
    let error = found(&tool).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("storage init"), "{error}");
    tool.disconnect().await.unwrap();
    let backend = place.connected().await;
    assert_eq!(found(&backend).await.unwrap(), [""; 0]);
    backend.commit(Commit::new(of.clone()).with(said("b", "word"))).await.unwrap();
    backend.commit(Commit::new(of.clone()).with(said("a", "word"))).await.unwrap();
    let mut both = found(&backend).await.unwrap();
    both.sort();
    assert_eq!(both, ["a", "b"]);
}

#[tokio::test]
async fn what_another_program_deletes_is_found_no_longer_and_leaves_the_index_sound() {
    let place = Place::new();
    let backend = place.connected().await;
    let of = partition("s-1");
    for n in 0..200 {
        let text = format!("word number{n}");
        let said = Operation::append("m:", json("1"), text.clone()).searched(Some(SearchText::new(&text)));
        backend.commit(Commit::new(of.clone()).with(said)).await.unwrap();
    }
    place.outside().execute_batch("DELETE FROM storage_item WHERE id % 2 = 0").unwrap();
    let search = Search::new(of.kind(), "word".parse().unwrap()).limit(100);
    assert_eq!(backend.search(Search { offset: 50, ..search }).await.unwrap().len(), 50);
    backend.delete_partition(&of).await.unwrap();
    backend.cleanup().await.unwrap();
    assert_eq!(count(&place, "storage_text_docsize"), 0, "nothing of the texts is left");
    let outside = place.outside();
    let sound: String = outside.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn a_cleanup_leaves_no_word_of_what_is_gone_in_the_index() {
    let place = Place::new();
    let backend = place.connected().await;
    let said = |text: &str| {
        Operation::append("m:", json("1"), text.to_owned()).searched(Some(SearchText::new(text)))
    };
    for n in 0..60 {
        for of in ["gone", "stays"] {
            backend
                .commit(Commit::new(partition(of)).with(said(&format!("zanzibar {of} {n}"))))
                .await
                .unwrap();
        }
    }
    let over = Operation::put(sequence_key("m:", 1), json("1"), "", PutMode::Upsert);
    backend.commit(Commit::new(partition("stays")).with(over)).await.unwrap();
    backend.delete_partition(&partition("gone")).await.unwrap();
    let holds = |word: &str| {
        let sql = "SELECT count(*) FROM storage_text_data WHERE instr(block, ?1) > 0";
        place.outside().query_row(sql, [word.as_bytes()], |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    assert!(holds("gone"), "the words are kept until the index is merged");
    backend.cleanup().await.unwrap();
    assert!(!holds("gone") && holds("stays"));
    let search = Search::new("conversation", "zanzibar".parse().unwrap()).limit(100);
    assert_eq!(backend.search(search).await.unwrap().len(), 59);
    let pending = "SELECT count(*) FROM storage_meta WHERE name = 'search_deleted'";
    assert_eq!(place.outside().query_row(pending, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}
