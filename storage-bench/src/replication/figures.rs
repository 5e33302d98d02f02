//! The tables.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use storage_bench_harness::Result;

use super::measures::{RATE, Replica, Row};
use super::side::Side;
use crate::record;
use crate::table::{Table, figure};

const FILE: &str = "storage-bench/results/litestream.md";
/// Each write changes one page of its table.
const PAGE_BYTES: f64 = 4096.0;
const MIB: f64 = 1024.0 * 1024.0;

/// All that a run has measured.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) quick: bool,
    pub(super) version: String,
    pub(super) rows: Vec<Row>,
    /// How many acknowledged rows each lost machine took with it.
    pub(super) lost: Vec<(Side, usize)>,
}

impl Figures {
    /// Writes the document of the figures below the workspace's folder `root`.
    pub(super) fn record(&self, root: &Path) -> Result<()> {
        let quick = if self.quick { " --quick" } else { "" };
        let (today, machine, version) = (record::today(), record::machine(), &self.version);
        let origin =
            format!("{today}, `cargo xtask bench{quick} --only managed --record`, {version}, {machine}");
        let text = format!("# Managed SQLite beside Litestream\n\n{origin}. [How](../README.md).\n\n{self}");
        Ok(std::fs::write(root.join(FILE), text)?)
    }

    pub(super) fn append_json(&self, file: &Path) -> Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(file)?;
        for row in &self.rows {
            writeln!(file, "{}", serde_json::to_string(row)?)?;
        }
        for (side, rows) in &self.lost {
            writeln!(file, "{}", serde_json::json!({ "side": side.name(), "lost_rows": rows }))?;
        }
        Ok(())
    }

    /// As fast as it goes.
    fn writes(&self, callers: usize) -> Table {
        let header = ["replica", "who", "writes/s", "of SQLite alone", "p50, ms", "p99, ms"];
        let mut table = Table::new(2, &header);
        for row in &self.rows {
            let alone = self.rows.iter().find(|other| other.place == row.place && other.side == Side::Alone);
            let rate = |row: &Row| row.writes.get(callers).map_or(f64::NAN, |writes| writes.ops_per_s);
            let Some(writes) = row.writes.get(callers) else { continue };
            let share = rate(row) / alone.map_or(f64::NAN, rate);
            let cells = [writes.ops_per_s, share, writes.p50_us / 1e3, writes.p99_us / 1e3];
            table.line(line(row, &cells));
        }
        table
    }

    /// Of each side with a replica.
    fn replicas(&self, header: &[&str], cells: impl Fn(&Replica) -> Vec<f64>) -> Table {
        let mut table = Table::new(2, &[&["replica", "who"], header].concat());
        for row in &self.rows {
            if let Some(replica) = &row.replica {
                table.line(line(row, &cells(replica)));
            }
        }
        table
    }

    fn lone(&self) -> Table {
        let header =
            ["acknowledged, ms", "in the replica, ms", "at the longest, ms", "bytes", "objects or requests"];
        self.replicas(&header, |replica| {
            let lone = &replica.lone;
            vec![lone.acknowledged_ms, lone.arrived_ms, lone.longest_ms, lone.bytes, lone.count]
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
    fn paced(&self) -> Table {
        let header = ["bytes a write", "times the changed page", "objects or requests", "a write"];
        self.replicas(&header, |replica| {
            let bytes = replica.paced.bytes as f64 / replica.paced_writes;
            let count = replica.paced.count as f64;
            vec![bytes, bytes / PAGE_BYTES, count, count / replica.paced_writes]
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
    fn restored(&self) -> Table {
        let header = ["stored or sent, MiB", "objects or requests", "restored in, s"];
        self.replicas(&header, |replica| {
            vec![replica.all.bytes as f64 / MIB, replica.all.count as f64, replica.restored_s]
        })
    }

    fn machines(&self) -> Table {
        let mut table = Table::new(1, &["who", "machines", "rows lost, median", "most"]);
        for side in Side::REPLICATED {
            let of_side = self.lost.iter().filter(|(lost, _)| *lost == side);
            let mut lost: Vec<usize> = of_side.map(|(_, rows)| *rows).collect();
            lost.sort_unstable();
            let at = |position: usize| lost.get(position).map_or_else(String::new, ToString::to_string);
            let cells = [lost.len().to_string(), at(lost.len() / 2), at(lost.len().saturating_sub(1))];
            table.line([side.name().to_owned()].into_iter().chain(cells).collect());
        }
        table
    }
}

fn line(row: &Row, figures: &[f64]) -> Vec<String> {
    let texts = [row.place, row.side.name()].map(ToOwned::to_owned);
    texts.into_iter().chain(figures.iter().map(|value| figure(*value))).collect()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lone =
            "A lone write, from the call on (medians; of S3 what was sent, of a folder what was added)";
        let writes =
            self.rows.iter().find_map(|row| row.replica.as_ref()).map_or(0.0, |replica| replica.paced_writes);
        let paced = format!("{} writes, {RATE} a second", figure(writes));
        let tables = [
            ("As fast as it goes, 1 writer", self.writes(0)),
            ("As fast as it goes, 64 writers", self.writes(1)),
            (lone, self.lone()),
            (&paced, self.paced()),
            ("The database from the replica alone, after that", self.restored()),
            ("A machine killed at 100 writes a second, its disk gone", self.machines()),
        ];
        for (position, (title, table)) in tables.iter().enumerate() {
            let gap = if position == 0 { "" } else { "\n" };
            write!(f, "{gap}## {title}\n\n{table}")?;
        }
        Ok(())
    }
}
