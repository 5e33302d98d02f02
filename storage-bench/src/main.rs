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
mod report;
mod results;
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
    match Arguments::parse().command {
        Command::Worker => run_worker(contenders::work),
        Command::Run(run) => match measure(&run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
    }
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
