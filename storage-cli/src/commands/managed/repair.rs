//! `storage managed repair`: a damaged home goes on from what is sound.

use std::{
    io::{IsTerminal, stdin},
    sync::Arc,
};

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_core::ErrorKind;
use storage_factory::{Settings, managed_database};
use storage_managed::{Error, Repair, Source, repair};

use super::{
    hold,
    open::CACHE_WAIT,
    watched::{Watched, progress},
};
use crate::{
    ask,
    failure::{DONE, Failure, NO, Result, USAGE},
    output::{Output, moment},
};

pub(super) async fn run(yes: bool, settings: &Settings, out: &mut Output) -> Result<u8> {
    let (home, mut options) = managed_database(settings)?;
    options.cache_wait = CACHE_WAIT;
    let bar = progress();
    let home = Arc::new(Watched::new(home, bar.clone()));
    let found = uninterrupted(repair(home, options)).await;
    bar.finish_and_clear();
    let found = found?;
    if found.damage.is_empty() {
        out.answer(&document(&found), "nothing to repair: the newest generation is sound")?;
        return Ok(DONE);
    }
    if found.sound.is_none() {
        let failure = Failure::new(
            NO,
            ErrorKind::Corrupt.code(),
            format!("nothing sound was found: {}", described(&found)),
        );
        return Err(failure.hint(match found.holds.is_empty() {
            true => "bring the objects back from a copy",
            false => {
                "bring the objects back from a copy, or write a hold to a file with `storage managed restore --hold` and \
                 `storage managed adopt` it into an empty home"
            }
        }));
    }
    let agreed = yes
        || (stdin().is_terminal()
            && !out.json()
            && ask::agrees(&format!("{}\nGo on from that?", described(&found)))?);
    if !agreed {
        out.answer(
            &document(&found),
            format_args!("{}\nnothing was changed; with --yes it is", described(&found)),
        )?;
        return Ok(NO);
    }
    let mut answer = document(&found);
    let report = described(&found);
    let published = uninterrupted(found.publish()).await;
    bar.finish_and_clear();
    let generation = published?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("published".to_owned(), json!(generation));
    }
    out.answer(&answer, format_args!("{report}\nrepaired: it is published as generation {generation}"))?;
    Ok(DONE)
}

/// Ctrl-C ends the work, which leaves the home as it was, or repaired.
async fn uninterrupted<T>(work: impl Future<Output = storage_managed::Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done.map_err(refused),
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::interrupted("interrupted; `storage managed repair` shows whether anything is left to do"))
        }
    }
}

/// A home that there is not, or that cannot be repaired.
fn refused(error: Error) -> Failure {
    match error {
        Error::Unsupported(message) => Failure::new(USAGE, ErrorKind::Unsupported.code(), message),
        error => error.into(),
    }
}

fn place(source: Source) -> &'static str {
    if source == Source::Cache { "cache" } else { "home" }
}

fn document(found: &Repair) -> Value {
    let damage =
        found.damage.iter().map(|damage| json!({"object": damage.object, "problem": damage.problem}));
    let lost = found
        .lost
        .iter()
        .map(|lost| json!({"first": lost.first, "generation": lost.generation, "published": lost.published.map(moment)}));
    let sound = found.sound.as_ref().map(|sound| {
        json!({
            "generation": sound.generation,
            "commit": sound.commit,
            "source": place(sound.source),
            "bytes": sound.bytes,
            "proven": sound.is_proven,
        })
    });
    json!({
        "damaged": damage.collect::<Vec<_>>(),
        "sound": sound,
        "lost": lost.collect::<Vec<_>>(),
        "holds": found.holds.iter().map(hold::document).collect::<Vec<_>>(),
        "published": null,
    })
}

fn described(found: &Repair) -> String {
    let mut lines: Vec<String> = found
        .damage
        .iter()
        .map(|damage| format!("damaged: `{}`: {}", damage.object, damage.problem))
        .collect();
    if let Some(sound) = &found.sound {
        let (place, bytes) = (place(sound.source), HumanBytes(sound.bytes));
        let proof = if sound.is_proven { "" } else { "; no checksum proves that it is what was published" };
        lines.push(format!("sound: generation {}, {bytes}, of the {place}{proof}", sound.generation));
    }
    lines.extend(found.lost.iter().map(|lost| {
        let published = lost.published.map_or_else(|| "an unknown time".to_owned(), moment);
        match lost.first == lost.generation {
            true => format!("lost: generation {}, published at {published}", lost.generation),
            false => format!(
                "lost: generations {} to {}, the last published at {published}",
                lost.first, lost.generation
            ),
        }
    }));
    if found.lost.is_empty() && found.sound.is_some() {
        lines.push("lost: nothing that is known of".to_owned());
    }
    lines.extend(found.holds.iter().map(|kept| format!("kept: {}", hold::listed(kept))));
    lines.join("\n")
}
