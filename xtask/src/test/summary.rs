//! What is said when all tests have run.

use std::time::Duration;

use super::job::Outcome;
use super::output::{last_lines, of_test};
use crate::result::Result;

const SLOWEST: usize = 5;
/// How much of a failure is shown; its log has the rest.
const LINES: usize = 12;

/// Prints how long the slowest took and what failed; fails when anything did.
pub(super) fn print(outcomes: &[Outcome]) -> Result<()> {
    let tests: usize = outcomes.iter().map(|outcome| outcome.tests.ended).sum();
    let time: Duration = outcomes.iter().map(|outcome| outcome.time).sum();
    let (binaries, seconds) = (outcomes.len(), time.as_secs_f64());
    println!("\ntests: {tests}, test binaries: {binaries}, time: {seconds:.0} s");
    println!("slowest: {}", slowest(outcomes));
    let failures: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.is_failure()).collect();
    for failure in &failures {
        print!("\n{}", describe(failure));
    }
    if failures.is_empty() {
        return Ok(());
    }
    println!();
    Err(format!("{} of {} test binaries failed", failures.len(), outcomes.len()).into())
}

fn slowest(outcomes: &[Outcome]) -> String {
    let mut sorted: Vec<&Outcome> = outcomes.iter().collect();
    sorted.sort_by_key(|outcome| std::cmp::Reverse(outcome.time));
    let shown = sorted
        .iter()
        .take(SLOWEST)
        .map(|outcome| format!("{} {} {:.0} s", outcome.package, outcome.name, outcome.time.as_secs_f64()));
    shown.collect::<Vec<_>>().join(", ")
}

/// Which tests of a binary failed or hung, with the end of what they printed.
pub(super) fn describe(failure: &Outcome) -> String {
    let how = match &failure.hung {
        Some(_) => format!("did not end within {:.0} s, and was killed", failure.time.as_secs_f64()),
        None => failure.status.to_string(),
    };
    let mut text = format!("{} {}: {how}\n", failure.package, failure.name);
    // The output is what a test printed: any bytes.
    let output = String::from_utf8_lossy(&std::fs::read(&failure.log).unwrap_or_default()).into_owned();
    for name in &failure.tests.failed {
        text += &format!("  {name}: failed\n{}", quoted(&of_test(&output, name, LINES).unwrap_or_default()));
    }
    for name in failure.hung.iter().flatten() {
        text += &format!("  {name}: was running\n");
    }
    if failure.tests.failed.is_empty() {
        text += &quoted(&last_lines(&output, LINES));
    }
    text + &format!("  output: {}\n", failure.log.display())
}

fn quoted(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("    | {line}\n")).collect()
}
