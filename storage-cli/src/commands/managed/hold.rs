//! `storage managed hold`: generations that are kept under a name.

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_factory::Settings;
use storage_managed::{Error, Hold};

use super::open::{Opened, with_home};
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
            out.answer(&document(&kept), format_args!("kept {name}: {}", described(&kept)))?;
        }
        args::Hold::List => list(settings, out).await?,
        args::Hold::Remove { name, generation } => {
            let remove =
                async |opened: &Opened| opened.store.remove_hold(&name, generation).await.map_err(absent);
            let removed = with_home(settings, remove).await?;
            out.answer(&document(&removed), format_args!("removed {name}: {}", described(&removed)))?;
        }
    }
    Ok(DONE)
}

async fn list(settings: &Settings, out: &mut Output) -> Result<()> {
    let kept = with_home(settings, async |opened| Ok(opened.store.holds().await?)).await?;
    let documents: Vec<Value> = kept.iter().map(document).collect();
    let mut rows = vec![["NAME", "GENERATION", "KEPT", "SIZE", "COMMIT"].map(str::to_owned)];
    rows.extend(kept.iter().map(|kept| {
        let made = kept.made.map_or_else(|| "unknown".to_owned(), moment);
        let size = HumanBytes(kept.bytes).to_string();
        [kept.name.clone(), kept.generation.to_string(), made, size, kept.commit.clone()]
    }));
    out.answer(&json!({"holds": documents}), table(&rows))
}

fn document(kept: &Hold) -> Value {
    json!({
        "name": kept.name,
        "generation": kept.generation,
        "kept_at": kept.made.map(moment),
        "bytes": kept.bytes,
        "commit": kept.commit,
    })
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
