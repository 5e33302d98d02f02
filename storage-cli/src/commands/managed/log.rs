//! `storage managed log`: the generations that can be restored.

use std::time::SystemTime;

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_core::{Clock, SystemClock};
use storage_factory::Settings;
use storage_managed::{DatabaseStore, Generation};

use super::open::with_home;
use crate::{
    failure::{DONE, Failure, NO, Result},
    output::{Output, moment, table},
};

pub(super) async fn run(limit: usize, settings: &Settings, out: &mut Output) -> Result<u8> {
    let mut found = with_home(settings, async |opened| Ok(opened.store.history().await?)).await?;
    found.reverse();
    found.truncate(if limit == 0 { usize::MAX } else { limit });
    let documents: Vec<Value> = found.iter().map(document).collect();
    let mut rows = vec![["GENERATION", "PUBLISHED", "SIZE", "COMMIT"].map(str::to_owned)];
    rows.extend(found.iter().map(|found| {
        let published = found.published.map_or_else(|| "unknown".to_owned(), moment);
        let size = HumanBytes(found.bytes).to_string();
        [found.generation.to_string(), published, size, found.commit.clone()]
    }));
    out.answer(&json!({"generations": documents}), table(&rows))?;
    Ok(DONE)
}

fn document(found: &Generation) -> Value {
    json!({
        "generation": found.generation,
        "published": found.published.map(moment),
        "bytes": found.bytes,
        "commit": found.commit,
    })
}

/// The generation that was the newest at a time.
pub(super) async fn newest_at(store: &DatabaseStore, at: SystemTime) -> Result<Generation> {
    let mut history = store.history().await?;
    if at > SystemClock.now() {
        let newest = history.last().map_or_else(String::new, |found| {
            let published = found.published.map_or_else(|| "an unknown time".to_owned(), moment);
            format!("; the newest generation, {}, was published at {published}", found.generation)
        });
        let failure = Failure::input(format!("{} has not come yet{newest}", moment(at)));
        return Err(failure.hint("without --at the newest is restored"));
    }
    // As the log shows it: in whole seconds.
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let was_there =
        |found: &&Generation| found.published.is_some_and(|published| seconds(published) <= seconds(at));
    if let Some(found) = history.iter().rposition(|found| was_there(&found)) {
        return Ok(history.swap_remove(found));
    }
    let oldest = history.first().and_then(|found| found.published).map_or_else(
        || "the home tells no times".to_owned(),
        |published| format!("the oldest that can be restored was published at {}", moment(published)),
    );
    let failure =
        Failure::new(NO, "not_found", format!("no generation of {} is there: {oldest}", moment(at)));
    Err(failure.hint("`storage managed log` shows which there are"))
}
