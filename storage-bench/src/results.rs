//! What was measured: medians over the rounds, and ratios.

use serde::Serialize;
use storage_bench_harness::Measured;

/// In which part of the run something was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// As fast as it goes, on a store of fixed size.
    Closed,
    /// At this rate.
    Rate(u64),
    /// Many entries at once.
    Listing,
    /// On a store that grows.
    Growth,
}

/// What one measurement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) store: &'static str,
    pub(crate) op: String,
    pub(crate) contender: &'static str,
    pub(crate) callers: usize,
    pub(crate) value_bytes: usize,
    pub(crate) keys: u64,
    pub(crate) phase: Phase,
}

/// A case with what each round measured.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) case: Case,
    rounds: Vec<Measured>,
}

/// A row as it stands in the file of results.
#[derive(Debug, Serialize)]
struct Line<'a> {
    store: &'a str,
    op: &'a str,
    contender: &'a str,
    callers: usize,
    value_bytes: usize,
    keys: u64,
    ops_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    cpu_us_per_op: f64,
    peak_mib: f64,
}

impl Row {
    /// The median over the rounds.
    pub(crate) fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    pub(crate) fn ops_per_s(&self) -> f64 {
        self.median(|measured| measured.ops_per_s)
    }

    /// The median over the rounds of this row's figure divided by the other's in the same round.
    pub(crate) fn ratio(&self, other: &Row, of: impl Fn(&Measured) -> f64) -> f64 {
        median(self.rounds.iter().zip(&other.rounds).map(|(this, other)| of(this) / of(other)).collect())
    }

    /// Whether it kept up with its rate, if it had one.
    pub(crate) fn keeps_up(&self) -> bool {
        match self.case.phase {
            #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
            Phase::Rate(rate) => self.ops_per_s() >= 0.95 * rate as f64,
            _ => true,
        }
    }

    fn line(&self) -> Line<'_> {
        let case = &self.case;
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        Line {
            store: case.store,
            op: &case.op,
            contender: case.contender,
            callers: case.callers,
            value_bytes: case.value_bytes,
            keys: case.keys,
            // Listings take seconds: fewer than one in a second is a rate, too.
            ops_per_s: (self.ops_per_s() * 1000.0).round() / 1000.0,
            p50_us: tenths(self.median(|measured| measured.p50_us)),
            p99_us: tenths(self.median(|measured| measured.p99_us)),
            p999_us: tenths(self.median(|measured| measured.p999_us)),
            cpu_us_per_op: (self.median(|measured| measured.cpu_us_per_op) * 1000.0).round() / 1000.0,
            peak_mib: tenths(self.median(|measured| measured.peak_mib)),
        }
    }
}

/// The middle one, or the mean of the middle two; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |position: usize| values.get(position).copied().unwrap_or_default();
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

/// All rows, in the order of their first round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<Row>,
    /// What could not be measured and what failed, once each.
    pub(crate) notes: Vec<String>,
}

impl Results {
    /// Adds a round of a case.
    pub(crate) fn add(&mut self, case: Case, measured: Measured) {
        if measured.errors > 0 {
            let first = measured.first_error.as_deref().unwrap_or("no reason given");
            self.note(format!("{} {}, {}: operations failed: {first}", case.store, case.contender, case.op));
        }
        match self.rows.iter_mut().find(|row| row.case == case) {
            Some(row) => row.rounds.push(measured),
            None => self.rows.push(Row { case, rounds: vec![measured] }),
        }
    }

    /// Says something, unless it was said already.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Drops what was not measured, and of a contender that was `tried` with several callers all but the best.
    pub(crate) fn finish(&mut self, tried: &str) {
        let best = |rows: &[Row], row: &Row| {
            let rivals = rows
                .iter()
                .filter(|rival| Case { callers: row.case.callers, ..rival.case.clone() } == row.case);
            rivals.map(Row::ops_per_s).all(|rival| rival <= row.ops_per_s())
        };
        let rows = std::mem::take(&mut self.rows);
        let keeps = |row: &Row| row.ops_per_s() > 0.0 && (row.case.contender != tried || best(&rows, row));
        self.rows = rows.iter().filter(|row| keeps(row)).cloned().collect();
    }

