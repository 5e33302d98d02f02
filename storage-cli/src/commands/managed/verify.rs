//! `storage managed verify`: what the home holds is rebuilt from it alone.

use indicatif::HumanBytes;
use serde_json::{Value, json};
use storage_core::ErrorKind;
use storage_factory::Settings;
use storage_managed::{Error, Verified, VerifiedHold};

use super::{
    hold,
    open::{Opened, with_home},
};
use crate::{
    failure::{DONE, Failure, NO, Result, STORE},
    output::{Output, counted},
};

pub(super) async fn run(holds: bool, settings: &Settings, out: &mut Output) -> Result<u8> {
    let verify = async |opened: &Opened| {
        let verified = opened.store.verify().await.map_err(absent)?;
        let read = if holds { Some(opened.store.verify_holds().await?) } else { None };
        let kept = match &read {
            Some(read) => read.iter().map(|read| read.hold.clone()).collect(),
            None => opened.store.holds().await?,
        };
        Ok((verified, kept, read))
    };
    let (verified, kept, read) = with_home(settings, verify).await?;
    if let Some(failure) = read.as_deref().and_then(unreadable) {
        return Err(failure);
    }
    let mut answer = document(&verified);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("holds".to_owned(), kept.iter().map(hold::document).collect::<Vec<Value>>().into());
        answer.insert("holds_verified".to_owned(), json!(holds));
    }
    let number = counted(kept.len() as u64, "hold", "holds");
    let line = match (kept.is_empty(), holds) {
        (true, _) => String::new(),
        (false, true) => format!("; and {number}"),
        (false, false) => format!("; {number} not read, which --holds does"),
    };
    out.answer(&answer, format_args!("sound: {}{line}", described(&verified)))?;
    Ok(DONE)
}

/// Why holds cannot be read, each by its name.
fn unreadable(read: &[VerifiedHold]) -> Option<Failure> {
    let problems = read.iter().filter_map(|read| Some((read, read.found.as_ref().err()?)));
    let problems: Vec<String> = problems
        .map(|(read, error)| {
            format!("hold `{}` of generation {}: {error}", read.hold.name, read.hold.generation)
        })
        .collect();
    if problems.is_empty() {
        return None;
    }
    let message = format!(
        "the newest generation is sound, and {} of {} cannot be read: {}",
        problems.len(),
        counted(read.len() as u64, "hold", "holds"),
        problems.join("; ")
    );
    let failure = Failure::new(STORE, ErrorKind::Corrupt.code(), message);
    Some(failure.hint(
        "set the key that is missing, or bring the object under `hold/` back from a copy; `storage managed hold remove` \
         gives one up",
    ))
}

/// What is not in the home is no failure of the home.
pub(super) fn absent(error: Error) -> Failure {
    match error {
        Error::Unsupported(message) => Failure::new(NO, "not_found", message).hint(
            "`storage managed log` shows which can be restored; STORAGE_MANAGED_RETENTION says how long they can",
        ),
        error => error.into(),
    }
}

pub(super) fn document(verified: &Verified) -> Value {
    json!({"generation": verified.generation, "bytes": verified.bytes, "objects": verified.objects})
}

pub(super) fn described(verified: &Verified) -> String {
    let objects = counted(verified.objects as u64, "object", "objects");
    format!("generation {}, {}, from {objects}", verified.generation, HumanBytes(verified.bytes))
}
