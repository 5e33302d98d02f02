//! Telling the demo step by step: to people as it goes, to programs at the end.

use std::fmt::Display;

use serde::Serialize;

use crate::{failure::Result, output::Output};

/// Tells the steps.
pub(super) struct Narrator<'a> {
    out: &'a mut Output,
    steps: Vec<Step>,
}

/// A step of the day.
#[derive(Serialize)]
pub(super) struct Step {
    title: &'static str,
    why: &'static str,
    lines: Vec<String>,
}

impl<'a> Narrator<'a> {
    pub(super) fn new(out: &'a mut Output) -> Self {
        Self { out, steps: Vec::new() }
    }

    /// The steps that were told.
    pub(super) fn steps(self) -> Vec<Step> {
        self.steps
    }

    pub(super) fn open(&mut self, headline: &str) -> Result<()> {
        self.show(headline)
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &'static str, why: &'static str) -> Result<()> {
        self.steps.push(Step { title, why, lines: Vec::new() });
        self.show(format_args!("\n{:>2}. {title}\n    {why}", self.steps.len()))
    }

    /// Says what happened in the step.
    pub(super) fn say(&mut self, happened: impl Display) -> Result<()> {
        let text = happened.to_string();
        self.show(text.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n"))?;
        if let Some(step) = self.steps.last_mut() {
            step.lines.push(text);
        }
        Ok(())
    }

    fn show(&mut self, text: impl Display) -> Result<()> {
        if self.out.json() {
            return Ok(());
        }
        self.out.line(text)?;
        self.out.flush()
    }
}
