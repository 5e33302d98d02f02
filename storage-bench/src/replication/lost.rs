//! What is lost with a machine: its processes are killed and its disk is gone, right after a write was acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::signal::Signal;
use storage_bench_harness::Result;
use storage_tests::processes::{Guard, id, signal};
use tokio::time::{interval, sleep};

use super::database::{Database, restore};
use super::place::Place;
use super::side::Side;
use super::writer;
use crate::args::Machine;

/// A hundred rows a second.
const PACE: Duration = Duration::from_millis(10);
/// How long a machine lives at least; up to a second longer by chance.
const LIFE: Duration = Duration::from_secs(3);
/// Fewer rows than this were not written at that pace.
const FEW: usize = 100;

/// Lives until it is killed.
pub(crate) async fn live(machine: &Machine) -> Result<()> {
    let seed = machine.disk.join("seed.db");
    writer::seed(&seed, 1)?;
    let place = Place::Folder(machine.home.clone());
    let folder = machine.disk.join("local");
    let database = Database::open(machine.side, &place, folder, &seed, &machine.litestream).await?;
    let mut due = interval(PACE);
    for id in 1_u32.. {
        due.tick().await;
        database.writer().write(id).await?;
        writeln!(std::io::stdout(), "{id}")?;
    }
    Ok(())
}

/// The same in processes of its own, which make up a group.
fn start(machine: &Machine) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let side = machine.side.to_possible_value().ok_or("no such side")?;
    command.args(["machine", "--side", side.get_name()]);
    command.arg("--home").arg(&machine.home).arg("--disk").arg(&machine.disk);
    command.arg("--litestream").arg(&machine.litestream);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn()?)
}

/// How many rows that were acknowledged are missing after a restore.
pub(super) async fn lose(side: Side, folder: &Path, litestream: &Path) -> Result<usize> {
    let folder = tempfile::tempdir_in(folder)?;
    let (home, disk) = (folder.path().join("home"), folder.path().join("disk"));
    std::fs::create_dir_all(&disk)?;
    let machine = Machine { side, home: home.clone(), disk: disk.clone(), litestream: litestream.into() };
    let mut child = start(&machine)?;
    let guard = Guard::watch(-id(&child), Signal::SIGKILL, None)?;
    sleep(LIFE + Duration::from_secs(1).mul_f64(fastrand::f64())).await;
    signal(-id(&child), Signal::SIGKILL);
    child.wait()?;
    drop(guard);
    let printed = child.stdout.take().ok_or("the machine has no output")?;
    let acknowledged: Vec<u32> =
        BufReader::new(printed).lines().map_while(|line| line.ok()?.parse().ok()).collect();
    if acknowledged.len() < FEW {
        return Err(format!("{}: only {} rows were acknowledged", side.name(), acknowledged.len()).into());
    }
    std::fs::remove_dir_all(&disk)?;
    let target = tempfile::tempdir_in(folder.path())?;
    let found = restore(side, &Place::Folder(home), target.path(), &disk.join("local"), litestream).await?;
    Ok(acknowledged.iter().filter(|id| found.binary_search(id).is_err()).count())
}
