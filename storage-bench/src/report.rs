//! The tables of a run.

use storage_bench_harness::Measured;

use crate::bars;
use crate::results::{Phase, Results, Row};
use crate::table::{Table, figure};

/// The whole report: of each store the bars, the ratios, then the figures.
pub(crate) fn report(results: &Results) -> String {
    let stores = stores(results).into_iter();
    let text = |store| format!("# {}\n\n{}{}", title(store), bars(results, store), details(results, store));
    stores.map(text).collect()
}

/// The stores that the results are of.
pub(crate) fn stores(results: &Results) -> Vec<&'static str> {
    let is_measured = |store: &&str| results.rows.iter().any(|row| row.case.store == *store);
    ["sqlite", "postgres", "redis"].into_iter().filter(is_measured).collect()
}

/// What was to be reached on a store.
pub(crate) fn bars(results: &Results, store: &str) -> String {
    format!("{}\n", bars::table(results, store))
}

pub(crate) fn title(store: &str) -> &str {
    match store {
        "sqlite" => "SQLite",
        "postgres" => "Postgres",
        _ => "Redis",
    }
}

/// All figures of a store.
pub(crate) fn details(results: &Results, store: &str) -> String {
    let mut text = section(
        "## Ours divided by each",
        "Throughput at each number of callers, p99 of each divided by ours behind the slash; above 1 ours is ahead.",
        &ratios(results, store),
    );
    text.push_str(&section("## As fast as it goes", "", &closed(results, store)));
    text.push_str(&section(
        "## At fixed rates",
        "Latency counts from when an operation was due. Those in brackets did not keep up.",
        &fixed_rates(results, store),
    ));
    text.push_str(&section("## Many entries", "", &others(results, store, Phase::Listing)));
    text.push_str(&section(
        "## A growing store, ours, one caller",
        "",
        &others(results, store, Phase::Growth),
    ));
    let notes: Vec<&String> = results.notes.iter().filter(|note| note.starts_with(store)).collect();
    if !notes.is_empty() {
        text.push_str("## Notes\n\n");
        notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
    }
    text
}

fn section(title: &str, words: &str, table: &Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    let words = if words.is_empty() { String::new() } else { format!("{words}\n\n") };
    format!("{title}\n\n{words}{table}\n")
}

fn callers_text(count: usize) -> String {
    if count == 1 { "1 caller".into() } else { format!("{count} callers") }
}

fn ratios(results: &Results, store: &str) -> Table {
    let rows: Vec<&Row> = results.of(store, Phase::Closed).collect();
    let mut callers: Vec<usize> =
        rows.iter().filter(|row| row.case.contender == "ours").map(|row| row.case.callers).collect();
    callers.sort_unstable();
    callers.dedup();
    let header: Vec<String> = callers.iter().map(|count| callers_text(*count)).collect();
    let header = ["op", "bytes", "contender"].into_iter().chain(header.iter().map(String::as_str));
    let mut table = Table::new(3, &header.collect::<Vec<_>>());
    let mut seen: Vec<(&str, usize, &str)> = Vec::new();
    for row in &rows {
        let subject = (row.case.op.as_str(), row.case.value_bytes, row.case.contender);
        if subject.2 == "ours" || seen.contains(&subject) {
            continue;
        }
        seen.push(subject);
        let same =
            |other: &Row| (other.case.op.as_str(), other.case.value_bytes, other.case.contender) == subject;
        let cells = callers.iter().map(|count| {
            let limit = bars::is_limit(store, subject.2);
            let theirs = rows.iter().find(|other| same(other) && (limit || other.case.callers == *count));
            theirs.and_then(|theirs| ratio(results, theirs, *count)).unwrap_or_default()
        });
        let subject = [subject.0.to_owned(), subject.1.to_string(), subject.2.to_owned()];
        table.line(subject.into_iter().chain(cells).collect());
    }
    table
}

fn ratio(results: &Results, theirs: &Row, callers: usize) -> Option<String> {
    let ours = results.ours(theirs, callers)?;
    let throughput = figure(ours.ratio(theirs, |measured| measured.ops_per_s));
    if bars::is_limit(theirs.case.store, theirs.case.contender) {
        return Some(throughput);
    }
    Some(format!("{throughput} / {}", figure(theirs.ratio(ours, |measured| measured.p99_us))))
}

const FIGURES: [&str; 6] = ["ops/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/op", "peak MiB"];

fn figures(row: &Row) -> impl Iterator<Item = String> {
    let of: [fn(&Measured) -> f64; 6] = [
        |measured| measured.ops_per_s,
        |measured| measured.p50_us,
        |measured| measured.p99_us,
        |measured| measured.p999_us,
        |measured| measured.cpu_us_per_op,
        |measured| measured.peak_mib,
    ];
    of.map(|of| figure(row.median(of))).into_iter()
}

fn closed(results: &Results, store: &str) -> Table {
    let header = [&["op", "bytes", "contender", "callers"][..], &FIGURES].concat();
    let mut table = Table::new(3, &header);
    let mut rows: Vec<&Row> = results.of(store, Phase::Closed).collect();
    rows.sort_by_key(|row| (row.case.op.clone(), row.case.value_bytes, row.case.callers));
    for row in rows {
        let case = &row.case;
        let subject =
            [case.op.clone(), case.value_bytes.to_string(), case.contender.into(), case.callers.to_string()];
        table.line(subject.into_iter().chain(figures(row)).collect());
    }
    table
}

fn fixed_rates(results: &Results, store: &str) -> Table {
    let header = [&["op", "contender", "rate"][..], &FIGURES].concat();
    let mut table = Table::new(2, &header);
    for row in results.rows.iter().filter(|row| row.case.store == store) {
        let Phase::Rate(rate) = row.case.phase else { continue };
        let name = row.case.contender;
        let name = if row.keeps_up() { name.to_owned() } else { format!("({name})") };
        #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
        let subject = [row.case.op.clone(), name, figure(rate as f64)];
        table.line(subject.into_iter().chain(figures(row)).collect());
    }
    table
}

/// Listings and growth: times, and memory over what was held before.
fn others(results: &Results, store: &str, phase: Phase) -> Table {
    let header = ["op", "contender", "keys", "p50 ms", "p99 ms", "CPU ms", "peak MiB", "over idle"];
    let mut table = Table::new(2, &header);
    let mut rows: Vec<&Row> = results.of(store, phase).collect();
    rows.sort_by_key(|row| row.case.op.clone());
    for row in rows {
        let millis = |of: fn(&Measured) -> f64| format!("{:.3}", row.median(of) / 1000.0);
        table.line(vec![
            row.case.op.clone(),
            row.case.contender.into(),
            row.case.keys.to_string(),
            millis(|measured| measured.p50_us),
            millis(|measured| measured.p99_us),
            millis(|measured| measured.cpu_us_per_op),
            figure(row.median(|measured| measured.peak_mib)),
            figure(row.median(|measured| measured.peak_mib - measured.idle_mib)),
        ]);
    }
    table
}
