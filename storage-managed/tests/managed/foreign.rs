//! Somebody else has the cache open: other page sizes, writes and checkpoints, while a store has it open and while none has.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rusqlite::Connection;
use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error};

use crate::{
    Place, add,
    caches::{filled, is_refused},
    faulty::Fault,
    identity::edit_head,
    rows, rows_in_home,
};

/// As any program opens it, which writes back the log as SQLite does.
fn foreign(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db
}

fn page_size(db: &Connection) -> i64 {
    db.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_page_size_is_kept_and_refused() {
    for size in [512, 8_192, 65_536] {
        for with_log in [false, true] {
            let place = filled().await;
            let db = foreign(&place.cache("a").join("database.db"));
            let change = format!("PRAGMA journal_mode=DELETE; PRAGMA page_size={size}; VACUUM");
            db.execute_batch(&change).unwrap();
            assert_eq!(page_size(&db), size);
            if with_log {
                storage_managed::prepare(&db).unwrap();
                db.execute_batch("PRAGMA journal_mode=WAL; INSERT INTO t (body) VALUES ('foreign')").unwrap();
            }
            drop(db);
            assert_eq!(place.cache("a").join("database.db-wal").exists(), with_log);
            is_refused(&place).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_size_cannot_change_while_a_store_is_open() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    add(&store, "first").await.unwrap();
    let db = Connection::open(store.path()).unwrap();
    let refused = db.execute_batch("PRAGMA journal_mode=DELETE").unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    drop(db);
    // Neither by the store itself: with a write-ahead log SQLite ignores it.
    store.for_write(|db| db.execute_batch("PRAGMA page_size=8192")).await.unwrap();
    store.vacuum().await.unwrap();
    add(&store, "second").await.unwrap();
    assert_eq!(store.read(|db| Ok(page_size(db))).await.unwrap(), 4_096);
    assert_eq!(rows_in_home(&place).await, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_another_program_keeps_open_is_named() {
    let place = Place::new();
    let options = storage_managed::Options { busy_timeout: Duration::from_millis(50), ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    add(&store, "first").await.unwrap();
    let db = foreign(&store.path());
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = storage_core::Error::from(add(&store, "refused").await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("another program has the database of the cache locked"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("end the transaction")), "{error}");
    db.execute_batch("ROLLBACK").unwrap();
    add(&store, "second").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["first", "second"]);
}

/// What others write is more than SQLite leaves in the log, which is then begun anew: what was written is nowhere in it.
const WRITES: [&str; 3] = [
    "INSERT INTO t (body) VALUES (zeroblob(6000000))",
    "DELETE FROM t WHERE id = 2; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
    "INSERT INTO t (body) VALUES ('foreign')",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_write_under_an_open_writer_is_kept_and_never_published() {
    for write in WRITES {
        let place = Place::new();
        let store = place.open("a").await.unwrap();
        for number in 0..3 {
            add(&store, &number.to_string().repeat(100_000)).await.unwrap();
        }
        let expected = rows(&store).await;
        foreign(&store.path()).execute_batch(write).unwrap();
        let Error::Diverged { path } = add(&store, "next").await.unwrap_err() else { panic!("{write}") };
        assert!(matches!(add(&store, "next").await, Err(Error::Diverged { .. })));
        assert_eq!(rows_in_home(&place).await, expected, "{write}");
        let kept = foreign(&path.join("database.db"));
        let check: String = kept.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let count: i64 = kept.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert!(check == "ok" && count != 3, "{write}");
        store.discard_diverged().await.unwrap();
        assert_eq!(rows(&store).await, expected, "{write}");
        add(&store, "after").await.unwrap();
        assert_eq!(rows_in_home(&place).await, rows(&store).await, "{write}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_write_under_an_open_reader_is_kept_and_replaced() {
    for write in WRITES {
        let place = Place::new();
        let (writer, reader) = (place.open("a").await.unwrap(), place.open("b").await.unwrap());
        for number in 0..3 {
            add(&writer, &number.to_string().repeat(100_000)).await.unwrap();
        }
        reader.ensure_fresh().await.unwrap();
        foreign(&reader.path()).execute_batch(write).unwrap();
        add(&writer, "next").await.unwrap();
        let count = |db: &Connection| db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        let expected = reader.read(count).await.unwrap();
        reader.ensure_fresh().await.unwrap();
        assert_eq!(rows(&reader).await, rows(&writer).await, "{write}");
        let kept = foreign(&reader.rescued().unwrap()[0].path.join("database.db"));
        assert_eq!(count(&kept).unwrap(), expected, "{write}");
        // Also where the reader itself is to write.
        foreign(&reader.path()).execute_batch(write).unwrap();
        add(&reader, "its own").await.unwrap();
        add(&writer, "after").await.unwrap();
        reader.ensure_fresh().await.unwrap();
        assert_eq!(rows(&reader).await, rows_in_home(&place).await, "{write}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_checkpoints_under_an_open_writer_take_nothing_away() {
    let place = Place::new();
    let (writer, reader) = (place.open("a").await.unwrap(), place.open("b").await.unwrap());
    add(&writer, "first").await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let checkpoints = ["PASSIVE", "RESTART", "TRUNCATE"].map(|how| {
        let (ended, path) = (Arc::clone(&ended), writer.path());
        std::thread::spawn(move || {
            let (db, mut done) = (Connection::open(path).unwrap(), 0);
            db.busy_timeout(Duration::ZERO).unwrap();
            while !ended.load(Relaxed) {
                let sql = format!("PRAGMA wal_checkpoint({how})");
                let busy = db.query_row(&sql, [], |row| row.get::<_, bool>(0));
                done += usize::from(busy.is_ok_and(|busy| !busy));
            }
            done
        })
    });
    let mut expected = vec!["first".to_owned()];
    for number in 0..60 {
        expected.push(number.to_string().repeat(2_000));
        add(&writer, expected.last().unwrap()).await.unwrap();
        reader.ensure_fresh().await.unwrap();
        assert_eq!(rows(&reader).await, expected);
    }
    ended.store(true, Relaxed);
    for checkpoint in checkpoints {
        assert!(checkpoint.join().unwrap() > 0);
    }
    assert_eq!(rows_in_home(&place).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_published_cannot_be_written_back_by_others() {
    let place = Place::new();
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    home.fail(1..100, Fault::Before(ErrorKind::Unavailable));
    assert!(matches!(add(&store, "second").await, Err(Error::Unpublished { .. })));
    let published = fs::read(store.path()).unwrap();
    let db = Connection::open(store.path()).unwrap();
    let checkpoint = |how: &str| {
        let sql = format!("PRAGMA wal_checkpoint({how})");
        db.query_row(&sql, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))).unwrap()
    };
    for how in ["PASSIVE", "TRUNCATE"] {
        let (frames, moved) = checkpoint(how);
        assert!(moved < frames, "{how}: {moved} of {frames}");
    }
    assert!(fs::read(store.path()).unwrap().len() >= published.len());
    home.heal();
    add(&store, "third").await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["first", "second", "third"]);
    let (frames, moved) = checkpoint("PASSIVE");
    assert_eq!(frames, moved, "the snapshot was released");
}

async fn pages(store: &DatabaseStore) -> i64 {
    let count = store.read(|db| db.query_row("PRAGMA page_count", [], |row| row.get(0)));
    count.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_shrink_the_database() {
    let place = Place::new();
    let (writer, reader) = (place.open("a").await.unwrap(), place.open("b").await.unwrap());
    writer.for_write(|db| db.execute_batch("PRAGMA auto_vacuum=INCREMENTAL")).await.unwrap();
    writer.vacuum().await.unwrap();
    for number in 0..4 {
        add(&writer, &number.to_string().repeat(100_000)).await.unwrap();
    }
    reader.ensure_fresh().await.unwrap();
    let before = pages(&writer).await;
    let shrink = |db: &Connection| {
        db.execute_batch("DELETE FROM t WHERE id > 1")?;
        // Each step moves a page.
        let mut vacuum = db.prepare("PRAGMA incremental_vacuum")?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    };
    writer.for_write(shrink).await.unwrap();
    reader.ensure_fresh().await.unwrap();
    assert!(pages(&writer).await < before / 2, "{before}");
    assert_eq!(pages(&reader).await, pages(&writer).await);
    let error = writer.for_write(|db| db.execute_batch("VACUUM")).await.unwrap_err();
    assert!(matches!(error, Error::Batch(_)), "it has a call of its own: {error}");
    add(&writer, "after").await.unwrap();
    reader.ensure_fresh().await.unwrap();
    assert_eq!(rows(&reader).await, rows_in_home(&place).await);
    assert_eq!(rows(&reader).await.len(), 2);
}

/// The sum of a database, as the protocol defines it.
fn checksum(file: &[u8], page_size: usize) -> u128 {
    let sum = |(number, page): (u32, &[u8])| {
        let hash = blake3::Hasher::new().update(&number.to_le_bytes()).update(page).finalize();
        u128::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())
    };
    (1..).zip(file.chunks(page_size)).map(sum).fold(0, |total, sum| total ^ sum)
}

/// Publishes the next generation with other pages, as another implementation may.
async fn publish_with_pages_of(size: u32, place: &Place, store: &DatabaseStore) {
    let path = place.cache("other.db");
    store.restore(3, &path).await.unwrap();
    let db = Connection::open(&path).unwrap();
    let change =
        format!("PRAGMA journal_mode=DELETE; PRAGMA page_size={size}; VACUUM; PRAGMA journal_mode=WAL");
    db.execute_batch(&change).unwrap();
    drop(db);
    let file = fs::read(&path).unwrap();
    let commit = format!("{:032x}", fastrand::u128(..));
    let (count, sum) = (file.len() / size as usize, format!("{:032x}", checksum(&file, size as usize)));
    fs::write(place.object("base", &format!("{:016x}-{commit}", 4)), file).unwrap();
    edit_head(place, |head| {
        head["parent"] = head["commit"].clone();
        head["base"] =
            serde_json::json!({ "generation": 4, "commit": commit, "page_count": count, "checksum": sum });
        head["commits"].as_array_mut().unwrap().push(serde_json::json!([commit, 0]));
        for (name, value) in [("generation", 4.into()), ("commit", commit.into()), ("page_size", size.into())]
        {
            head[name] = value;
        }
        (head["page_count"], head["checksum"]) = (count.into(), sum.into());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_page_size_in_the_home_needs_an_empty_cache() {
    let place = filled().await;
    let store = place.open("a").await.unwrap();
    let expected = rows(&store).await;
    publish_with_pages_of(8_192, &place, &store).await;
    let error = store.ensure_fresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("pages of 8192 bytes") && error.to_string().contains("empty cache"),
        "{error}"
    );
    assert_eq!((store.status().generation, rows(&store).await), (3, expected.clone()));
    assert_eq!(add(&store, "late").await.unwrap_err().kind(), ErrorKind::Unsupported);
    store.close().await.unwrap();

    let fresh = place.open("b").await.unwrap();
    assert_eq!(rows(&fresh).await, expected);
    add(&fresh, "after").await.unwrap();
    assert_eq!(fresh.read(|db| Ok(page_size(db))).await.unwrap(), 8_192);
    assert_eq!(fresh.status().generation, 5);
    assert_eq!(rows_in_home(&place).await, rows(&fresh).await);
}

/// Whether this process has SQLite's lock on a file, without which another process that closes it takes its log away. Closing
/// any other handle of the file drops it.
#[cfg(target_os = "linux")]
fn has_sqlites_lock(database: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (process, inode) = (std::process::id(), fs::metadata(database).unwrap().ino());
    fs::read_to_string("/proc/locks").unwrap().lines().any(|line| {
        let is_ours = line.split_whitespace().nth(4) == Some(process.to_string().as_str());
        line.contains("POSIX") && is_ours && line.contains(&format!(":{inode} "))
    })
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_store_does_loses_sqlites_lock_on_its_cache() {
    let place = Place::new();
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), place.holding("a")).await.unwrap();
    let database = store.path();
    let locked = |after: &str| assert!(has_sqlites_lock(&database), "it is lost after {after}");
    locked("opening");
    add(&store, "first").await.unwrap();
    locked("the first base");
    add(&store, "second").await.unwrap();
    locked("a segment");
    assert!(store.fold().await.unwrap());
    locked("folding");
    store.verify().await.unwrap();
    store.restore(1, &place.cache("restored.db")).await.unwrap();
    locked("rebuilding");
    store.vacuum().await.unwrap();
    locked("VACUUM");
    // A batch in whose place others have published is kept, and replaced.
    home.fail(1..1_000, Fault::Before(ErrorKind::Unavailable));
    add(&store, "overtaken").await.unwrap_err();
    fs::remove_file(place.home_path().join(".lease")).unwrap();
    let other = place.open("b").await.unwrap();
    add(&other, "elsewhere").await.unwrap();
    other.close().await.unwrap();
    home.heal();
    add(&store, "third").await.unwrap();
    locked("giving way");
    assert_eq!(store.rescued().unwrap().len(), 1);
    store.ensure_fresh().await.unwrap();
    locked("following");
    assert_eq!(rows_in_home(&place).await, ["first", "second", "elsewhere", "third"]);
}

/// A program that reads the cache now and then writes back its log when it closes, also while a store is being opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_beside_short_processes_costs_none_of_them_its_cache() {
    let place = Place::new();
    let (ends, database) = (Arc::new(AtomicBool::new(false)), place.cache("a").join("database.db"));
    let reader = {
        let ends = Arc::clone(&ends);
        let mut reader = std::process::Command::new(crate::kills::example("reads"))
            .arg(database)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("the example is built");
        std::thread::spawn(move || {
            while !ends.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            // It ends with its input.
            drop(reader.stdin.take());
            assert!(reader.wait().unwrap().success());
        })
    };
    for number in 0..60 {
        let ended = std::process::Command::new(crate::kills::example("once"))
            .arg(format!("sqlite+file://{}", place.home_path().display()))
            .arg(place.cache("a"))
            .arg(format!("{number:08}").repeat(1_500))
            .output()
            .expect("the example is built");
        assert!(ended.status.success(), "{number}: {}", String::from_utf8_lossy(&ended.stderr));
    }
    ends.store(true, Relaxed);
    reader.join().unwrap();
    assert_eq!(rows_in_home(&place).await.len(), 2 * 60);
}
