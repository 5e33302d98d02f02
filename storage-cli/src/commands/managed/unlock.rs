//! `storage managed unlock`: ends the lease of a process that is gone.

use std::io::{IsTerminal, stdin};

use serde_json::{Value, json};
use storage_factory::{Settings, managed_database};
use storage_managed::home::Holder;

use super::open::check_exists;
use crate::{
    ask,
    failure::{DONE, Failure, NO, Result},
    output::{Output, humane},
};

/// Without opening the database, which may wait for this.
pub(super) async fn run(yes: bool, settings: &Settings, out: &mut Output) -> Result<u8> {
    let (home, _) = managed_database(settings)?;
    let Some(holder) = home.holder().await? else {
        check_exists(settings).await?;
        out.answer(&json!({"unlocked": false, "lease": null}), "nobody holds the lease")?;
        return Ok(DONE);
    };
    let described = described(&holder);
    if !yes && !agrees(&described)? {
        let failure =
            Failure::new(NO, "refused", format!("nothing was changed: the lease is held by {described}"));
        return Err(failure);
    }
    home.unlock().await?;
    let answer = json!({"unlocked": true, "lease": document(&holder)});
    out.answer(&answer, format_args!("the lease was taken away from {described}"))?;
    Ok(DONE)
}

/// Asks a person.
fn agrees(holder: &str) -> Result<bool> {
    if !stdin().is_terminal() {
        let failure =
            Failure::input(format!("the lease is held by {holder}, and nobody is here to be asked"));
        return Err(
            failure.hint("with --yes it is taken away; what a holder that lives writes is refused then")
        );
    }
    ask::agrees(&format!("Take the lease away from {holder}? If it lives, what it writes is refused."))
}

pub(super) fn document(holder: &Holder) -> Value {
    let age = holder.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    json!({"owner": holder.owner, "age_ms": age})
}

pub(super) fn described(holder: &Holder) -> String {
    let owner = holder.owner.as_deref().unwrap_or("somebody");
    holder.age.map_or_else(|| owner.to_owned(), |age| format!("{owner}, since {}", humane(age)))
}
