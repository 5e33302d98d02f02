//! `storage keys`.

use std::io::{self, Write};

use serde_json::json;
use storage_factory::Settings;

use crate::{
    failure::{DONE, Failure, Result},
    output::{Output, counted, visible},
    store::with_store,
};

/// On a terminal keys are shown so that they can be seen; for programs they stand as they are.
pub(super) async fn run(pattern: &str, null: bool, settings: &Settings, out: &mut Output) -> Result<u8> {
    if null && out.json() {
        return Err(Failure::input("--null and --json are two ways to write keys").hint("choose one"));
    }
    let keys = with_store(settings, async |storage| Ok(storage.keys(pattern).await?)).await?;
    let on_terminal = out.is_terminal() && !out.json();
    if !null && !out.json() && !on_terminal {
        check_lines(&keys)?;
    }
    for key in &keys {
        match null {
            true => out.ended(key, '\0')?,
            false if on_terminal => out.line(visible(key))?,
            false => out.answer(&json!({"key": key}), key)?,
        }
    }
    if on_terminal && !null {
        out.flush()?;
        let _ = writeln!(io::stderr(), "{}", counted(keys.len() as u64, "key", "keys"));
    }
    Ok(DONE)
}

/// A key with a line end would be taken for two.
fn check_lines(keys: &[String]) -> Result<()> {
    let Some(key) = keys.iter().find(|key| key.contains(['\n', '\r'])) else { return Ok(()) };
    let message = format!("the key `{}` holds a line end, and a line would not be a key", visible(key));
    Err(Failure::input(message).hint("-0 ends each key with a NUL instead, --json escapes them"))
}
