//! What the project set out to reach, beside what was measured.

use storage_bench_harness::Measured;

use crate::plan;
use crate::results::{Case, Phase, Results, Row};
use crate::table::{Table, figure};

const SHORT: usize = 220;

/// What decides how a ratio comes out on another machine.
const FLUSH: &str = "flush";
const WAKE_UP: &str = "wake-up";
const BOTH: &str = "flush, wake-up";
const PROCESSOR: &str = "processor";
const CACHES: &str = "caches";
const NOTHING: &str = "-";

/// Figures that must be reached.
struct Bar {
    what: String,
    measured: Vec<(f64, Bound)>,
    depends: &'static str,
}

/// On which side of a figure to be.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn is_met(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(bound) => measured >= bound,
            Self::AtMost(bound) => measured <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}", figure(bound)),
            Self::AtMost(bound) => format!("≤ {}", figure(bound)),
        }
    }
}

impl Bar {
    fn line(self) -> Vec<String> {
        let bounds: Vec<String> = self.measured.iter().map(|(_, bound)| bound.text()).collect();
        let figures: Vec<String> = self.measured.iter().map(|(measured, _)| figure(*measured)).collect();
        let is_met = self.measured.iter().all(|(measured, bound)| bound.is_met(*measured));
        let met = if is_met { "yes" } else { "NO" };
        vec![self.what, bounds.join(" / "), figures.join(" / "), met.into(), self.depends.into()]
    }
}

/// Store, operation, callers of ours, who to compare with, least ratio, and what it depends on.
type AtLeast = (&'static str, &'static str, usize, &'static str, f64, &'static str);

/// Ratios that are to be reached on any machine: on one whose flushes and wake-ups are cheap, what is shared among callers
/// saves less.
const THROUGHPUT: [AtLeast; 14] = [
    ("sqlite", "set", 256, "tokio-rusqlite", 5.0, FLUSH),
    ("sqlite", "set", 256, "raw-256", 0.6, WAKE_UP),
    ("sqlite", "get", 64, "raw-1-thread", 1.0, WAKE_UP),
    ("sqlite", "get", 1, "tokio-rusqlite", 1.2, WAKE_UP),
    ("postgres", "get", 256, "pgbench", 3.5, WAKE_UP),
    ("postgres", "set", 256, "pgbench", 4.0, BOTH),
    ("postgres", "get", 1, "tokio-postgres", 0.9, WAKE_UP),
    ("postgres", "set", 1, "tokio-postgres", 0.9, BOTH),
    ("redis", "get", 256, "redis-benchmark-p1", 2.5, WAKE_UP),
    ("redis", "set", 256, "redis-benchmark-p1", 2.5, WAKE_UP),
    ("redis", "get", 256, "bb8-redis", 5.0, WAKE_UP),
    ("redis", "set", 256, "bb8-redis", 5.0, WAKE_UP),
    ("redis", "get", 1, "redis", 0.9, WAKE_UP),
    ("redis", "set", 1, "redis", 0.9, WAKE_UP),
];
/// Least throughput beside each peer, and least p99 of each divided by ours.
const PEERS: (f64, f64) = (1.0, 0.9);

