//! The report of a run as a document.

use crate::args::Run;

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

/// The document: how it was measured, then what.
pub(crate) fn document(run: &Run, servers: &[String], report: &str) -> String {
    let crates = CRATES.iter().filter_map(|name| version(LOCK, name));
    let peers = PEERS.iter().filter_map(|name| version(PEERS_LOCK, name));
    let crates: Vec<String> = crates.chain(peers).collect();
    format!(
        "# Benchmarks\n\nWritten by `{}`. Ratios first: absolute figures are this machine's, which the servers and the \
         contenders share.\n\n- Machine: {}\n- Stores: {}\n- Crates: {}\n- Durable: SQLite `synchronous = FULL`, Postgres \
         `synchronous_commit = on`\n\n{report}",
        command(run),
        machine(),
        servers.join(", "),
        crates.join(", ")
    )
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
    command
}

/// Processor, memory and kernel, as far as the system tells.
fn machine() -> String {
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
    fn every_crate_that_is_measured_has_a_version() {
        for name in CRATES {
            assert!(version(LOCK, name).is_some(), "{name}");
        }
        for name in PEERS {
            assert!(version(PEERS_LOCK, name).is_some(), "{name}");
        }
    }
}
