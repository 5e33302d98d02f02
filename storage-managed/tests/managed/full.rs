//! A full disk, at every step of a batch: of the cache, or of a home in a folder.

use std::{fs, path::Path, sync::Arc};

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options, home::FolderHome};
use storage_tests::SmallDisk;
use tempfile::TempDir;

use crate::{Place, add, copy_folder, rows, rows_in_home};

const KIB: u64 = 1024;

/// Runs a test on a small disk, by its own name.
fn on_disk(name: &str, bytes: u64, test: impl AsyncFnOnce(&SmallDisk)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    SmallDisk::run(bytes, &format!("full::{name}"), |disk| runtime.block_on(test(disk))).unwrap();
}

/// What was said of batches, while there was room and while there was none.
#[derive(Default)]
struct Model {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
    refused: usize,
}

impl Model {
    /// Adds a batch of several pages.
    async fn add(&mut self, store: &DatabaseStore, disk: &SmallDisk, number: usize) {
        let body = format!("{number} ").repeat(4_000);
        match add(store, &body).await {
            Ok(()) => self.acknowledged.push(body),
            Err(error) => {
                says_so(disk, &error);
                match error.kind() {
                    ErrorKind::OutcomeUnknown => self.unknown.push(body),
                    ErrorKind::Full | ErrorKind::Unavailable => self.refused += 1,
                    kind => panic!("{kind}: {error}"),
                }
            }
        }
    }

    fn check(&self, found: &[String], situation: &str) {
        for body in &self.acknowledged {
            assert!(found.contains(body), "{situation}: an acknowledged batch is lost");
        }
        let known = |body: &String| self.acknowledged.contains(body) || self.unknown.contains(body);
        assert!(found.iter().all(known), "{situation}: a refused batch is there");
    }
}

/// The error names what is wrong and what to do. (A limit on files has another error than a full disk.)
fn says_so(disk: &SmallDisk, error: &Error) {
    let said = error.to_string();
    let clear = ["No space left on device", "the disk of the cache is full"];
    assert!(!disk.is_mounted() || clear.iter().any(|words| said.contains(words)), "{said}");
    if disk.is_mounted() && !matches!(error, Error::Unpublished { .. } | Error::Pending { .. }) {
        let error = storage_core::Error::from(error.clone());
        assert_eq!(error.hint(), Some("make room on the disk of the cache"), "{error}");
    }
}

/// Nothing is left that takes room for nothing.
fn is_tidy(cache: &Path, situation: &str) {
    let names = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.ends_with(".tmp")).collect();
    assert!(left.is_empty(), "{situation}: {left:?}");
}

/// Adds while there is little room, and again when there is enough.
async fn write(store: &DatabaseStore, disk: &SmallDisk, leave: u64, model: &mut Model) {
    disk.fill(leave).unwrap();
    for number in 0..3 {
        model.add(store, disk, number).await;
    }
    disk.free().unwrap();
    let refused = model.refused;
    model.add(store, disk, 3).await;
    assert_eq!(model.refused, refused, "{leave}: there is room again");
    assert!(!store.status().dirty, "{leave}");
}

#[test]
fn a_full_cache_loses_nothing_from_the_first_batch_on() {
    on_disk("a_full_cache_loses_nothing_from_the_first_batch_on", 4_096 * KIB, async |disk| {
        let (mut refused, mut unknown, mut acknowledged) = (0, 0, 0);
        for leave in (0..160 * KIB).step_by(4_096) {
            let (place, cache) = (Place::new(), disk.path().join("cache"));
            let options = Options { cache: cache.clone(), ..place.options("a") };
            let store = DatabaseStore::open(place.home(), options.clone()).await.unwrap();
            let mut model = Model::default();
            write(&store, disk, leave, &mut model).await;
            is_tidy(&cache, &format!("{leave}"));
            let found = rows(&store).await;
            model.check(&found, &format!("{leave}"));
            store.close().await.unwrap();
            assert_eq!(rows_in_home(&place).await, found, "{leave}");
            let again = DatabaseStore::open(place.home(), options).await.unwrap();
            assert_eq!(rows(&again).await, found, "{leave}");
            again.close().await.unwrap();
            fs::remove_dir_all(cache).unwrap();
            (refused, unknown) = (refused + model.refused, unknown + model.unknown.len());
            acknowledged += usize::from(model.acknowledged.len() == 4);
        }
        assert!(refused > 0 && acknowledged > 0, "{refused} {acknowledged}");
        assert!(unknown > 0 || !disk.is_mounted(), "a first base that could not be staged");
    });
}

