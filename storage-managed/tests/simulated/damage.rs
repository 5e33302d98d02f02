//! Objects of a home that are not what was written: refused by name, or without consequence, and never made worse.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use rusqlite::Connection;
use storage_managed::{DatabaseStore, Error, Options, home::FolderHome};
use storage_tests::{simulated_damages, simulated_seed};
use tempfile::TempDir;

use crate::world::folder;

const AT_ONCE: u64 = 6;
const HEAD: &str = "head";

type Rows = Vec<(i64, String)>;
type Objects = BTreeMap<String, Vec<u8>>;

/// A published database, and what it holds.
struct Published {
    folder: TempDir,
    rows: Rows,
}

fn options(cache: PathBuf, grace: Duration) -> Options {
    Options {
        freshness: Duration::ZERO,
        lease_idle: Duration::from_millis(5),
        readers: 1,
        merge_segments: 1_000,
        fold_bytes: u64::MAX,
        grace,
        ..Options::new(cache)
    }
}

/// Long enough for nothing to be removed.
const KEEPS: Duration = Duration::from_secs(48 * 3_600);

async fn open(home: &Path, cache: PathBuf, grace: Duration) -> Result<DatabaseStore, Error> {
    DatabaseStore::open(Arc::new(FolderHome::new(home)), options(cache, grace)).await
}

fn read(db: &Connection) -> rusqlite::Result<Rows> {
    let rows = "SELECT id, body FROM t ORDER BY id";
    db.prepare(rows)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

async fn write(store: &DatabaseStore, body: String) -> Result<(), Error> {
    let batch = move |db: &Connection| {
        db.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT)")?;
        db.execute("INSERT INTO t (body) VALUES (?1)", [body]).map(drop)
    };
    store.for_write(batch).await
}

/// Several bases, the segments of several generations, and a cache that is behind.
async fn published() -> Published {
    let folder = folder();
    let (home, cache) = (folder.path().join("home"), folder.path().join("cache"));
    let store = open(&home, cache.clone(), KEEPS).await.unwrap();
    for number in 1..=9 {
        write(&store, number.to_string().repeat(1_500)).await.unwrap();
        if number % 3 == 0 && number < 9 {
            store.fold().await.unwrap();
        }
        // One that leads on from the second base, and one that begins before the third.
        if number == 5 || number == 8 {
            assert!(store.merge().await.unwrap());
        }
        if number == 7 {
            let behind = open(&home, folder.path().join("behind"), KEEPS).await.unwrap();
            behind.close().await.unwrap();
        }
    }
    let rows = store.read(read).await.unwrap();
    store.close().await.unwrap();
    Published { folder, rows }
}

/// The objects of a home; what begins with a dot is the home's own.
fn objects(home: &Path) -> Objects {
    let mut found = Objects::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(home.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                _ if entry.file_name().to_str().unwrap().starts_with('.') => {}
                true => folders.push(format!("{name}/")),
                false => drop(found.insert(name, fs::read(entry.path()).unwrap())),
            }
        }
    }
    found
}

/// Makes a folder's files those, and no others.
fn bring_back(home: &Path, objects: &Objects) {
    let there = self::objects(home);
    for name in there.keys().filter(|name| !objects.contains_key(*name)) {
        fs::remove_file(home.join(name)).unwrap();
    }
    for (name, content) in objects.iter().filter(|(name, content)| there.get(*name) != Some(content)) {
        fs::create_dir_all(home.join(name).parent().unwrap()).unwrap();
        fs::write(home.join(name), content).unwrap();
    }
}

/// What became of an object; never its own content.
fn damaged(objects: &Objects, name: &str, rng: &mut Rng) -> (&'static str, Vec<u8>) {
    let whole = &objects[name];
    let (what, content) = match rng.u8(0..5) {
        0 => ("one bit is another", {
            let mut content = whole.clone();
            content[rng.usize(0..whole.len())] ^= 1 << rng.u8(0..8);
            content
        }),
        1 => ("it is cut", whole[..rng.usize(1..whole.len())].to_vec()),
        2 => ("it is longer", {
            let more = rng.usize(1..5_000);
            whole.iter().copied().chain((0..more).map(|_| rng.u8(..))).collect()
        }),
        3 => ("it has another's content", rng.choice(objects.values()).unwrap().clone()),
        _ => ("it is empty", Vec::new()),
    };
    if content == *whole { ("it is empty", Vec::new()) } else { (what, content) }
}

/// Refusals that name what is wrong.
fn refused<T>(done: Result<T, Error>, name: &str, what: &str) -> Option<T> {
    match done {
        Ok(done) => Some(done),
        Err(Error::Corrupt { object, .. }) if object == name || object == HEAD => None,
        Err(error) => panic!("{what}: {error:?}"),
    }
}

