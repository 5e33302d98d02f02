#![doc = include_str!("../README.md")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod args;
mod bars;
mod campaign;
mod contenders;
mod dataset;
mod plan;
mod plots;
mod record;
mod replication;
mod report;
mod results;
mod search;
mod table;
mod workers;

use std::process::ExitCode;

use clap::Parser;
use storage_bench_harness::{Result, run_worker};

use args::{Arguments, Command, Run};
use campaign::Campaign;
use plan::Plan;
use workers::Workers;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Worker => return run_worker(contenders::work),
        Command::Run(run) => measure(&run),
        Command::Search(search) => block_on(search::run(&search)),
        Command::Litestream(arguments) => block_on(replication::run(&arguments)),
        Command::Machine(machine) => block_on(replication::live(&machine)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn measure(run: &Run) -> Result<()> {
    let stores = dataset::stores(run);
    if stores.is_empty() {
        return Err("name a store: --sqlite, --postgres or --redis".into());
    }
    let workers = Workers::new(std::env::current_exe()?, run);
    let campaign = Campaign::new(Plan::new(run.quick, run.growth), workers)?;
    let servers = campaign.versions(&stores);
    let results = campaign.run(&stores)?;
    let report = report::report(&results);
    println!("{report}");
    if let Some(file) = &run.json {
        std::fs::write(file, results.json_lines()?)?;
    }
    if let Some(folder) = &run.svg {
        for store in report::stores(&results) {
            plots::draw(&results, store, folder)?;
        }
    }
    if let Some(root) = &run.record {
        record::write(root, run, &servers, &results)?;
    }
    Ok(())
}