/// The log's frames.
fn frames(cache: &Path) -> u64 {
    fs::metadata(cache.join("database.db-wal")).unwrap().len() / 4_120
}

/// The index of the log grows by 32 KiB behind frame 4,062, after the frames were written.
#[test]
fn a_batch_that_finds_no_room_for_the_index_of_the_log_did_not_happen() {
    let name = "a_batch_that_finds_no_room_for_the_index_of_the_log_did_not_happen";
    on_disk(name, 64 * 1_024 * KIB, async |disk| {
        let before = Place::new();
        let options = |cache: &Path| Options {
            cache: cache.to_owned(),
            checkpoint_bytes: u64::MAX,
            ..before.options("unused")
        };
        let store = DatabaseStore::open(before.home(), options(&before.cache("a"))).await.unwrap();
        add(&store, &"x".repeat(3_990 * 4_096)).await.unwrap();
        while frames(&before.cache("a")) < 4_058 {
            add(&store, &"y".repeat(8_000)).await.unwrap();
        }
        store.close().await.unwrap();
        assert!(frames(&before.cache("a")) < 4_062);
        let mut failed = 0;
        for leave in (12 * KIB..64 * KIB).step_by(4_096) {
            let (place, cache) = (Place::new(), disk.path().join("cache"));
            copy_folder(&before.home_path(), &place.home_path());
            copy_folder(&before.cache("a"), &cache);
            let store = DatabaseStore::open(place.home(), options(&cache)).await.unwrap();
            let mut model = Model { acknowledged: rows(&store).await, ..Model::default() };
            disk.fill(leave).unwrap();
            model.add(&store, disk, 0).await;
            disk.free().unwrap();
            failed += model.refused;
            // As a process leaves it that dies here.
            let died = Place::new();
            copy_folder(&place.home_path(), &died.home_path());
            copy_folder(&cache, &died.cache("a"));
            let again = died.open("a").await.unwrap();
            model.check(&rows(&again).await, &format!("{leave}"));
            again.close().await.unwrap();
            model.add(&store, disk, 1).await;
            let found = rows(&store).await;
            assert!(found.last().is_some_and(|body| body.starts_with('1')), "{leave}");
            model.check(&found, &format!("{leave}"));
            store.close().await.unwrap();
            assert!(rows_in_home(&place).await == found, "{leave}");
            fs::remove_dir_all(cache).unwrap();
        }
        assert!(failed > 0);
    });
}

#[test]
fn a_reader_whose_cache_is_full_follows_once_there_is_room() {
    let name = "a_reader_whose_cache_is_full_follows_once_there_is_room";
    on_disk(name, 4_096 * KIB, async |disk| {
        let place = Place::new();
        let writer = place.open("writer").await.unwrap();
        add(&writer, "first").await.unwrap();
        let mut failed = 0;
        for leave in (0..96 * KIB).step_by(4_096) {
            let cache = disk.path().join("cache");
            let options = Options { cache: cache.clone(), ..place.options("a") };
            // Fetched as a whole, then a segment.
            disk.fill(leave).unwrap();
            let opened = DatabaseStore::open(place.home(), options.clone()).await;
            disk.free().unwrap();
            let reader = match opened {
                Ok(reader) => reader,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                    failed += 1;
                    DatabaseStore::open(place.home(), options.clone()).await.unwrap()
                }
            };
            let before = rows(&reader).await;
            add(&writer, &format!("{leave} ").repeat(2_000)).await.unwrap();
            disk.fill(leave).unwrap();
            if let Err(error) = reader.ensure_fresh().await {
                says_so(disk, &error);
                failed += 1;
                assert_eq!(rows(&reader).await, before, "{leave}");
            }
            disk.free().unwrap();
            reader.ensure_fresh().await.unwrap();
            assert_eq!(rows(&reader).await, rows(&writer).await, "{leave}");
            is_tidy(&cache, &format!("{leave}"));
            reader.close().await.unwrap();
            fs::remove_dir_all(cache).unwrap();
        }
        assert!(failed > 4, "{failed}");
    });
}

