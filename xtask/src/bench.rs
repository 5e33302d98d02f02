//! `cargo xtask bench`: the benchmarks, against servers of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};
use storage_tests::{Postgres, PostgresOptions, Redis, RedisOptions, programs};

use crate::result::Result;
use crate::shell::Shell;
use crate::{install, workspace};

/// What Python's contenders need; those of py-key-value bring their drivers.
const PYTHON_PACKAGES: [&str; 4] =
    ["py-key-value-aio[disk,redis,postgresql]", "aiosqlite", "redis", "asyncpg"];
const PEERS: &str = "storage-bench/peers/Cargo.toml";
const SCRIPT: &str = "storage-bench/python/bench.py";

/// What to measure and where to report it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Short measurements and fewer of them: under ten minutes for all stores.
    #[arg(long)]
    quick: bool,
    /// Measure on one store.
    #[arg(long)]
    only: Option<Store>,
    /// Let the store grow up to 10 to this power of keys, 4 to 7.
    #[arg(long, value_name = "POWER")]
    growth: Option<u32>,
    /// Measure Python's libraries, too; they are installed from PyPI into the target folder.
    #[arg(long)]
    python: bool,
    /// Write one JSON object per line into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// Write bars, figures and plots of what is measured into BENCHMARKS.md, storage-bench/results and storage-bench/plots.
    #[arg(long)]
    record: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    Sqlite,
    Redis,
    Postgres,
    /// Full-text search on SQLite and Postgres: how long queries take, and what the index costs those who append.
    Search,
    /// What publications of a managed database and queries of a replica cost, on Azurite and in a folder; and beside Litestream.
    Managed,
}

/// Builds the benchmarks, starts the servers, measures, and stops the servers however that ends.
pub(crate) fn run(shell: &Shell, arguments: &Arguments) -> Result<()> {
    install::servers_and_compiler(shell)?;
    if arguments.only == Some(Store::Managed) {
        return managed(shell, arguments);
    }
    if arguments.only == Some(Store::Search) {
        return search(shell, arguments);
    }
    let target = workspace::members(shell)?.target_directory.into_std_path_buf();
    shell.run(shell.cargo(&["build", "--release", "--package", "storage-bench"]))?;
    let mut command = shell.command(target.join("release/storage-bench"), &["run"]);
    add_options(shell, &mut command, arguments)?;
    add_workers(shell, &mut command, &target, arguments.python)?;
    let wants = |store| arguments.only.is_none_or(|only| only == store);
    if wants(Store::Sqlite) {
        // Not a temporary folder: that may lie in memory, and durable writes would cost nothing.
        command.arg("--sqlite").arg(target.join("bench/sqlite"));
    }
    let postgres =
        wants(Store::Postgres).then(|| Postgres::start(&PostgresOptions::default())).transpose()?;
    if let Some(postgres) = &postgres {
        command.args(["--postgres", &postgres.url()]);
    }
    let settings = vec!["appendonly no".into()];
    let redis =
        wants(Store::Redis).then(|| Redis::start(&RedisOptions { settings, ..RedisOptions::default() }));
    let redis = redis.transpose()?;
    if let Some(redis) = &redis {
        command.args(["--redis", &redis.url()]);
    }
    shell.run(command)?;
    match arguments.only {
        None => managed(shell, arguments),
        Some(_) => Ok(()),
    }
}

fn search(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let target = workspace::members(shell)?.target_directory.into_std_path_buf();
    shell.run(shell.cargo(&["build", "--release", "--package", "storage-bench"]))?;
    let folder = target.join("bench/search");
    std::fs::create_dir_all(&folder)?;
    let postgres = Postgres::start(&PostgresOptions::default())?;
    let mut command = shell.command(target.join("release/storage-bench"), &["search"]);
    command.arg("--sqlite").arg(folder).args(["--postgres", &postgres.url()]);
    if arguments.quick {
        command.args(["--messages", "100000"]);
    }
    shell.run(command)
}

/// Prints what publications of a managed database cost, beside the bars; the program starts its server by itself.
fn managed(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let example = ["--package", "storage-managed", "--features", "azure,lazy", "--example", "bars"];
    let mut command = shell.cargo(&[&["run", "--release"], &example[..], &["--"]].concat());
    if arguments.quick {
        command.arg("--quick");
    }
    if let Some(path) = &arguments.json {
        command.arg("--json").arg(std::path::absolute(path)?);
    }
    shell.run(command)?;
    beside_litestream(shell, arguments)
}

/// The same writes to a managed database and to one that Litestream replicates.
fn beside_litestream(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let litestream = install::litestream(shell)?;
    let target = workspace::members(shell)?.target_directory.into_std_path_buf();
    shell.run(shell.cargo(&["build", "--release", "--package", "storage-bench"]))?;
    let mut command = shell.command(target.join("release/storage-bench"), &["litestream"]);
    command.arg("--litestream").arg(litestream);
    // On the disk, as with SQLite.
    command.arg("--folder").arg(target.join("bench/litestream"));
    if arguments.quick {
        command.arg("--quick");
    }
    if let Some(path) = &arguments.json {
        command.arg("--json").arg(std::path::absolute(path)?);
    }
    if arguments.record {
        command.arg("--record").arg(shell.root());
    }
    shell.run(command)
}

fn add_options(shell: &Shell, command: &mut Command, arguments: &Arguments) -> Result<()> {
    if arguments.quick {
        command.arg("--quick");
    }
    if let Some(power) = arguments.growth {
        command.args(["--growth", &power.to_string()]);
    }
    if arguments.record {
        command.arg("--record").arg(shell.root());
    }
    for (option, path) in [("--json", &arguments.json), ("--svg", &arguments.svg)] {
        if let Some(path) = path {
            // The command runs in the workspace's folder.
            command.arg(option).arg(std::path::absolute(path)?);
        }
    }
    Ok(())
}

/// Builds the workers that are programs of their own. Without them the others are measured.
fn add_workers(shell: &Shell, command: &mut Command, target: &Path, python: bool) -> Result<()> {
    let folder = target.join("bench/peers");
    let mut build = shell.cargo(&["build", "--release", "--locked", "--manifest-path", PEERS]);
    build.arg("--target-dir").arg(&folder);
    match shell.run(build) {
        Ok(()) => {
            command.arg("--peers").arg(folder.join("release/storage-bench-peers"));
        }
        Err(error) if shell.is_interrupted() => return Err(error),
        Err(error) => eprintln!("sqlx and opendal are not measured: {error}"),
    }
    if python {
        let folder = target.join("bench/python");
        let program = folder.join("bin/python");
        let python = programs::find("python3").ok_or("python3 was not found")?;
        let mut make = shell.command(python, &["-m", "venv"]);
        make.arg(&folder);
        shell.run(make)?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        shell.run(shell.command(&program, &[&install[..], &PYTHON_PACKAGES].concat()))?;
        command.arg("--python").arg(program).arg(SCRIPT);
    }
    Ok(())
}
