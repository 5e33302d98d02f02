//! What is shown while tests run: a line for each job that ended, and on a terminal how far the running one is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::job::{Job, Outcome, Progress};

const REDRAW: Duration = Duration::from_millis(250);
const CLEAR: &str = "\r\x1b[2K";

pub(super) struct Terminal {
    /// When the line of progress was drawn, where there is one.
    drawn: Option<Instant>,
    copies_output: bool,
    packages: usize,
    names: usize,
}

impl Terminal {
    /// `copies_output`: what tests print is shown as they print it, and no progress.
    pub(super) fn new(jobs: &[Job], copies_output: bool) -> Terminal {
        let is_live = std::io::stderr().is_terminal() && !copies_output;
        let widest = |of: fn(&Job) -> &str| jobs.iter().map(|job| of(job).len()).max().unwrap_or(0);
        Terminal {
            drawn: is_live.then(Instant::now),
            copies_output,
            packages: widest(|job| &job.package),
            names: widest(|job| &job.name),
        }
    }

    /// To be called again and again while a job runs. Who cannot be written to is not told.
    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        let Progress { package, name, time, tests, printed } = progress;
        if self.copies_output && !printed.is_empty() {
            let _ = std::io::stdout().write_all(printed);
            let _ = std::io::stdout().flush();
        }
        let Some(drawn) = &mut self.drawn else { return };
        if drawn.elapsed() < REDRAW {
            return;
        }
        *drawn = Instant::now();
        let (ended, announced, seconds) = (tests.ended, tests.announced, time.as_secs());
        eprint!("{CLEAR}  {package} {name}: {ended} of {announced} tests, {seconds} s");
        let _ = std::io::stderr().flush();
    }

    /// The line of a job that ended.
    pub(super) fn ended(&self, outcome: &Outcome) {
        if self.drawn.is_some() {
            eprint!("{CLEAR}");
        }
        println!("{}", line(outcome, self.packages, self.names));
    }
}

/// How a job ended, in columns of these widths.
fn line(outcome: &Outcome, packages: usize, names: usize) -> String {
    let result = match outcome {
        Outcome { hung: Some(_), .. } => "HUNG",
        outcome if outcome.is_failure() => "FAILED",
        _ => "ok",
    };
    let Outcome { package, name, tests, time, .. } = outcome;
    let (ended, seconds) = (tests.ended, time.as_secs_f64());
    format!("  {result:<6}  {package:<packages$}  {name:<names$}  {ended:>4} tests  {seconds:>7.1} s")
}
