//! A SQLite file becomes the first generation of a home.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rusqlite::Connection;
use storage_core::{ErrorKind, StorageBackend};
use storage_managed::{Adopted, DatabaseStore, Error, Managed, Result, adopt, home::FolderHome};
use storage_sqlite::SqliteBackend;

use crate::{Place, add, faulty::Fault, rows, rows_in_home};

fn make(path: &Path, statements: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(statements).unwrap();
    db
}

async fn adopted(place: &Place, file: &Path) -> Result<Adopted> {
    adopt(place.home(), place.options("a"), file).await
}

async fn refused(place: &Place, file: &Path, why: &str) {
    let error = adopted(place, file).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(why), "{error}");
    assert!(!place.home_path().join("head").exists(), "nothing is published");
}

/// Every row of every table, and what SQLite keeps of the database itself.
fn dump(db: &Connection) -> BTreeMap<String, Vec<String>> {
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names: Vec<String> =
        names.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
    let shown = |name: String| {
        let mut found = db.prepare(&format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""))).unwrap();
        let columns = found.column_count();
        let rows = found.query_map([], |row| {
            Ok((0..columns).map(|at| format!("{:?};", row.get_ref(at).unwrap())).collect::<String>())
        });
        (name, rows.unwrap().collect::<rusqlite::Result<_>>().unwrap())
    };
    let mut found: BTreeMap<_, _> = names.into_iter().map(shown).collect();
    for pragma in ["user_version", "application_id", "page_size"] {
        let value: i64 = db.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
        found.insert(format!("pragma {pragma}"), vec![value.to_string()]);
    }
    found
}

const ODD: &str = "
    CREATE TABLE plain (id INTEGER PRIMARY KEY, body BLOB);
    INSERT INTO plain (body) WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 500)
        SELECT randomblob(n % 90) FROM n;
    CREATE TABLE keyed (k TEXT PRIMARY KEY, v REAL) WITHOUT ROWID;
    INSERT INTO keyed VALUES ('a', 1.5), ('ä', NULL);
    CREATE TABLE \"odd \"\" name\" (n);
    INSERT INTO \"odd \"\" name\" VALUES (x'00ff');
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
    INSERT INTO counted DEFAULT VALUES;
    DELETE FROM plain WHERE id % 3 = 0;
    CREATE VIEW v AS SELECT k FROM keyed;
    PRAGMA user_version = 7;
    PRAGMA application_id = 99;";

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_a_file_is_in_the_home_whatever_its_page_size_and_journal() {
    for (page_size, journal, vacuum) in [(512, "DELETE", 0), (4096, "WAL", 1), (65_536, "TRUNCATE", 2)] {
        let place = Place::new();
        let file = place.cache("a folder with spaces, % and ?.db");
        let begin = format!(
            "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {vacuum}; PRAGMA journal_mode = {journal};"
        );
        let source = make(&file, &(begin + ODD));
        let found = adopted(&place, &file).await.unwrap();
        let expected = [("counted", 1), ("keyed", 2), ("odd \" name", 1), ("plain", 334)];
        let expected = expected.map(|(name, rows)| (name.to_owned(), rows)).into();
        assert_eq!((found.rows, found.verified.generation), (expected, 1));
        let store = place.open("elsewhere").await.unwrap();
        let to = place.cache("restored.db");
        store.restore(1, &to).await.unwrap();
        assert_eq!(dump(&Connection::open(&to).unwrap()), dump(&source), "{journal}");
        // It is written to as any other.
        add(&store, "more").await.unwrap();
        store.fold().await.unwrap();
        store.close().await.unwrap();
        let here = place.open("a").await.unwrap();
        assert_eq!((rows(&here).await, here.ensure_fresh().await.unwrap()), (vec!["more".to_owned()], 2));
        here.close().await.unwrap();
        assert_eq!(rows_in_home(&place).await, ["more"]);
    }
}

