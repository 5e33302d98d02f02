//! What is lost with a machine: its processes are killed and its disk is gone, right after a write was acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::signal::Signal;
use storage_bench_harness::Result;
use storage_tests::processes::{Guard, id, signal};
use tokio::time::{interval, sleep};

use super::place::Place;
use super::side::{Database, Side, restore};
use super::writer;

/// A hundred rows a second.
const PACE: Duration = Duration::from_millis(10);
/// How long a machine lives at least, and by how much longer at most.
const LIFE: Duration = Duration::from_secs(3);

/// Fewer rows than this were not written at that pace.
const FEW: usize = 100;

/// A machine: it writes the rows 1, 2, 3 and so on until it is killed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Machine {
    #[arg(long)]
    side: Side,
    /// What outlives it.
    #[arg(long)]
    home: PathBuf,
    /// Its own disk.
    #[arg(long)]
    disk: PathBuf,
    #[arg(long)]
    litestream: PathBuf,
}

impl Machine {
    pub(crate) async fn run(&self) -> Result<()> {
        let seed = self.disk.join("seed.db");
        writer::seed(&seed, 1)?;
        let place = Place::Folder(self.home.clone());
        let folder = self.disk.join("local");
        let database = Database::open(self.side, &place, folder, &seed, &self.litestream).await?;
        let mut due = interval(PACE);
        for id in 1_u32.. {
            due.tick().await;
            database.writer().write(id).await?;
            writeln!(std::io::stdout(), "{id}")?;
        }
        Ok(())
    }

    /// The same in processes of its own, which make up a group.
    fn start(&self) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        let side = self.side.to_possible_value().ok_or("no such side")?;
        command.args(["machine", "--side", side.get_name()]);
        command.arg("--home").arg(&self.home).arg("--disk").arg(&self.disk);
        command.arg("--litestream").arg(&self.litestream);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn()?)
    }
}

/// How many rows that were acknowledged are missing after a restore.
pub(super) async fn lose(side: Side, folder: &Path, litestream: &Path) -> Result<usize> {
    let folder = tempfile::tempdir_in(folder)?;
    let (home, disk) = (folder.path().join("home"), folder.path().join("disk"));
    std::fs::create_dir_all(&disk)?;
    let machine = Machine { side, home: home.clone(), disk: disk.clone(), litestream: litestream.into() };
    let mut child = machine.start()?;
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
