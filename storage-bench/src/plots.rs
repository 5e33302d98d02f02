//! Plots: throughput over callers, latency over rate, time over the size of the store.

use std::path::Path;

use plotters::prelude::*;
use storage_bench_harness::{Measured, Result};

use crate::plan;
use crate::plan::Part;
use crate::results::{Phase, Results, Row};

const SIZE: (u32, u32) = (900, 540);

/// One plot: named lines through points, both axes logarithmic.
struct Plot {
    title: String,
    x: &'static str,
    y: &'static str,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Writes the plots of a store into a folder, which is made if it is missing, in place of those of an earlier run. Returns
/// their names.
///
/// # Errors
/// Where the folder cannot be written.
pub(crate) fn draw(results: &Results, store: &str, folder: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(folder)?;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        let is_of_store = |name: &str| name.split('-').nth(1) == Some(store);
        if path.file_stem().and_then(|name| name.to_str()).is_some_and(is_of_store) {
            std::fs::remove_file(path)?;
        }
    }
    let mut plots = Vec::new();
    for op in ["get", "set"] {
        let mut sizes: Vec<usize> =
            results.of(store, Phase::Closed).map(|row| row.case.value_bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let throughput =
            |bytes| (format!("throughput-{store}-{op}-{bytes}"), throughput(results, store, op, bytes));
        plots.extend(sizes.into_iter().map(throughput));
        plots.push((format!("latency-{store}-{op}"), latency(results, store, op)));
    }
    plots.push((format!("growth-{store}"), growth(results, store)));
    let mut names = Vec::new();
    for (name, plot) in plots {
        if plot.write(folder, &name)? {
            names.push(format!("{name}.svg"));
        }
    }
    Ok(names)
}

#[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
fn throughput(results: &Results, store: &str, op: &str, bytes: usize) -> Plot {
    let mut lines = Vec::new();
    for contestant in plan::contestants(store) {
        let rows = results.of(store, Phase::Closed).filter(|row| {
            (row.case.op.as_str(), row.case.value_bytes, row.case.contender) == (op, bytes, contestant.name)
        });
        let mut points: Vec<(f64, f64)> =
            rows.map(|row| (row.case.callers as f64, row.ops_per_s())).collect();
        if contestant.part != Part::Every {
            // A limit does not depend on callers: a level.
            let ours = results.of(store, Phase::Closed).filter(|row| row.case.contender == "ours");
            let callers: Vec<f64> = ours.map(|row| row.case.callers as f64).collect();
            let level = points.first().map(|(_, level)| *level);
            let ends = [
                callers.iter().copied().fold(f64::MAX, f64::min),
                callers.iter().copied().fold(1.0, f64::max),
            ];
            points = level.iter().flat_map(|level| ends.map(|end| (end, *level))).collect();
        }
        lines.push((contestant.name.to_owned(), points));
    }
    let title = format!("{store}: {op} of {bytes} bytes, operations per second");
    Plot { title, x: "callers", y: "operations per second", lines }
}

#[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
fn latency(results: &Results, store: &str, op: &str) -> Plot {
    let op = format!("{op}_fixed_rate");
    let mut lines = Vec::new();
    for contestant in plan::contestants(store) {
        let rows = results.rows.iter().filter(|row| {
            (row.case.store, row.case.op.as_str(), row.case.contender)
                == (store, op.as_str(), contestant.name)
                && row.keeps_up()
        });
        let point = |row: &Row| match row.case.phase {
            Phase::Rate(rate) => Some((rate as f64, row.median(|measured| measured.p99_us))),
            _ => None,
        };
        lines.push((contestant.name.to_owned(), rows.filter_map(point).collect()));
    }
    let title = format!("{store}: {op}, p99 of those that keep up");
    Plot { title, x: "operations per second", y: "p99 in microseconds", lines }
}

#[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
fn growth(results: &Results, store: &str) -> Plot {
    let time = |measured: &Measured| measured.p50_us;
    let lines = ["get", "set", "keys", "page_100", "sweep"].map(|op| {
        let rows = results.of(store, Phase::Growth).filter(|row| row.case.op == op);
        (op.to_owned(), rows.map(|row| (row.case.keys as f64, row.median(time))).collect())
    });
    let title = format!("{store}: time of one operation as the store grows, ours");
    Plot { title, x: "keys in the store", y: "median in microseconds", lines: lines.into() }
}

impl Plot {
    /// Writes the plot, unless there is nothing to see.
    fn write(mut self, folder: &Path, name: &str) -> Result<bool> {
        for (_, points) in &mut self.lines {
            points.retain(|(x, y)| *x > 0.0 && *y > 0.0 && y.is_finite());
            points.sort_by(|left, right| left.0.total_cmp(&right.0));
        }
        self.lines.retain(|(_, points)| !points.is_empty());
        let x = bounds(self.lines.iter().flat_map(|(_, points)| points.iter().map(|(x, _)| *x)));
        let y = bounds(self.lines.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y)));
        if x.0 >= x.1 {
            return Ok(false);
        }
        // Room for the names on the right.
        let x = (x.0, x.1 * (x.1 / x.0).powf(0.3));
        let file = folder.join(format!("{name}.svg"));
        self.render(&file, x, y).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(true)
    }

    fn render(&self, file: &Path, x: (f64, f64), y: (f64, f64)) -> Result<()> {
        let text = |error: DrawingAreaErrorKind<_>| error.to_string();
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(90)
            .build_cartesian_2d((x.0..x.1).log_scale(), (y.0 * 0.8..y.1 * 1.25).log_scale())
            .map_err(text)?;
        chart.configure_mesh().light_line_style(WHITE).x_desc(self.x).y_desc(self.y).draw().map_err(text)?;
        for (position, (name, points)) in self.lines.iter().enumerate() {
            let colour = Palette99::pick(position).to_rgba();
            let width = if name == "ours" { 4 } else { 2 };
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(width)).point_size(3);
            chart
                .draw_series(line)
                .map_err(text)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(width)));
        }
        let labels = &mut chart.configure_series_labels();
        labels.background_style(WHITE.mix(0.8)).border_style(BLACK).position(SeriesLabelPosition::UpperRight);
        labels.draw().map_err(text)?;
        area.present().map_err(text)?;
        Ok(())
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)))
}
