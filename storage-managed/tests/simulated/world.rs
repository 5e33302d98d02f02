//! One schedule: a cloud, a few machines that work on one database at once, and what must be true of it in the end.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Error, Options, RetryPolicy};
use tempfile::TempDir;

use crate::{
    client::SimulatedHome,
    clock::Clock,
    cloud::{Cloud, Weather},
    ledger::{Content, Ledger, Tally},
    service::Flavor,
};

/// How often what the schedule puts in its own way is tried again.
const PATIENCE: u32 = 400;

pub(crate) struct World {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) ledger: Ledger,
    pub(crate) seed: u64,
    folder: TempDir,
    /// The settings that all machines share.
    options: Options,
    /// Copies of caches that nobody has opened yet.
    pub(crate) copies: Arc<Mutex<Vec<PathBuf>>>,
    /// Every cache that there ever was.
    caches: Mutex<Vec<PathBuf>>,
    wrong: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, rng: &mut Rng) -> Arc<Self> {
        let flavor = [Flavor::S3, Flavor::Azure, Flavor::Gcs][rng.usize(0..3)];
        // Azure's leases are of a quarter of a minute at least.
        let rate = if flavor == Flavor::Azure { 400 } else { [20, 200, 400][rng.usize(0..3)] };
        let clock = Clock::new(rate);
        let weather = if rng.u8(0..5) == 0 { Weather::default() } else { Weather::drawn(rng) };
        let cloud = Cloud::new(flavor, clock.clone(), seed, weather);
        let options = options(&clock, rate, rng);
        Arc::new(Self {
            cloud,
            ledger: Ledger::default(),
            seed,
            folder: folder(),
            options,
            copies: Arc::default(),
            caches: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    /// A cache folder that no machine has.
    pub(crate) fn new_cache(&self, kind: &str) -> PathBuf {
        let mut caches = self.caches.lock().unwrap();
        let path = self.folder.path().join(format!("{kind}{}", caches.len()));
        caches.push(path.clone());
        path
    }

    pub(crate) fn options(&self, cache: &Path) -> Options {
        Options { cache: cache.to_owned(), owner: "a machine".to_owned(), ..self.options.clone() }
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) {
        let what = what.into();
        self.cloud.note(format!("WRONG: {what}"));
        self.wrong.lock().unwrap().push(what);
    }

    pub(crate) fn is_wrong(&self) -> bool {
        !self.wrong.lock().unwrap().is_empty()
    }

    /// Errors that bad weather, others and closing explain. Nothing else that the machines do deserves one: a copied cache has
    /// batches that its original has too, or that give way to somebody else's.
    pub(crate) fn allows(&self, error: &Error) -> bool {
        match error {
            Error::Home(error) => matches!(
                error.kind(),
                ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown | ErrorKind::Conflict
            ),
            Error::Unpublished { .. }
            | Error::Pending { .. }
            | Error::Overtaken { .. }
            | Error::LeaseTaken { .. }
            | Error::CacheInUse { .. }
            | Error::Closed => true,
            _ => false,
        }
    }

    /// Opens a cache, however often it takes; `None` where that fails otherwise than by bad luck.
    pub(crate) async fn open(&self, home: &Arc<SimulatedHome>, cache: &Path) -> Option<DatabaseStore> {
        let mut last = None;
        for _ in 0..PATIENCE {
            match DatabaseStore::open(home.clone(), self.options(cache)).await {
                Ok(store) => return Some(store),
                Err(error) if self.allows(&error) && !home.is_dead() => last = Some(error),
                Err(error) => {
                    last = Some(error);
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if !home.is_dead() {
            self.wrong(format!("{} cannot open {}: {last:?}", home.who, cache.display()));
        }
        None
    }

    /// What every machine comes to once all goes well.
    pub(crate) async fn settle(&self) {
        let caches = self.caches.lock().unwrap().clone();
        for (index, cache) in caches.iter().filter(|cache| cache.is_dir()).enumerate() {
            let home = SimulatedHome::new(&self.cloud, format!("last{index}"));
            let Some(store) = self.open(&home, cache).await else { return };
            if !self.writes(&store, &home.who).await {
                return;
            }
            if let Err(error) = store.close().await {
                self.wrong(format!("{} cannot close in fair weather: {error}", home.who));
            }
        }
    }

    /// In fair weather everybody can write, be it when somebody else's lease has ended.
    async fn writes(&self, store: &DatabaseStore, who: &str) -> bool {
        let mut last = None;
        for _ in 0..PATIENCE {
            let number = self.ledger.begin(who);
            let done = store.for_write(move |db| crate::ledger::insert(db, number, 0)).await;
            self.ledger.end(number, &done);
            match done {
                Ok(()) => return true,
                Err(error) if self.allows(&error) => last = Some(error),
                Err(error) => {
                    last = Some(error);
                    break;
                }
            }
            self.cloud.clock.jump(Duration::from_secs(20));
        }
        self.wrong(format!("{who} cannot write in fair weather: {last:?}"));
        false
    }

    /// What the home holds, by itself.
    pub(crate) async fn judge(&self) {
        let home = SimulatedHome::new(&self.cloud, "judge".to_owned());
        let cache = self.folder.path().join("judge");
        let Some(store) = self.open(&home, &cache).await else { return };
        match store.read(Content::read).await {
            Ok(content) => self.ledger.judge(&content).into_iter().for_each(|wrong| self.wrong(wrong)),
            Err(error) => self.wrong(format!("what the home holds cannot be read: {error}")),
        }
        match store.verify().await {
            Ok(verified) if verified.generation >= self.ledger.highest() => {}
            Ok(verified) => self.wrong(format!("{verified:?} is not the newest that was seen")),
            Err(error) => self.wrong(format!("what the home holds is not sound: {error}")),
        }
        if let Err(error) = store.close().await {
            self.wrong(format!("the judge cannot close: {error}"));
        }
    }

    pub(crate) fn report(&self) -> Result<Tally, String> {
        let wrong = self.wrong.lock().unwrap();
        if wrong.is_empty() {
            let copied = |cache: &&PathBuf| {
                let name = cache.file_name().map(|name| name.to_string_lossy().into_owned());
                cache.is_dir() && name.is_some_and(|name| name.starts_with("copy"))
            };
            let copied = self.caches.lock().unwrap().iter().filter(copied).count();
            return Ok(Tally { copied, ..self.ledger.tally() });
        }
        Err(format!(
            "history of schedule {seed}:\n{}\nbatches:\n{}\nwith {:?} and {:?}\nwrong in schedule {seed}:\n{}\n\
             again: STORAGE_TEST_SIMULATED_SEED={seed} cargo test -p storage-managed --test simulated schedules",
            self.cloud.history(),
            self.ledger.shown(),
            self.options,
            self.cloud,
            wrong.join("\n"),
            seed = self.seed,
        ))
    }
}

/// Where files are quick.
pub(crate) fn folder() -> TempDir {
    let made = match Path::new("/dev/shm") {
        memory if memory.is_dir() => tempfile::tempdir_in(memory),
        _ => tempfile::tempdir(),
    };
    made.unwrap()
}

/// Settings under which everything happens often.
fn options(clock: &Clock, rate: u32, rng: &mut Rng) -> Options {
    let mut choose = |among: &[u64]| among[rng.usize(0..among.len())];
    let millis = Duration::from_millis;
    Options {
        freshness: Duration::ZERO,
        retry: RetryPolicy {
            attempts: u32::try_from(choose(&[1, 2, 4])).unwrap(),
            pause: Duration::from_micros(200),
            cap: millis(1),
        },
        // By the fast clock, unlike the times that are waited for.
        lease_term: millis(choose(&[10, 30, 75]) * u64::from(rate).min(200)),
        lease_wait: millis(choose(&[1, 30, 200])),
        lease_idle: millis(choose(&[1, 8, 20])),
        lease_share: Duration::from_secs(choose(&[1, 60, 3_600])),
        readers: 2,
        checkpoint_bytes: choose(&[1, 20_000, 1_000_000]),
        merge_segments: usize::try_from(choose(&[3, 3, 1_000])).unwrap(),
        merge_fan_out: usize::try_from(choose(&[2, 3])).unwrap(),
        fold_share: choose(&[0, 1]) as f64,
        fold_bytes: 1,
        grace: millis(choose(&[0, 1_000, 3_600_000])),
        cache_wait: millis(20),
        clock: Arc::new(clock.clone()),
        steady: clock.steady(),
        ..Options::new("unused")
    }
}