/// What is committed to the log alone is there, what is not committed is not, and the file is as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_copied_while_another_program_writes_to_it() {
    let place = Place::new();
    let file = place.cache("agent.db");
    let writer = make(
        &file,
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT);
         INSERT INTO t (body) VALUES ('committed'); BEGIN; INSERT INTO t (body) VALUES ('not committed')",
    );
    let log = place.cache("agent.db-wal");
    let before = (std::fs::read(&file).unwrap(), std::fs::read(&log).unwrap());
    assert!(!before.1.is_empty());
    let found = adopted(&place, &file).await.unwrap();
    assert_eq!(found.rows, [("t".to_owned(), 1)].into());
    assert_eq!((std::fs::read(&file).unwrap(), std::fs::read(&log).unwrap()), before);
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(rows_in_home(&place).await, ["committed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_beside_a_file_that_nobody_has_open() {
    let place = Place::new();
    let file = place.cache("agent.db");
    drop(make(&file, "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)"));
    let before = std::fs::read(&file).unwrap();
    adopted(&place, &file).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), before);
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!place.cache(&format!("agent.db{suffix}")).exists(), "{suffix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_an_empty_database() {
    let place = Place::new();
    let file = place.cache("empty.db");
    std::fs::write(&file, "").unwrap();
    let found = adopted(&place, &file).await.unwrap();
    assert_eq!((found.rows.len(), found.verified.generation), (0, 1));
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
    let store = place.open("a").await.unwrap();
    add(&store, "first").await.unwrap();
    store.close().await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_sqlite_backend_serves_the_managed_one() {
    let place = Place::new();
    let file = place.cache("agent.db");
    let plain = SqliteBackend::new(storage_sqlite::SqliteConfig::new(&file)).unwrap();
    plain.connect().await.unwrap();
    plain.set("deal:1", "17".parse().unwrap(), None).await.unwrap();
    plain.disconnect().await.unwrap();
    adopted(&place, &file).await.unwrap();
    let home = Arc::new(FolderHome::new(place.home_path()));
    let managed = SqliteBackend::new(Managed::new(home, place.options("b")).config()).unwrap();
    managed.connect().await.unwrap();
    assert_eq!(managed.get("deal:1").await.unwrap().unwrap().to_string(), "17");
    managed.set("deal:2", "18".parse().unwrap(), None).await.unwrap();
    managed.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_adopted_is_refused_by_name() {
    let place = Place::new();
    let file = place.cache("odd.db");
    refused(&place, &file, "odd.db` is not there").await;
    refused(&place, place.folder.path(), "is no file").await;
    std::fs::write(&file, "SQLite format 3 or not, this is a text".repeat(100)).unwrap();
    refused(&place, &file, "is no SQLite database, or is encrypted").await;
    std::fs::remove_file(&file).unwrap();
    drop(make(&file, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (body TEXT)"));
    refused(&place, &file, "is in UTF-16le").await;
    std::fs::remove_file(&file).unwrap();
    drop(make(&file, ODD));
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[4096..end].fill(0x55);
    std::fs::write(&file, bytes).unwrap();
    refused(&place, &file, "is damaged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_or_a_cache_that_has_a_database_is_left_alone() {
    let place = Place::new();
    let file = place.cache("agent.db");
    drop(make(
        &file,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO t (body) VALUES ('first')",
    ));
    adopted(&place, &file).await.unwrap();
    // Twice, from this cache and from another.
    for cache in ["a", "b"] {
        let again = adopt(place.home(), place.options(cache), &file).await.unwrap_err().to_string();
        assert!(again.contains("has a database already, at generation 1"), "{again}");
        assert!(again.contains("storage managed status"), "{again}");
    }
    let elsewhere = Place::new();
    let cache = adopt(elsewhere.home(), place.options("a"), &file).await.unwrap_err().to_string();
    assert!(cache.contains("holds another database"), "{cache}");
    let of_cache = adopt(elsewhere.home(), elsewhere.options("a"), &place.cache("a/database.db")).await;
    let of_cache = of_cache.unwrap_err().to_string();
    assert!(of_cache.contains("is the local copy of a managed database"), "{of_cache}");
    assert_eq!(rows_in_home(&place).await, ["first"]);
    // A home that has lost its head is not an empty one.
    let store = DatabaseStore::open(place.home(), place.options("a")).await.unwrap();
    add(&store, "second").await.unwrap();
    store.close().await.unwrap();
    std::fs::remove_file(place.home_path().join("head")).unwrap();
    let headless = adopt(place.home(), place.options("b"), &file).await.unwrap_err().to_string();
    assert!(headless.contains("has lost its `head`"), "{headless}");
}

/// Any request may be lost, or its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_lost_is_made_again_and_a_lost_answer_settled_by_reading() {
    let file = tempfile::Builder::new().suffix(".db").tempfile().unwrap();
    drop(make(
        file.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO t (body) VALUES ('first')",
    ));
    for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::OutcomeUnknown)] {
        // Behind the proof that the home keeps its conditions, which takes nothing for granted.
        for request in 7..16 {
            let place = Place::new();
            let home = place.home();
            home.fail([request], fault);
            let found = adopt(home, place.options("a"), file.path()).await;
            assert_eq!(found.unwrap().verified.generation, 1, "{fault:?} of request {request}");
            assert_eq!(rows_in_home(&place).await, ["first"]);
            assert_eq!(place.objects("base").len(), 1);
        }
    }
}