/// What a case does with the database once it is open, and whether it may have folded.
async fn use_it(
    published: &Published,
    store: &DatabaseStore,
    (name, what): (&str, &str),
    rng: &mut Rng,
) -> bool {
    let mut expected = published.rows.clone();
    assert_eq!(store.read(read).await.unwrap(), expected, "{what}: it is read");
    if rng.bool() {
        if refused(write(store, "more".to_owned()).await, name, what).is_some() {
            expected.push((expected.len() as i64 + 1, "more".to_owned()));
        }
        assert_eq!(store.read(read).await.unwrap(), expected, "{what}: it was written to");
    }
    let folded = rng.u8(0..4) == 0 && refused(store.fold().await, name, what).is_some();
    if rng.bool() || folded {
        let verified = refused(store.verify().await, name, what);
        assert!(verified.is_some() || !folded, "{what}: what was folded is whole");
    }
    folded
}

/// One object is damaged, and an earlier generation restored. Of a base nobody but what is built on it knows the checksum, so
/// that it may be what stands on it that is named.
async fn restored(published: &Published, home: &Path, originals: &Objects, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let names: Vec<&String> = originals.keys().filter(|name| *name != HEAD).collect();
    let (name, generation) = (rng.choice(names).unwrap(), rng.u64(1..=9));
    let (damage, content) = damaged(originals, name, &mut rng);
    let what = format!("case {seed}: of {name} {damage}, generation {generation} is restored");
    fs::write(home.join(name), &content).unwrap();
    let cache = home.with_file_name(format!("cache{seed}"));
    copy_files(&published.folder.path().join("cache"), &cache);
    let store = open(home, cache.clone(), KEEPS).await.unwrap();
    let to = cache.join("restored");
    match store.restore(generation, &to).await {
        Ok(_) => {
            let rows = read(&Connection::open(&to).unwrap()).unwrap();
            let is_right = rows == published.rows[..usize::try_from(generation).unwrap()];
            assert!(is_right, "{what}: with {} rows, or other ones", rows.len());
        }
        Err(Error::Corrupt { object, .. }) => assert!(originals.contains_key(&object), "{what}: {object}"),
        Err(error) => panic!("{what}: {error:?}"),
    }
    store.close().await.unwrap();
    fs::remove_dir_all(cache).unwrap();
    bring_back(home, originals);
}

/// One object is damaged, and the database opened, by who has nothing or by who is behind.
async fn opened(published: &Published, home: &Path, originals: &Objects, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let names: Vec<&String> = originals.keys().collect();
    // The head is one of many objects, and the one that matters most.
    let name = if rng.u8(0..4) == 0 { HEAD } else { rng.choice(names).unwrap() };
    let (damage, content) = damaged(originals, name, &mut rng);
    let is_behind = rng.u8(0..4) == 0;
    let grace = if rng.bool() { Duration::ZERO } else { KEEPS };
    let what = format!("case {seed}: of {name} {damage}, behind: {is_behind}, {grace:?}");
    fs::write(home.join(name), &content).unwrap();
    let cache = home.with_file_name(format!("cache{seed}"));
    if is_behind {
        copy_files(&published.folder.path().join("behind"), &cache);
    }
    let mut folded = false;
    if let Some(store) = refused(open(home, cache.clone(), grace).await, name, &what) {
        folded = use_it(published, &store, (name, &what), &mut rng).await;
        store.close().await.unwrap();
    }
    let after = objects(home);
    for (object, original) in originals {
        match after.get(object) {
            Some(found) if object == name => assert!(*found == content || name == HEAD, "{what}"),
            Some(found) => assert!(found == original || object == HEAD, "{what}: {object} has changed"),
            // What a fold superseded may go.
            None => assert!(folded && object != HEAD, "{what}: {object} was deleted"),
        }
    }
    fs::remove_dir_all(cache).unwrap();
    bring_back(home, originals);
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Runs so many cases, each from its seed.
fn on_each(count: usize, test: &str, case: impl AsyncFn(&Published, &Path, &Objects, u64) + Sync) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let published = runtime().block_on(published());
    let originals = objects(&published.folder.path().join("home"));
    assert!(originals.len() > 4, "{:?}", originals.keys());
    let (first, count) = simulated_seed().map_or((1, count as u64), |seed| (seed, 1));
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (published, originals, next, failed, case) = (&published, &originals, &next, &failed, &case);
            scope.spawn(move || {
                let home = published.folder.path().join(format!("worker{worker}/home"));
                fs::create_dir_all(&home).unwrap();
                bring_back(&home, originals);
                let runtime = runtime();
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= first + count || !failed.lock().unwrap().is_empty() {
                        break;
                    }
                    // A case that fails says which it is.
                    let run = || runtime.block_on(case(published, &home, originals, seed));
                    if catch_unwind(AssertUnwindSafe(run)).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let again = "cargo test -p storage-managed --test simulated";
    let seeds = failed.iter().map(|seed| format!("STORAGE_TEST_SIMULATED_SEED={seed} {again} {test}"));
    assert!(failed.is_empty(), "again: {}", seeds.collect::<Vec<_>>().join("; "));
}

#[test]
fn damaged_objects_are_refused_by_name_or_harmless_and_nothing_is_deleted() {
    on_each(simulated_damages(10_000), "damaged", opened);
}

#[test]
fn a_restored_generation_is_what_it_was_or_refused() {
    on_each(simulated_damages(10_000) / 10, "restored", restored);
}
