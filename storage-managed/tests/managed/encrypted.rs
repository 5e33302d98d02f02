//! Databases whose home is encrypted.

use std::{fs, path::Path, sync::Arc, time::Duration};

use storage_core::ErrorKind;
use storage_managed::{
    DatabaseStore, Error, Options,
    home::{EncryptedHome, FolderHome, Home, Keys},
    repair,
};

use crate::{Faulty, Place, add, faulty::Fault, rows, rows_of};

/// What no object may show. The pages of a base are not compressed, those of a segment are.
const KNOWN: &str = "a sentence that everybody can read and nobody should";

fn behind(home: Arc<dyn Home>, ring: &str) -> Arc<dyn Home> {
    Arc::new(EncryptedHome::new(home, Keys::parse(ring).unwrap()))
}

fn plain(place: &Place) -> Arc<dyn Home> {
    Arc::new(FolderHome::new(place.home_path()))
}

async fn open(place: &Place, ring: &str, cache: &str) -> storage_managed::Result<DatabaseStore> {
    DatabaseStore::open(behind(plain(place), ring), place.options(cache)).await
}

/// Some MB of rows that do not compress, each with the sentence.
async fn fill(store: &DatabaseStore, rows: usize, seed: u64) {
    store
        .for_write(move |db| {
            db.execute_batch(crate::TABLE)?;
            let mut random = fastrand::Rng::with_seed(seed);
            let mut insert = db.prepare("INSERT INTO t (body) VALUES (?1)")?;
            for _ in 0..rows {
                let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(900).collect();
                insert.execute([format!("{KNOWN} {noise}")])?;
            }
            Ok(())
        })
        .await
        .unwrap();
}

/// All files of a folder, with their content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap())),
        }
    }
    found
}