/// All bars that the results say something about.
pub(crate) fn table(results: &Results, store: &str) -> Table {
    let mut table =
        Table::new(1, &["ours / other, unless said otherwise", "bar", "measured", "met", "depends on"]);
    let mut bars: Vec<Bar> = THROUGHPUT.iter().filter_map(|bar| throughput(results, store, *bar)).collect();
    bars.extend(peers(results, store));
    bars.extend(listings(results, store));
    bars.extend(growth(results, store));
    bars.into_iter().for_each(|bar| table.line(bar.line()));
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

fn throughput(
    results: &Results,
    wanted: &str,
    (store, op, callers, who, bound, depends): AtLeast,
) -> Option<Bar> {
    if store != wanted {
        return None;
    }
    let ours = find(results, store, op, callers, "ours")?;
    let measured = ours.ratio(find(results, store, op, callers, who)?, |measured| measured.ops_per_s);
    let what = format!("{op}, {callers} {}: {who}", if callers == 1 { "caller" } else { "callers" });
    Some(Bar { what, measured: vec![(measured, Bound::AtLeast(bound))], depends })
}

/// Not behind any peer at 16 callers and more: the worst case of each.
fn peers(results: &Results, store: &str) -> Vec<Bar> {
    let all = plan::contestants(store).iter().filter(|contestant| contestant.part == plan::Part::Every);
    all.skip(1).filter_map(|peer| beside(results, store, peer.name)).collect()
}

fn beside(results: &Results, store: &str, name: &str) -> Option<Bar> {
    let rows = results.of(store, Phase::Closed);
    let rows = rows.filter(|row| row.case.contender == name && row.case.callers >= 16);
    let pairs: Vec<(&Row, &Row)> =
        rows.filter_map(|row| Some((results.ours(row, row.case.callers)?, row))).collect();
    let worst = |ratio: &dyn Fn(&Row, &Row) -> f64| {
        let all = pairs.iter().map(|(ours, peer)| (ratio(ours, peer), &peer.case));
        all.min_by(|(left, _), (right, _)| left.total_cmp(right))
    };
    let (throughput, case) = worst(&|ours, peer| ours.ratio(peer, |measured| measured.ops_per_s))?;
    let (p99, late) = worst(&|ours, peer| peer.ratio(ours, |measured| measured.p99_us))?;
    let load = |case: &Case| format!("{} {}, {} B", case.op, case.callers, case.value_bytes);
    let what = format!("{name}, at worst ({}) / its p99 over ours ({})", load(case), load(late));
    let measured = vec![(throughput, Bound::AtLeast(PEERS.0)), (p99, Bound::AtLeast(PEERS.1))];
    Some(Bar { what, measured, depends: BOTH })
}

fn listings(results: &Results, store: &str) -> Vec<Bar> {
    let find = |op: &str, who: &str| {
        results.of(store, Phase::Listing).find(|row| row.case.op == op && row.case.contender == who)
    };
    let bare = plan::bare_listing(store);
    let mut bars = Vec::new();
    if let (Some(ours), Some(theirs)) = (find("list_deals", "ours"), find("list_deals", bare)) {
        let what = format!("list_deals of {}: time, ours / {bare}", ours.case.keys);
        let measured = ours.ratio(theirs, |measured| measured.p50_us);
        bars.push(Bar { what, measured: vec![(measured, Bound::AtMost(1.5))], depends: PROCESSOR });
    }
    if let Some(scan) = find("scan", "ours") {
        let what = format!("scan of {}: peak over idle, MiB", scan.case.keys);
        let over_idle = |measured: &Measured| measured.peak_mib - measured.idle_mib;
        let measured = vec![(scan.median(over_idle), Bound::AtMost(64.0))];
        bars.push(Bar { what, measured, depends: NOTHING });
    }
    bars
}

/// The bound holds on SQL stores; how Redis grows is stated in the table of growth.
fn growth(results: &Results, store: &str) -> Vec<Bar> {
    if store == "redis" {
        return Vec::new();
    }
    let mut figures = Vec::new();
    let mut sizes = None;
    for op in ["get", "set", "page_100"] {
        let rows: Vec<&Row> = results.of(store, Phase::Growth).filter(|row| row.case.op == op).collect();
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            figures.push((last.ratio(first, |measured| measured.p50_us), Bound::AtMost(2.0)));
            sizes = Some((last.case.keys, first.case.keys));
        }
    }
    let bar = |(many, few)| Bar {
        what: format!("get / set / page of 100: time at {many} keys over that at {few}"),
        measured: figures,
        depends: CACHES,
    };
    sizes.map(bar).into_iter().collect()
}