    /// The rows of a store in a phase.
    pub(crate) fn of<'a>(&'a self, store: &'a str, phase: Phase) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.case.store == store && row.case.phase == phase)
    }

    /// What ours did under the same load as `row`; of a limit, under the load of `callers`.
    pub(crate) fn ours(&self, row: &Row, callers: usize) -> Option<&Row> {
        let case = Case { contender: "ours", callers, ..row.case.clone() };
        self.rows.iter().find(|row| row.case == case)
    }

    /// One JSON object per line, of all that kept up with their load.
    ///
    /// # Errors
    /// None that can happen: the rows serialize.
    pub(crate) fn json_lines(&self) -> serde_json::Result<String> {
        let rows = self.rows.iter().filter(|row| row.keeps_up());
        rows.map(|row| Ok(serde_json::to_string(&row.line())? + "\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(contender: &'static str, callers: usize) -> Case {
        Case {
            store: "sqlite",
            op: "get".into(),
            contender,
            callers,
            value_bytes: 220,
            keys: 100,
            phase: Phase::Closed,
        }
    }

    fn measured(ops_per_s: f64) -> Measured {
        Measured { ops_per_s, p50_us: 1.0, ..Measured::default() }
    }

    fn results(rounds: &[(&'static str, usize, f64)]) -> Results {
        let mut results = Results::default();
        for (contender, callers, ops) in rounds {
            results.add(case(contender, *callers), measured(*ops));
        }
        results
    }

    #[test]
    fn medians_by_table() {
        for (values, expected) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 9.0], 3.0)]
        {
            assert_eq!(median(values.clone()), expected, "{values:?}");
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_each_round() {
        let rounds = [
            ("ours", 1, 10.0),
            ("sqlx", 1, 5.0),
            ("ours", 1, 90.0),
            ("sqlx", 1, 30.0),
            ("ours", 1, 20.0),
            ("sqlx", 1, 2.0),
        ];
        let results = results(&rounds);
        let [ours, sqlx] = &results.rows[..] else { panic!() };
        assert_eq!(ours.ops_per_s(), 20.0);
        assert_eq!(ours.ratio(sqlx, |measured| measured.ops_per_s), 3.0);
        assert_eq!(results.ours(sqlx, 1).unwrap().case, ours.case);
    }

    #[test]
    fn of_several_sizes_of_a_limit_the_best_is_kept() {
        let mut results = results(&[
            ("pgbench", 16, 5.0),
            ("pgbench", 64, 7.0),
            ("ours", 16, 1.0),
            ("ours", 64, 2.0),
            ("fred", 64, 0.0),
        ]);
        results.finish("pgbench");
        let kept: Vec<_> = results.rows.iter().map(|row| (row.case.contender, row.case.callers)).collect();
        assert_eq!(kept, [("pgbench", 64), ("ours", 16), ("ours", 64)]);
    }

    #[test]
    fn a_line_has_exactly_the_agreed_fields_and_who_cannot_keep_up_has_none() {
        let mut results = results(&[("ours", 16, 1234.5678)]);
        results.add(Case { phase: Phase::Rate(1_000), ..case("sqlx", 64) }, measured(500.0));
        let lines = results.json_lines().unwrap();
        assert_eq!(
            lines,
            "{\"store\":\"sqlite\",\"op\":\"get\",\"contender\":\"ours\",\"callers\":16,\"value_bytes\":220,\
             \"keys\":100,\"ops_per_s\":1234.568,\"p50_us\":1.0,\"p99_us\":0.0,\"p999_us\":0.0,\
             \"cpu_us_per_op\":0.0,\"peak_mib\":0.0}\n"
        );
    }

    #[test]
    fn failed_operations_are_told_once() {
        let mut results = Results::default();
        for _ in 0..2 {
            let failed = Measured { errors: 3, first_error: Some("locked".into()), ..measured(1.0) };
            results.add(case("opendal", 1), failed);
        }
        assert_eq!(results.notes, ["sqlite opendal, get: operations failed: locked"]);
    }
}
