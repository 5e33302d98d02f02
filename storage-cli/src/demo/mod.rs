//! `storage demo`: a buyer's and a seller's day on sample data, on any store.

mod buyer;
mod narrator;
mod sample;
mod seller;
mod storage;
mod together;

use serde_json::json;
use storage_factory::{Settings, get_storage_backend};
use tempfile::TempDir;

use self::{narrator::Narrator, sample::Sample, storage::Storage};
use crate::{
    failure::{DONE, Failure, Result, STORE},
    output::{Output, counted},
    store::is_configured,
};

const NEXT: &str = "\
The same day on other stores, with no change of code:
  storage demo --database-url sqlite:///my.db
  storage demo --redis-url redis://localhost:6379/0
  storage demo --database-url postgresql://user:password@localhost/database
  storage demo --type hybrid --database-url postgresql://… --redis-url redis://…
Redis, Postgres and hybrid need a build with --features production.";

/// Plays the day, and removes what it wrote, also when it fails or is interrupted.
pub(crate) async fn run(settings: Settings, out: &mut Output) -> Result<u8> {
    let place = Place::choose(settings)?;
    let storage = get_storage_backend(&place.settings)?;
    storage.connect().await?;
    let sample = Sample::new(&place.run)?;
    let mut narrator = Narrator::new(out);
    narrator.open(&format!("A buyer's and a seller's day on {} ({}).", storage.name(), place.described))?;
    let played = tokio::select! {
        played = play(&storage, &sample, &mut narrator) => played,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted("interrupted")),
    };
    let removed = remove(&storage, &sample, played.is_err()).await;
    played.map_err(|failure| match &removed {
        Ok(_) => failure.after("what the demo wrote is removed"),
        Err(_) => failure.after("what the demo wrote could not be removed"),
    })?;
    let deleted = removed?;
    let entries = counted(deleted, "entry", "entries");
    let document = json!({"backend": storage.name(), "steps": narrator.steps(), "deleted": deleted});
    out.answer(&document, format_args!("\nDone. {entries} deleted; nothing is left behind.\n\n{NEXT}"))?;
    Ok(DONE)
}

/// Deletes what the demo wrote, and closes the store; returns how many entries there were.
async fn remove(storage: &Storage, sample: &Sample, cut_short: bool) -> storage_core::Result<u64> {
    if cut_short {
        // Waits for writes under way, so that none comes after the deletion.
        storage.disconnect().await?;
        storage.connect().await?;
    }
    let deleted = storage.delete_many(&sample.keys()).await;
    storage.disconnect().await?;
    deleted
}

async fn play(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    seller::catalogue(storage, sample, narrator).await?;
    buyer::campaign(storage, sample, narrator).await?;
    seller::quotes(storage, sample, narrator).await?;
    seller::negotiation(storage, sample, narrator).await?;
    buyer::deals(storage, sample, narrator).await?;
    together::one_approval(storage, sample, narrator).await?;
    seller::change_requests(storage, sample, narrator).await?;
    together::sessions(storage, sample, narrator).await?;
    together::impressions(storage, sample, narrator).await?;
    buyer::evening(storage, sample, narrator).await?;
    buyer::export(storage, sample, narrator).await
}

/// Where the day takes place.
struct Place {
    settings: Settings,
    /// What all ids of this run start with.
    run: String,
    described: &'static str,
    /// Gone with everything in it when the demo ends.
    _folder: Option<TempDir>,
}

impl Place {
    /// The store that is set, where the demo keeps apart from what is there; else a private SQLite file.
    fn choose(settings: Settings) -> Result<Self> {
        if is_configured(&settings) {
            let run = format!("demo-{:08x}", fastrand::u32(..));
            return Ok(Self { settings, run, described: "the store that is set", _folder: None });
        }
        let folder = tempfile::Builder::new().prefix("storage-demo-").tempdir();
        let folder = folder.map_err(|error| {
            Failure::new(STORE, "temporary_folder", format!("no temporary folder can be made: {error}"))
        })?;
        // As a bare path: in a URL some characters would mean something else.
        let file = folder.path().join("demo.db").display().to_string();
        let sqlite = settings.clone().with("STORAGE_TYPE", "sqlite")?.with("DATABASE_URL", file)?;
        let (settings, described) = match get_storage_backend(&sqlite) {
            Ok(_) => (sqlite, "a private file that goes away at the end"),
            Err(_) => (settings.with("STORAGE_TYPE", "memory")?, "this build has no SQLite"),
        };
        Ok(Self { settings, run: "demo".to_owned(), described, _folder: Some(folder) })
    }
}
