//! What the project set out to reach, beside what was measured.

use storage_bench_harness::Measured;

use crate::plan;
use crate::results::{Case, Phase, Results, Row};
use crate::table::{Table, figure};

const SHORT: usize = 220;

/// Figures that must be reached.
struct Bar {
    store: &'static str,
    what: String,
    measured: f64,
    bound: Bound,
}

/// On which side of a figure to be.
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.measured >= bound,
            Bound::AtMost(bound) => self.measured <= bound,
        }
    }
}

/// Store, operation, callers of ours, who to compare with, their callers if they are not the same, least ratio.
type AtLeast = (&'static str, &'static str, usize, &'static str, f64);

const THROUGHPUT: [AtLeast; 12] = [
    ("sqlite", "set", 256, "tokio-rusqlite", 12.0),
    ("sqlite", "set", 256, "raw-256", 0.45),
    ("sqlite", "get", 64, "raw-1-thread", 1.0),
    ("sqlite", "get", 1, "tokio-rusqlite", 1.2),
    ("postgres", "get", 256, "pgbench", 4.5),
    ("postgres", "set", 256, "pgbench", 8.0),
    ("redis", "get", 256, "redis-benchmark-p1", 2.5),
    ("redis", "set", 256, "redis-benchmark-p1", 2.5),
    ("redis", "get", 256, "bb8-redis", 6.0),
    ("redis", "set", 256, "bb8-redis", 6.0),
    ("redis", "get", 1, "redis", 0.9),
    ("redis", "set", 1, "redis", 0.9),
];
const ONE_CALLER: [AtLeast; 2] =
    [("postgres", "get", 1, "tokio-postgres", 0.9), ("postgres", "set", 1, "tokio-postgres", 0.9)];

/// All bars that the results say something about.
pub(crate) fn table(results: &Results) -> Table {
    let mut table = Table::new(2, &["store", "what", "bar", "measured", "met"]);
    let mut bars: Vec<Bar> =
        THROUGHPUT.iter().chain(&ONE_CALLER).filter_map(|bar| throughput(results, *bar)).collect();
    for store in ["sqlite", "postgres", "redis"] {
        bars.extend(peers(results, store));
        bars.extend(listings(results, store));
        bars.extend(growth(results, store));
    }
    bars.sort_by_key(|bar| ["sqlite", "postgres", "redis"].iter().position(|store| *store == bar.store));
    for bar in bars {
        let (sign, bound) = match bar.bound {
            Bound::AtLeast(bound) => ("≥", bound),
            Bound::AtMost(bound) => ("≤", bound),
        };
        let met = if bar.is_met() { "yes" } else { "NO" };
        let bound = format!("{sign} {}", figure(bound));
        table.line(vec![bar.store.into(), bar.what, bound, figure(bar.measured), met.into()]);
    }
    table
}

fn find<'a>(results: &'a Results, store: &'a str, op: &str, callers: usize, who: &str) -> Option<&'a Row> {
    results.of(store, Phase::Closed).find(|row| {
        let Case { op: of, contender, callers: count, value_bytes, .. } = &row.case;
        // A limit has callers of its own.
        let callers_fit = *count == callers || is_limit(store, who);
        of == op && *contender == who && *value_bytes == SHORT && callers_fit
    })
}

/// Whether a contender's number of callers is its own.
pub(crate) fn is_limit(store: &str, contender: &str) -> bool {
    let found = plan::contestants(store).iter().find(|contestant| contestant.name == contender);
    found.is_some_and(|contestant| contestant.part != plan::Part::Every)
}

fn throughput(results: &Results, (store, op, callers, who, bound): AtLeast) -> Option<Bar> {
    let ours = find(results, store, op, callers, "ours")?;
    let measured = ours.ratio(find(results, store, op, callers, who)?, |measured| measured.ops_per_s);
    let what = format!("{op}, {callers} {}: ours / {who}", if callers == 1 { "caller" } else { "callers" });
    Some(Bar { store, what, measured, bound: Bound::AtLeast(bound) })
}

/// Ahead of every peer at 16 callers and more: the worst case of each.
fn peers(results: &Results, store: &'static str) -> Vec<Bar> {
    let mut bars = Vec::new();
    for peer in
        plan::contestants(store).iter().filter(|contestant| contestant.part == plan::Part::Every).skip(1)
    {
        let rows = results.of(store, Phase::Closed);
        let rows = rows.filter(|row| row.case.contender == peer.name && row.case.callers >= 16);
        let pairs: Vec<(&Row, &Row)> =
            rows.filter_map(|row| Some((results.ours(row, row.case.callers)?, row))).collect();
        let mut add = |figure: &str, ratio: &dyn Fn(&Row, &Row) -> f64| {
            let worst = pairs.iter().map(|(ours, peer)| (ratio(ours, peer), &peer.case));
            if let Some((measured, case)) = worst.min_by(|(left, _), (right, _)| left.total_cmp(right)) {
                let what = format!(
                    "{figure}, at worst ({}, {} callers, {} B)",
                    case.op, case.callers, case.value_bytes
                );
                bars.push(Bar { store, what, measured, bound: Bound::AtLeast(1.0) });
            }
        };
        add(&format!("throughput, ours / {}", peer.name), &|ours, peer| {
            ours.ratio(peer, |measured| measured.ops_per_s)
        });
        add(&format!("p99, {} / ours", peer.name), &|ours, peer| {
            peer.ratio(ours, |measured| measured.p99_us)
        });
    }
    bars
}

fn listings(results: &Results, store: &'static str) -> Vec<Bar> {
    let find = |op: &str, who: &str| {
        results.of(store, Phase::Listing).find(|row| row.case.op == op && row.case.contender == who)
    };
    let bare = plan::bare_listing(store);
    let mut bars = Vec::new();
    if let (Some(ours), Some(theirs)) = (find("list_deals", "ours"), find("list_deals", bare)) {
        let what = format!("list_deals of {}: time, ours / {bare}", ours.case.keys);
        let measured = ours.ratio(theirs, |measured| measured.p50_us);
        bars.push(Bar { store, what, measured, bound: Bound::AtMost(1.5) });
    }
    if let Some(scan) = find("scan", "ours") {
        let what = format!("scan of {}: peak over idle, MiB", scan.case.keys);
        let over_idle = |measured: &Measured| measured.peak_mib - measured.idle_mib;
        bars.push(Bar { store, what, measured: scan.median(over_idle), bound: Bound::AtMost(64.0) });
    }
    bars
}

/// The bound holds on SQL stores; how Redis grows is stated in the table of growth.
fn growth(results: &Results, store: &'static str) -> Vec<Bar> {
    if store == "redis" {
        return Vec::new();
    }
    let mut bars = Vec::new();
    for op in ["get", "set", "page_100"] {
        let rows: Vec<&Row> = results.of(store, Phase::Growth).filter(|row| row.case.op == op).collect();
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            let what = format!("{op}: time at {} keys / at {} keys", last.case.keys, first.case.keys);
            let measured = last.ratio(first, |measured| measured.p50_us);
            bars.push(Bar { store, what, measured, bound: Bound::AtMost(2.0) });
        }
    }
    bars
}
