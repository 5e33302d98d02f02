//! Writing for people and for programs.

use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::json;

use crate::failure::{DONE, Failure, Result};

/// Stdout, in the form that was asked for.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    writer: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, writer: BufWriter::new(io::stdout()) }
    }

    /// Whether programs read it.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether people see it as it comes.
    pub(crate) fn is_terminal(&self) -> bool {
        self.writer.get_ref().is_terminal()
    }

    pub(crate) fn line(&mut self, line: impl Display) -> Result<()> {
        writeln!(self.writer, "{line}").map_err(|error| Failure::output(&error))
    }

    /// The text, and a mark where it ends.
    pub(crate) fn ended(&mut self, text: &str, end: char) -> Result<()> {
        write!(self.writer, "{text}{end}").map_err(|error| Failure::output(&error))
    }

    /// The document for programs, or the line for people.
    pub(crate) fn answer(&mut self, document: &impl Serialize, line: impl Display) -> Result<()> {
        if !self.json {
            return self.line(line);
        }
        serde_json::to_writer(&mut self.writer, document).map_err(|error| Failure::output(&error.into()))?;
        self.line("")
    }

    /// For what writes bytes.
    pub(crate) fn writer(&mut self) -> &mut BufWriter<Stdout> {
        &mut self.writer
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| Failure::output(&error))
    }
}

/// Tells on stderr why the command ends.
pub(crate) fn report(failure: Failure, json: bool) {
    if failure.code != DONE {
        tell("error", failure, json);
    }
}

/// Tells on stderr what is wrong while the command goes on.
pub(crate) fn warn(failure: Failure, json: bool) {
    tell("warning", failure, json);
}

fn tell(level: &str, failure: Failure, json: bool) {
    let failure = failure.clean();
    let text = match (json, &failure.hint) {
        (true, _) => json!({ level: failure }).to_string(),
        (false, None) => format!("{level}: {}", failure.message),
        (false, Some(hint)) => format!("{level}: {}\nhint: {hint}", failure.message),
    };
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Rows with their columns aligned.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A duration for people, to the millisecond: `250ms`, `1.5s`, `1h 30m 0.25s`.
pub(crate) fn humane(duration: Duration) -> String {
    // Rounded up, as times to live are kept.
    let duration =
        Duration::from_millis(duration.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX));
    let millis = duration.subsec_millis();
    let whole = Duration::from_secs(duration.as_secs());
    if millis == 0 {
        return humantime::format_duration(whole).to_string();
    }
    if whole.is_zero() {
        return format!("{millis}ms");
    }
    let seconds = whole.as_secs() % 60;
    let above = match whole - Duration::from_secs(seconds) {
        Duration::ZERO => String::new(),
        minutes => format!("{} ", humantime::format_duration(minutes)),
    };
    let fraction = format!("{millis:03}");
    format!("{above}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// A time in RFC 3339, in UTC, to the second.
pub(crate) fn moment(time: SystemTime) -> String {
    // What lies before 1970 or after 9999 humantime cannot say, and no store has.
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let shown = SystemTime::UNIX_EPOCH + since.min(Duration::from_secs(253_402_300_799));
    humantime::format_rfc3339_seconds(shown).to_string()
}

/// `1 entry`, `2,000 entries`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", indicatif::HumanCount(count), if count == 1 { one } else { many })
}

/// `2 entries, 1 partition with 40 items, 3 memories`.
pub(crate) fn carried(entries: u64, partitions: u64, items: u64, memories: u64) -> String {
    let (entries, memories) = (counted(entries, "entry", "entries"), counted(memories, "memory", "memories"));
    let (partitions, items) =
        (counted(partitions, "partition", "partitions"), counted(items, "item", "items"));
    format!("{entries}, {partitions} with {items}, {memories}")
}

/// A key as people can see it: control characters would break lines, or the terminal.
pub(crate) fn visible(key: &str) -> String {
    let show = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    key.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["é".into(), "1".into()], ["abc".into(), "2".into()]];
        assert_eq!(table(&rows), "é    1\nabc  2");
    }

    #[test]
    fn durations_and_counts_read_well() {
        for (millis, shown) in [
            (0, "0s"),
            (2, "2ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (60_000, "1m"),
            (60_020, "1m 0.02s"),
            (5_400_999, "1h 30m 0.999s"),
            (86_400_000, "1day"),
        ] {
            assert_eq!(humane(Duration::from_millis(millis)), shown);
        }
        assert_eq!(humane(Duration::from_micros(2_500)), "3ms");
        assert_eq!(humane(Duration::from_nanos(1)), "1ms");
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
        assert_eq!(counted(2_000, "entry", "entries"), "2,000 entries");
    }

    #[test]
    fn control_characters_are_seen() {
        assert_eq!(visible("a\nb\u{1b}é"), "a\\nb\\u{1b}é");
    }
}
