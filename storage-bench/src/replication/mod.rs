//! Managed SQLite beside Litestream: the same writes to the same database, in one run.

mod database;
mod figures;
mod litestream;
mod lost;
mod measures;
mod place;
pub(crate) mod side;
mod writer;

use std::path::Path;

use storage_bench_harness::Result;

use database::Database;
use figures::Figures;
use litestream::Litestream;
pub(crate) use lost::live;
use measures::{Extent, FULL, QUICK, row};
use place::Place;
use side::Side;

use crate::args::Litestream as Arguments;
use crate::campaign::progress;

/// Measures and reports.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.folder)?;
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let extent = if arguments.quick { QUICK } else { FULL };
    let version = Litestream::version(&arguments.litestream)?;
    let figures = Figures {
        quick: arguments.quick,
        version,
        ..measure(&extent, folder.path(), &arguments.litestream).await?
    };
    println!("{figures}");
    if let Some(file) = &arguments.json {
        figures.append_json(file)?;
    }
    arguments.record.as_deref().map_or(Ok(()), |root| figures.record(root))
}

async fn measure(extent: &Extent, folder: &Path, program: &Path) -> Result<Figures> {
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
            let database = Database::open(side, &place, disk, &seed, program).await?;
            figures.rows.push(row(&database, &place, side, extent).await?);
            bar.inc(1);
        }
    }
    for side in Side::REPLICATED {
        for _ in 0..extent.machines {
            figures.lost.push((side, lost::lose(side, folder, program).await?));
        }
        bar.inc(1);
    }
    Ok(figures)
}
