//! `storage managed hold`: generations that are kept under a name.

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_factory::{Settings, managed_database};
use storage_managed::{Error, Hold, holds};

use super::open::{Opened, check_exists, with_home};
use crate::{
    args,
    failure::{DONE, Failure, NO, Result},
    output::{Output, moment, table},
};

pub(super) async fn run(command: args::Hold, settings: &Settings, out: &mut Output) -> Result<u8> {
    match command {
        args::Hold::Add { name, generation } => {
            let keep = async |opened: &Opened| {
                opened.store.hold(&name, generation).await.map_err(|error| match error {
                    Error::Unsupported(message) => Failure::input(message),
                    error => error.into(),
                })
            };
            let kept = with_home(settings, keep).await?;
            out.answer(&document(&kept), format_args!("kept {}", listed(&kept)))?;
        }
        args::Hold::List => list(settings, out).await?,
        args::Hold::Remove { name, generation } => {
            let remove =
                async |opened: &Opened| opened.store.remove_hold(&name, generation).await.map_err(absent);
            let removed = with_home(settings, remove).await?;
            out.answer(&document(&removed), format_args!("removed {}", listed(&removed)))?;
        }
    }
    Ok(DONE)
}

/// Without opening the database, whose head may be damaged.
async fn list(settings: &Settings, out: &mut Output) -> Result<()> {
    let (home, options) = managed_database(settings)?;
    let kept = holds(home, options).await?;
    if kept.is_empty() {
        check_exists(settings).await?;
    }
    let documents: Vec<Value> = kept.iter().map(document).collect();
    let mut rows = vec![["NAME", "GENERATION", "KEPT", "SIZE", "COMMIT"].map(str::to_owned)];
    rows.extend(kept.iter().map(|kept| {
        let made = kept.made.map_or_else(|| "unknown".to_owned(), moment);
        let size = HumanBytes(kept.bytes).to_string();
        [kept.name.clone(), kept.generation.to_string(), made, size, kept.commit.clone()]
    }));
    out.answer(&json!({"holds": documents}), table(&rows))
}

pub(super) fn document(kept: &Hold) -> Value {
    json!({
        "name": kept.name,
        "generation": kept.generation,
        "kept_at": kept.made.map(moment),
        "bytes": kept.bytes,
        "commit": kept.commit,
    })
}

pub(super) fn listed(kept: &Hold) -> String {
    format!("{}: {}", kept.name, described(kept))
}

fn described(kept: &Hold) -> String {
    format!("generation {}, {}", kept.generation, HumanBytes(kept.bytes))
}

/// That there is no such hold is no failure of the home.
pub(super) fn absent(error: Error) -> Failure {
    match error {
        Error::Unsupported(message) => {
            Failure::new(NO, "not_found", message).hint("`storage managed hold list` shows what is kept")
        }
        error => error.into(),
    }
}
