//! `storage completions`.

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::{
    args::Cli,
    failure::{DONE, Result},
    output::Output,
};

pub(super) fn run(shell: Shell, out: &mut Output) -> Result<u8> {
    // Into memory first: writing to a closed stdout would panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "storage", &mut script);
    let script = String::from_utf8_lossy(&script);
    out.answer(&json!({"shell": shell.to_string(), "script": script}), script.trim_end())?;
    Ok(DONE)
}
