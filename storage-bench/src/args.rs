//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::replication::side::Side;

/// Benchmarks of agent storage against peers and limits. `cargo xtask bench` starts the servers and calls this.
#[derive(Debug, Parser)]
#[command(name = "storage-bench")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures and reports.
    Run(Box<Run>),
    /// Measures managed SQLite beside Litestream.
    Litestream(Litestream),
    /// Measures full-text search over messages, and what its index costs.
    Search(Search),
    /// A machine that writes until it is killed.
    #[command(hide = true)]
    Machine(Machine),
    /// Does one job, read from the standard input, and writes what it measured.
    #[command(hide = true)]
    Worker,
}

/// What to measure and where to report it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// Short measurements and fewer of them: under ten minutes for all stores.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure on SQLite, in files in this folder, which should be on a disk.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) sqlite: Option<PathBuf>,
    /// Measure on this Postgres server; databases named bench_* are made and dropped.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// Measure on this Redis server; EVERYTHING in it is removed.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The worker program with the contenders sqlx and opendal.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) peers: Option<PathBuf>,
    /// A Python with the contenders' packages, and the script to run.
    #[arg(long, num_args = 2, value_names = ["PYTHON", "SCRIPT"])]
    pub(crate) python: Option<Vec<PathBuf>>,
    /// Let the store grow up to 10 to this power of keys.
    #[arg(long, value_name = "POWER", value_parser = clap::value_parser!(u32).range(4..=7))]
    pub(crate) growth: Option<u32>,
    /// Write one JSON object per line into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) svg: Option<PathBuf>,
    /// Write bars, figures and plots into the documents of the workspace in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,
}

/// What to measure, and with what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Litestream {
    /// A database of 100 MiB instead of 1 GiB, and short measurements.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Litestream's program.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) litestream: PathBuf,
    /// Measure in this folder, which should be on a disk.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Add one JSON object per line to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the figures into the documents of the workspace in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,
}

/// What to search.
#[derive(Debug, Clone, Args)]
pub(crate) struct Search {
    /// How many messages.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(crate) messages: u64,
    /// Measure on SQLite, in files in this folder, which should be on a disk.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) sqlite: Option<PathBuf>,
    /// Measure on this Postgres server; schemas named bench_search_* are made and dropped.
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
}

/// A machine: it writes the rows 1, 2, 3 and so on until it is killed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Machine {
    #[arg(long)]
    pub(crate) side: Side,
    /// What outlives it.
    #[arg(long)]
    pub(crate) home: PathBuf,
    /// Its own disk.
    #[arg(long)]
    pub(crate) disk: PathBuf,
    #[arg(long)]
    pub(crate) litestream: PathBuf,
}
