//! `storage keys`.

use std::io::{self, Write};

use serde_json::json;
use storage_factory::Settings;

use crate::{
    failure::{DONE, Result},
    output::{Output, counted, visible},
    store::with_store,
};

pub(super) async fn run(pattern: &str, settings: &Settings, out: &mut Output) -> Result<u8> {
    let keys = with_store(settings, async |storage| Ok(storage.keys(pattern).await?)).await?;
    for key in &keys {
        out.answer(&json!({"key": key}), visible(key))?;
    }
    if out.is_terminal() && !out.json() {
        out.flush()?;
        let _ = writeln!(io::stderr(), "{}", counted(keys.len() as u64, "key", "keys"));
    }
    Ok(DONE)
}
