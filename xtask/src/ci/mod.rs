//! `cargo xtask ci`: everything that continuous integration checks.

mod dependencies;
mod features;
mod licences;
mod packages;
mod systems;

use std::time::{Duration, Instant};

use crate::result::Result;
use crate::shell::Shell;
use crate::{models, test, tidy};

type Step = (&'static str, fn(&Shell) -> Result<()>);

/// From the quickest to the slowest, so that a failure is told early.
const STEPS: [Step; 12] = [
    ("format", format),
    ("tidy", tidy::run),
    ("lean build", dependencies::lean_build),
    ("oldest toolchain", dependencies::oldest_toolchain),
    ("clippy", clippy),
    ("each feature alone", features::each_alone),
    ("Windows and macOS", systems::each_compiles),
    ("documentation", documentation),
    ("packages", packages::each_packs),
    ("licences and advisories", licences::check),
    ("models", models::run),
    ("tests", |shell| test::run(shell, &test::Arguments::default())),
];

/// Runs all steps, and stops at the first that fails.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("\n==> {name}");
        let started = Instant::now();
        step(shell).map_err(|error| format!("{name}: {error}"))?;
        times.push((name, started.elapsed()));
        println!("<== {name}: {}", seconds(started.elapsed()));
    }
    println!("\nAll checks passed:");
    for (name, time) in &times {
        println!("  {name:<24} {:>8}", seconds(*time));
    }
    println!("  {:<24} {:>8}", "together", seconds(times.iter().map(|(_, time)| *time).sum()));
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn format(shell: &Shell) -> Result<()> {
    shell.run(shell.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(shell: &Shell) -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    shell.run(shell.cargo(&arguments))
}

fn documentation(shell: &Shell) -> Result<()> {
    let mut command = shell.cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    shell.run(command)
}
