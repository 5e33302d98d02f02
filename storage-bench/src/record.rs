//! The figures of a run in the repository's documents.

use std::path::Path;

use storage_bench_harness::Result;
use storage_core::{Clock, SystemClock};

use crate::args::Run;
use crate::results::Results;
use crate::{plots, report};

const LOCK: &str = include_str!("../../Cargo.lock");
const PEERS_LOCK: &str = include_str!("../peers/Cargo.lock");
const CRATES: [&str; 9] = [
    "tokio-rusqlite",
    "rusqlite",
    "bb8-postgres",
    "tokio-postgres",
    "bb8-redis",
    "redis",
    "fred",
    "tokio",
    "storage-core",
];
const PEERS: [&str; 2] = ["sqlx", "opendal"];

/// The document with the bars, of which the parts between markers are written here.
const DOCUMENT: &str = "BENCHMARKS.md";
const RESULTS: &str = "storage-bench/results";
const PLOTS: &str = "storage-bench/plots";

/// Writes what was measured below the workspace's folder `root`: of each store its bars into the document, the figures into
/// a file of its own, and the plots. Stores that were not measured stay as they are.
///
/// # Errors
/// Where a file cannot be written, or the document has no place for a store.
pub(crate) fn write(root: &Path, run: &Run, versions: &[String], results: &Results) -> Result<()> {
    let file = root.join(DOCUMENT);
    let mut document = std::fs::read_to_string(&file)?;
    std::fs::create_dir_all(root.join(RESULTS))?;
    for store in report::stores(results) {
        let plots = plots::draw(results, store, &root.join(PLOTS))?;
        let version = versions.iter().find(|version| version.to_lowercase().starts_with(store));
        let origin = format!(
            "{}, `{}`, {}, {}",
            today(),
            command(run),
            version.map_or(store, String::as_str),
            machine()
        );
        let plot = format!("throughput-{store}-set-220.svg");
        let summary = format!(
            "{origin}; [all figures]({RESULTS}/{store}.md)\n\n{}![set, operations per second]({PLOTS}/{plot})\n",
            report::bars(results, store)
        );
        document = replaced(&document, store, &summary)?;
        let figures = figures(store, &origin, &plots, &report::details(results, store));
        std::fs::write(root.join(RESULTS).join(format!("{store}.md")), figures)?;
    }
    Ok(std::fs::write(file, document)?)
}

/// The document with another text between the markers of a store.
fn replaced(document: &str, store: &str, text: &str) -> Result<String> {
    let (start, end) = (format!("<!-- measured: {store} -->\n"), "<!-- end -->");
    let missing = || format!("{DOCUMENT} has no place for {store}: `{}` and `{end}`", start.trim());
    let (before, rest) = document.split_once(&start).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    Ok(format!("{before}{start}{text}{end}{after}"))
}

/// All figures of a store.
fn figures(store: &str, origin: &str, plots: &[String], details: &str) -> String {
    let crates = CRATES.iter().filter_map(|name| version(LOCK, name));
    let peers = PEERS.iter().filter_map(|name| version(PEERS_LOCK, name));
    let crates: Vec<String> = crates.chain(peers).collect();
    let plots: String = plots.iter().map(|name| format!("![{name}](../plots/{name})\n")).collect();
    format!(
        "# {}: all figures\n\n{origin}. Medians over the rounds; absolute figures are this machine's, which the servers and the \
         contenders share.\n\nCrates: {}. Durable: SQLite `synchronous = FULL`, Postgres `synchronous_commit = on`.\n\n\
         {plots}\n{details}",
        report::title(store),
        crates.join(", ")
    )
}

pub(crate) fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemClock.now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

fn command(run: &Run) -> String {
    let mut command = "cargo xtask bench".to_owned();
    if run.quick {
        command.push_str(" --quick");
    }
    let stores = [
        ("sqlite", run.sqlite.is_some()),
        ("redis", run.redis.is_some()),
        ("postgres", run.postgres.is_some()),
    ];
    if let [(only, _)] = stores.iter().filter(|(_, measured)| *measured).collect::<Vec<_>>()[..] {
        command.push_str(&format!(" --only {only}"));
    }
    if let Some(power) = run.growth {
        command.push_str(&format!(" --growth {power}"));
    }
    if run.python.is_some() {
        command.push_str(" --python");
    }
    command.push_str(" --record");
    command
}

/// Processor, memory and kernel, as far as the system tells.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let processor = file_value("/proc/cpuinfo", "model name");
    let memory = file_value("/proc/meminfo", "MemTotal");
    let gib = memory.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores ({processor}), {:.0} GiB, Linux {}", gib / 1024.0 / 1024.0, kernel.trim())
}

fn file_value(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned()).unwrap_or_default()
}

/// `name version` as a lock file has it; of several versions the newest.
fn version(lock: &str, name: &str) -> Option<String> {
    let start = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.rsplit_once(&start)?;
    Some(format!("{name} {}", rest.split('"').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_its_place_in_the_document_and_others_stay() {
        let place = |store: &str, text: &str| format!("<!-- measured: {store} -->\n{text}<!-- end -->\n");
        let document =
            |redis: &str| format!("# A\n{}prose\n{}", place("redis", redis), place("sqlite", "kept\n"));
        assert_eq!(replaced(&document("old\n"), "redis", "new\n").unwrap(), document("new\n"));
        let error = replaced(&document(""), "postgres", "new\n").unwrap_err().to_string();
        assert!(error.contains("<!-- measured: postgres -->"), "{error}");
    }

    #[test]
    fn every_crate_that_is_measured_has_a_version() {
        for name in CRATES {
            assert!(version(LOCK, name).is_some(), "{name}");
        }
        for name in PEERS {
            assert!(version(PEERS_LOCK, name).is_some(), "{name}");
        }
    }
}
