//! Tasks of this repository: `cargo xtask help` lists them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod bench;
mod ci;
mod install;
mod models;
mod result;
mod servers;
mod shell;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use shell::{INTERRUPTED, Shell};

/// Tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Run all tests against real servers of their own, however many fail; `-- <args>` are those of `cargo test`.
    Test(test::Arguments),
    /// Start the servers that tests need, print their variables, and stop them at Ctrl-C.
    Servers,
    /// Check that files and functions keep the budgets of size, that no files import each other, and that things are where
    /// they belong.
    Tidy,
    /// Check storage-core's shared work in the interleavings of model checkers.
    Models,
    /// Measure against peers and limits, on servers of their own.
    Bench(Box<bench::Arguments>),
    /// Everything that continuous integration checks, in its order.
    Ci,
}

fn main() -> ExitCode {
    let task = Task::parse();
    let shell = match Shell::new() {
        Ok(shell) => shell,
        Err(error) => return fail(error.as_ref()),
    };
    let outcome = match task {
        Task::Test(arguments) => test::run(&shell, &arguments),
        Task::Servers => servers::run(&shell),
        Task::Tidy => tidy::run(&shell),
        Task::Models => models::run(&shell),
        Task::Bench(arguments) => bench::run(&shell, &arguments),
        Task::Ci => ci::run(&shell),
    };
    match outcome {
        _ if shell.is_interrupted() => ExitCode::from(INTERRUPTED),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

/// Prints an error with its causes.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}