#[test]
fn a_full_home_loses_nothing_and_shows_nothing_by_half() {
    let name = "a_full_home_loses_nothing_and_shows_nothing_by_half";
    on_disk(name, 4_096 * KIB, async |disk| {
        let (mut unknown, mut acknowledged) = (0, 0);
        for leave in (0..160 * KIB).step_by(8_192) {
            let (place, caches) =
                (Place { folder: TempDir::new_in(disk.path()).unwrap() }, TempDir::new().unwrap());
            let options = Options { cache: caches.path().join("a"), ..place.options("a") };
            let home = Arc::new(FolderHome::new(place.home_path()));
            let store = DatabaseStore::open(home, options).await.unwrap();
            let mut model = Model::default();
            write(&store, disk, leave, &mut model).await;
            model.check(&rows(&store).await, &format!("{leave}"));
            assert_eq!(rows_in_home(&place).await, rows(&store).await, "{leave}");
            let drafts = place.home_path().join(".tmp");
            assert_eq!(fs::read_dir(drafts).map_or(0, Iterator::count), 0, "{leave}: drafts are left");
            unknown += model.unknown.len();
            acknowledged += usize::from(model.acknowledged.len() == 4);
        }
        assert!(acknowledged > 0, "{unknown}");
        // A limit on files is met in the cache first.
        assert!(unknown > 0 || !disk.is_mounted());
    });
}

#[test]
fn a_full_home_is_told_before_a_batch_finds_out() {
    on_disk("a_full_home_is_told_before_a_batch_finds_out", 4_096 * KIB, async |disk| {
        let (place, caches) =
            (Place { folder: TempDir::new_in(disk.path()).unwrap() }, TempDir::new().unwrap());
        for keeps_lease in [false, true] {
            let settings = if keeps_lease { place.holding("a") } else { place.options("a") };
            let options = Options { cache: caches.path().join("a"), ..settings };
            let home = Arc::new(FolderHome::new(place.home_path()));
            let store = DatabaseStore::open(home, options).await.unwrap();
            add(&store, "first").await.unwrap();
            store.check().await.unwrap();
            disk.fill(0).unwrap();
            let error = storage_core::Error::from(store.check().await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            if disk.is_mounted() {
                assert!(error.to_string().contains("No space left on device"), "{error}");
                let hint = "make room where the home is; what was acknowledged is there";
                assert_eq!(error.hint(), Some(hint), "{error}");
            }
            disk.free().unwrap();
            store.check().await.unwrap();
            assert_eq!(fs::read_dir(place.home_path().join(".tmp")).unwrap().count(), 0);
            store.close().await.unwrap();
        }
    });
}

#[test]
fn what_diverged_is_kept_once_there_is_room_and_folding_leaves_room() {
    let name = "what_diverged_is_kept_once_there_is_room_and_folding_leaves_room";
    on_disk(name, 4_096 * KIB, async |disk| {
        let (place, cache) = (Place::new(), disk.path().join("cache"));
        let options = Options { cache: cache.clone(), ..place.options("a") };
        let store = DatabaseStore::open(place.home(), options.clone()).await.unwrap();
        for number in 0..5 {
            add(&store, &format!("{number} ").repeat(10_000)).await.unwrap();
        }
        disk.fill(40 * KIB).unwrap();
        assert!(store.fold().await.is_err() || !disk.is_mounted());
        is_tidy(&cache, "after folding");
        // More than SQLite holds back until the commit: it gives up in the middle of the batch.
        let before = rows(&store).await;
        let error = add(&store, &"x".repeat(3_000_000)).await.unwrap_err();
        says_so(disk, &error);
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(rows(&store).await == before);
        disk.free().unwrap();
        assert!(store.fold().await.unwrap() || !disk.is_mounted());
        let expected = rows(&store).await;
        store.close().await.unwrap();

        let foreign = rusqlite::Connection::open(cache.join("database.db")).unwrap();
        foreign.execute_batch("INSERT INTO t (body) VALUES ('foreign')").unwrap();
        drop(foreign);
        disk.fill(40 * KIB).unwrap();
        let error = DatabaseStore::open(place.home(), options.clone()).await.unwrap_err();
        says_so(disk, &error);
        assert_eq!(fs::read_dir(cache.join("rescue")).unwrap().count(), 0, "a part would take room");
        disk.free().unwrap();
        let error = DatabaseStore::open(place.home(), options).await.unwrap_err();
        let Error::Diverged { path } = error else { panic!("{error}") };
        let kept = rusqlite::Connection::open(path.join("database.db")).unwrap();
        assert_eq!(crate::rows_of(&kept).unwrap().len(), expected.len() + 1);
        assert_eq!(rows_in_home(&place).await, expected);
    });
}
