//! What is measured of each side.

use std::time::{Duration, Instant};

use serde::Serialize;
use storage_bench_harness::{Data, Job, Measured, Result, Task, measure};
use tokio::time::sleep;

use super::database::Database;
use super::place::{Place, Traffic};
use super::side::Side;

/// Writes per second of the load whose bytes are counted.
pub(super) const RATE: u32 = 100;
/// How often it is looked whether a write has arrived.
const LOOK: Duration = Duration::from_micros(500);
/// The longest that a write may be on its way, or a replica in its making.
const PATIENCE: Duration = Duration::from_secs(300);
/// A replica to which nothing was added for so long is made.
const QUIET: Duration = Duration::from_secs(2);
/// What follows a write, as the removal of something, follows soon.
const AFTER: Duration = Duration::from_millis(100);

/// How much is measured.
pub(super) struct Extent {
    pub(super) rows: u32,
    lone_writes: usize,
    seconds: f64,
    paced_seconds: f64,
    /// How many machines are lost.
    pub(super) machines: usize,
}

pub(super) const QUICK: Extent =
    Extent { rows: 100 * 1024, lone_writes: 10, seconds: 3.0, paced_seconds: 20.0, machines: 3 };
pub(super) const FULL: Extent =
    Extent { rows: 1024 * 1024, lone_writes: 50, seconds: 20.0, paced_seconds: 300.0, machines: 10 };

/// All of one side and place.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) place: &'static str,
    #[serde(serialize_with = "name")]
    pub(super) side: Side,
    /// As fast as it goes, with 1 and with 64 callers.
    pub(super) writes: [Measured; 2],
    pub(super) replica: Option<Replica>,
}

#[derive(Debug, Serialize)]
pub(super) struct Replica {
    pub(super) lone: Lone,
    /// How many writes came at the fixed rate.
    pub(super) paced_writes: f64,
    /// What they have added to a folder, or sent to a bucket.
    pub(super) paced: Traffic,
    /// All that a folder holds after that, or that was sent to a bucket.
    pub(super) all: Traffic,
    pub(super) restored_s: f64,
}

/// Writes that come alone, from the call on: medians, and the longest.
#[derive(Debug, Serialize)]
pub(super) struct Lone {
    pub(super) acknowledged_ms: f64,
    pub(super) arrived_ms: f64,
    pub(super) longest_ms: f64,
    pub(super) bytes: f64,
    pub(super) count: f64,
}

fn name<S: serde::Serializer>(side: &Side, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(side.name())
}

pub(super) async fn row(database: &Database<'_>, place: &Place, side: Side, extent: &Extent) -> Result<Row> {
    let replica = match side {
        Side::Alone => None,
        _ => Some(replica(database, place, extent).await?),
    };
    let one = load(database, extent, 1, extent.seconds, None).await?;
    let many = load(database, extent, 64, extent.seconds, None).await?;
    Ok(Row { place: place.name(), side, writes: [one, many], replica })
}

async fn replica(database: &Database<'_>, place: &Place, extent: &Extent) -> Result<Replica> {
    until(QUIET / 10, || database.has_begun()).await?;
    settled(place).await?;
    let lone = lone(database, place, extent).await?;
    let before = settled(place).await?;
    let rate = Some(f64::from(RATE));
    load(database, extent, 64, extent.paced_seconds, rate).await?;
    let all = settled(place).await?;
    let began = Instant::now();
    let rows = database.restore().await?;
    let restored_s = began.elapsed().as_secs_f64();
    if rows.len() != extent.rows as usize {
        return Err(format!("{} of {} rows were restored", rows.len(), extent.rows).into());
    }
    let paced = Traffic {
        bytes: all.bytes.saturating_sub(before.bytes),
        count: all.count.saturating_sub(before.count),
    };
    // The load runs a quarter longer than it counts.
    let paced_writes = f64::from(RATE) * extent.paced_seconds * 1.25;
    Ok(Replica { lone, paced_writes, paced, all, restored_s })
}

async fn lone(database: &Database<'_>, place: &Place, extent: &Extent) -> Result<Lone> {
    let mut seen: [Vec<f64>; 4] = Default::default();
    for _ in 0..extent.lone_writes {
        sleep(Duration::from_secs(1).mul_f64(fastrand::f64())).await;
        let (before, mark, began) = (place.traffic(), database.mark(), Instant::now());
        database.writer().write(fastrand::u32(..extent.rows)).await?;
        let acknowledged = began.elapsed();
        until(LOOK, || database.has_arrived(mark.as_deref())).await?;
        let arrived = began.elapsed();
        sleep(AFTER).await;
        let after = place.traffic();
        #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
        let added = [after.bytes.saturating_sub(before.bytes), after.count.saturating_sub(before.count)]
            .map(|added| added as f64);
        let [bytes, count] = added;
        let figures = [acknowledged.as_secs_f64() * 1e3, arrived.as_secs_f64() * 1e3, bytes, count];
        seen.iter_mut().zip(figures).for_each(|(seen, figure)| seen.push(figure));
    }
    let longest_ms = seen[1].iter().copied().fold(0.0, f64::max);
    let [acknowledged_ms, arrived_ms, bytes, count] = seen.map(median);
    Ok(Lone { acknowledged_ms, arrived_ms, longest_ms, bytes, count })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

async fn load(
    database: &Database<'_>,
    extent: &Extent,
    callers: usize,
    seconds: f64,
    rate: Option<f64>,
) -> Result<Measured> {
    let data = Data { prefix: "row".into(), keys: extent.rows.into(), value_bytes: 220 };
    let (store, contender, target) = ("managed".into(), String::new(), String::new());
    let job = Job { store, contender, target, task: Task::Set, callers, data, seconds, rate };
    let measured = measure(database.writer(), &job).await?;
    match &measured.first_error {
        Some(error) => Err(error.as_str().into()),
        None => Ok(measured),
    }
}

/// What there is once nothing comes any more.
async fn settled(place: &Place) -> Result<Traffic> {
    let (mut last, mut since) = (place.traffic(), Instant::now());
    until(QUIET / 10, || {
        let now = place.traffic();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        Ok(since.elapsed() >= QUIET)
    })
    .await?;
    Ok(last)
}

async fn until(look: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() > PATIENCE {
            return Err(format!("nothing has arrived for {} s", PATIENCE.as_secs()).into());
        }
        sleep(look).await;
    }
    Ok(())
}
