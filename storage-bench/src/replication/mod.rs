//! Managed SQLite beside Litestream: the same writes to the same database, in one run.

mod figures;
mod litestream;
mod lost;
mod measures;
mod place;
mod side;
mod writer;

use std::path::{Path, PathBuf};

use storage_bench_harness::Result;

use figures::Figures;
use litestream::Litestream;
pub(crate) use lost::Machine;
use measures::{Extent, FULL, QUICK, row};
use place::Place;
use side::{Database, Side};

use crate::campaign::progress;

/// What to measure, and with what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// A database of 100 MiB instead of 1 GiB, and short measurements.
    #[arg(long)]
    quick: bool,
    /// Litestream's program.
    #[arg(long, value_name = "PROGRAM")]
    litestream: PathBuf,
    /// Measure in this folder, which should be on a disk.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Add one JSON object per line to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the figures into the documents of the workspace in this folder.
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
}

impl Arguments {
    /// Measures and reports.
    pub(crate) async fn run(&self) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let folder = tempfile::tempdir_in(&self.folder)?;
        let extent = if self.quick { QUICK } else { FULL };
        let version = Litestream::version(&self.litestream)?;
        let figures = Figures { quick: self.quick, version, ..self.measure(&extent, folder.path()).await? };
        println!("{figures}");
        if let Some(file) = &self.json {
            figures.append_json(file)?;
        }
        self.record.as_deref().map_or(Ok(()), |root| figures.record(root))
    }

    async fn measure(&self, extent: &Extent, folder: &Path) -> Result<Figures> {
        let seed = folder.join("seed.db");
        writer::seed(&seed, extent.rows)?;
        let mut figures = Figures::default();
        let steps = 2 * Side::ALL.len() + Side::REPLICATED.len();
        let bar = progress("managed SQLite beside Litestream", steps);
        for in_bucket in [false, true] {
            for side in Side::ALL {
                let own = tempfile::tempdir_in(folder)?;
                let replica = own.path().join("replica");
                let place = if in_bucket { Place::bucket()? } else { Place::Folder(replica) };
                let disk = own.path().join("disk");
                let database = Database::open(side, &place, disk, &seed, &self.litestream).await?;
                figures.rows.push(row(&database, &place, side, extent).await?);
                bar.inc(1);
            }
        }
        for side in Side::REPLICATED {
            for _ in 0..extent.machines {
                figures.lost.push((side, lost::lose(side, folder, &self.litestream).await?));
            }
            bar.inc(1);
        }
        Ok(figures)
    }
}