fn shows(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

fn assert_nothing_is_shown(place: &Place) {
    let objects: Vec<_> =
        files(&place.home_path()).into_iter().filter(|(name, _)| !name.contains("/home/.")).collect();
    assert!(objects.len() > 2, "{}", objects.len());
    for (name, bytes) in objects {
        assert!(bytes.starts_with(b"agentenc"), "{name}");
        for told in [KNOWN, "SQLite format", "CREATE TABLE", "agentseg", "incarnation", "checksum"] {
            assert!(!shows(&bytes, told), "{name} shows {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_megabytes_travels_and_shows_nothing() {
    let (place, ring) = (Place::new(), Keys::generate("2026a").unwrap());
    let options = Options { merge_segments: 1_000, fold_bytes: u64::MAX, ..place.options("a") };
    let store = DatabaseStore::open(behind(plain(&place), &ring), options).await.unwrap();
    fill(&store, 3_000, 1).await;
    fill(&store, 1_500, 2).await;
    let cache = files(&place.cache("a"));
    assert!(cache.iter().any(|(_, bytes)| shows(bytes, KNOWN)), "the cache is not encrypted");
    let written = rows(&store).await;
    let reader = open(&place, &ring, "b").await.unwrap();
    assert!(rows(&reader).await == written);
    add(&store, "one more").await.unwrap();
    assert_eq!(reader.ensure_fresh().await.unwrap(), 3);

    assert!(store.fold().await.unwrap());
    assert_eq!(place.objects("base").len(), 2);
    assert_nothing_is_shown(&place);
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.generation, verified.objects), (3, 1));
    let listed = store.history().await.unwrap();
    let restored = place.cache("restored.db");
    for (generation, count) in [(3, 4_501), (2, 4_500), (1, 3_000)] {
        assert!(listed.iter().any(|listed| listed.generation == generation));
        let _ = fs::remove_file(&restored);
        store.restore(generation, &restored).await.unwrap();
        let db = rusqlite::Connection::open(&restored).unwrap();
        assert_eq!(rows_of(&db).unwrap().len(), count);
    }
    store.close().await.unwrap();

    let leftovers = files(&place.cache("a"));
    assert!(leftovers.iter().all(|(name, _)| !name.ends_with(".tmp")), "{:?}", leftovers.len());
    let late = open(&place, &ring, "c").await.unwrap();
    assert_eq!(rows(&late).await.len(), 4_501);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_is_gone_on_with() {
    let (place, ring) = (Place::new(), Keys::generate("2026a").unwrap());
    let store = open(&place, &ring, "a").await.unwrap();
    fill(&store, 1_000, 1).await;
    store.close().await.unwrap();
    // Each resumption begins with the chunk of the last byte that is here: two have to come.
    for after in [76 + 2 * 65_552, 76 + 2 * 65_552 + 1, 200_003, 300_001] {
        let home = Faulty::new(plain(&place));
        home.break_reads(after);
        let cache = format!("b{after}");
        let reader = DatabaseStore::open(behind(home.clone(), &ring), place.options(&cache)).await.unwrap();
        assert_eq!(rows(&reader).await.len(), 1_000);
        let reads = home.take_log().iter().filter(|request| request.starts_with("read base/")).count();
        assert!(reads >= 3, "after {after} bytes: {reads} reads");
    }
}

/// The second try is encrypted under another nonce: what is there is compared as plaintext.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled() {
    let (place, ring) = (Place::new(), Keys::generate("2026a").unwrap());
    let home = Faulty::new(plain(&place));
    let store = DatabaseStore::open(behind(home.clone(), &ring), place.holding("a")).await.unwrap();
    add(&store, "0").await.unwrap();
    for request in 0..3 {
        home.fail([request], Fault::After(ErrorKind::OutcomeUnknown));
        add(&store, &format!("{}", request + 1)).await.unwrap();
        home.heal();
    }
    assert_eq!(rows(&store).await, ["0", "1", "2", "3"]);
    assert_eq!(rows(&open(&place, &ring, "b").await.unwrap()).await, ["0", "1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_asked_for_and_wrong_ones_named() {
    let (place, ring) = (Place::new(), Keys::generate("2026a").unwrap());
    let store = open(&place, &ring, "a").await.unwrap();
    add(&store, "1").await.unwrap();
    store.close().await.unwrap();
    let told = |error: Error| (error.kind(), storage_core::Error::from(error).to_string());

    let (kind, text) = told(DatabaseStore::open(plain(&place), place.options("b")).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Config, "{text}");
    for name in ["encrypted", "STORAGE_MANAGED_KEYS", "STORAGE_MANAGED_KEY_FILE"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let other = Keys::generate("2027").unwrap();
    let (kind, text) = told(open(&place, &other, "c").await.unwrap_err());
    assert!(kind == ErrorKind::Config && text.contains("`head`") && text.contains("`2026a`"), "{text}");
    let wrong = Keys::generate("2026a").unwrap();
    let (kind, text) = told(open(&place, &wrong, "d").await.unwrap_err());
    assert!(kind == ErrorKind::Config && text.contains("another one"), "{text}");
    assert!(![&ring, &other, &wrong].iter().any(|key| text.contains(&key[7..])), "{text}");
    // Nobody has written over what they could not read.
    assert_eq!(rows(&open(&place, &ring, "e").await.unwrap()).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_not_encrypted_is_refused_unless_it_is_empty() {
    let (place, ring) = (Place::new(), Keys::generate("2026a").unwrap());
    let store = place.open("a").await.unwrap();
    add(&store, "1").await.unwrap();
    store.close().await.unwrap();
    let error = open(&place, &ring, "b").await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { object, .. } if object == "head"), "{error}");
    assert!(error.to_string().contains("not encrypted"), "{error}");
    assert!(error.to_string().contains("STORAGE_MANAGED_KEYS"), "{error}");
    let empty = Place::new();
    fs::create_dir_all(empty.home_path()).unwrap();
    add(&open(&empty, &ring, "a").await.unwrap(), "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_refused_by_the_objects_name() {
    let (place, ring) = (Place::new(), Keys::generate("2026a").unwrap());
    let store = open(&place, &ring, "a").await.unwrap();
    fill(&store, 300, 1).await;
    add(&store, "2").await.unwrap();
    store.close().await.unwrap();
    for kind in ["base", "seg"] {
        let name = place.objects(kind).pop().unwrap();
        let path = place.object(kind, &name);
        let sound = fs::read(&path).unwrap();
        for at in [sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            let error = open(&place, &ring, &format!("{kind}{at}")).await.unwrap_err();
            let object = format!("{kind}/{name}");
            assert!(matches!(&error, Error::Corrupt { object: named, .. } if *named == object), "{error}");
        }
        fs::write(&path, sound).unwrap();
    }
    assert_eq!(rows(&open(&place, &ring, "whole").await.unwrap()).await.len(), 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_the_old_key_is_needed_until_what_it_encrypted_is_gone() {
    let (place, old) = (Place::new(), Keys::generate("2026a").unwrap());
    let store = open(&place, &old, "a").await.unwrap();
    add(&store, "1").await.unwrap();
    add(&store, "2").await.unwrap();
    store.close().await.unwrap();

    let new = Keys::generate("2026b").unwrap();
    let options = Options { grace: Duration::ZERO, ..place.options("a") };
    let home = behind(plain(&place), &format!("{new},{old}"));
    let store = DatabaseStore::open(home, options).await.unwrap();
    add(&store, "3").await.unwrap();
    let error = open(&place, &new, "b").await.unwrap_err().to_string();
    assert!(error.contains("`2026a`"), "the base is of the old key: {error}");
    assert!(store.fold().await.unwrap());
    store.close().await.unwrap();
    let again = open(&place, &new, "c").await.unwrap();
    assert_eq!(rows(&again).await, ["1", "2", "3"]);
    again.verify().await.unwrap();
}

/// Without its head nothing tells that a home is encrypted but each object.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_for_want_of_a_key_says_so() {
    let (place, ring) = (Place::new(), Keys::generate("2026a").unwrap());
    let store = open(&place, &ring, "a").await.unwrap();
    for body in ["1", "2", "3"] {
        add(&store, body).await.unwrap();
    }
    store.close().await.unwrap();
    fs::remove_file(place.home_path().join("head")).unwrap();
    let found = repair(plain(&place), place.options("b")).await.unwrap();
    let problems: Vec<String> = found.damage.iter().map(|damage| format!("{damage:?}")).collect();
    assert!(problems.iter().any(|problem| problem.contains("encrypted, and no key is set")), "{problems:?}");
    drop(found);
    let found = repair(behind(plain(&place), &ring), place.options("c")).await.unwrap();
    assert_eq!(found.sound.as_ref().unwrap().generation, 3);
}
