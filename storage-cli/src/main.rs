//! The `storage` command: agent storage from a terminal.

mod args;
mod ask;
mod bytes;
mod commands;
mod demo;
mod failure;
mod line;
mod output;
mod progress;
mod store;
mod warnings;

use std::{ffi::OsStr, io::Write, process::ExitCode};

use clap::{Parser, error::ErrorKind};

use args::Cli;
use failure::{DONE, Failure, Result, STORE, USAGE, redact};
use output::{Output, report};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error)),
    };
    let json = cli.global.json;
    warnings::show(json);
    let code = run(cli).unwrap_or_else(|failure| {
        let code = failure.code;
        report(failure, json);
        code
    });
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<u8> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(STORE, "runtime", format!("the program cannot start: {error}")))?;
    let mut out = Output::new(cli.global.json);
    let ended = runtime.block_on(commands::run(cli, &mut out));
    // What was written so far is shown in any case; a look-up of a name that hangs holds nobody up.
    let flushed = out.flush();
    runtime.shutdown_background();
    let code = ended?;
    flushed?;
    Ok(code)
}

/// Help, the version, or what is wrong with the command line.
fn usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        // A reader that has gone has all that it wanted.
        let _ = error.print();
        return DONE;
    }
    let text = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "error: a command is missing".to_owned()
        }
        _ => error.render().to_string(),
    };
    if std::env::args_os().any(|arg| arg == OsStr::new("--json")) {
        let first = text.split("\n\n").next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        report(Failure::new(USAGE, "usage", message).hint("see storage --help"), true);
    } else if text.contains("://") {
        let _ = writeln!(std::io::stderr(), "{}", redact(&text).trim_end());
    } else {
        let _ = error.print();
    }
    USAGE
}
