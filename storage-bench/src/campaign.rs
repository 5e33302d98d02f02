//! The run: one store after the other, all contenders one after the other under each load, all of it several times.

use indicatif::{ProgressBar, ProgressStyle};
use storage_bench_harness::{Data, Job, Measured, Result, Task};
use tokio::runtime::Runtime;

use crate::dataset::Store;
use crate::plan::{self, Contestant, Part, Plan, Program, RATE_CALLERS};
use crate::results::{Case, Phase, Results};
use crate::workers::Workers;

const BOTH: [Task; 2] = [Task::Get, Task::Set];
/// Limits that are tried with several callers.
const TRIED: &str = "pgbench";

/// Measures.
pub(crate) struct Campaign {
    plan: Plan,
    workers: Workers,
    runtime: Runtime,
    results: Results,
}

/// Entries in a store.
struct Dataset<'a> {
    store: &'a Store,
    target: String,
    data: Data,
    /// Keeps SQLite's log as large as it is.
    log: Option<rusqlite::Connection>,
}

/// One measurement to make.
#[derive(Clone, Copy)]
struct Measurement {
    contestant: Contestant,
    task: Task,
    callers: usize,
    rate: Option<u64>,
}

impl Campaign {
    pub(crate) fn new(plan: Plan, workers: Workers) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { plan, workers, runtime, results: Results::default() })
    }

    /// Measures on all stores.
    ///
    /// # Errors
    /// Where a store cannot be prepared. A contender that fails is noted instead.
    pub(crate) fn run(mut self, stores: &[Store]) -> Result<Results> {
        for store in stores {
            let [short, long] = self.plan.data.clone();
            let dataset = self.prepare(store, "small", short)?;
            self.closed(&dataset, 0);
            self.list_deals(&dataset);
            self.fixed_rates(&dataset);
            let dataset = self.prepare(store, "large", long)?;
            self.closed(&dataset, 1);
            self.growth(store)?;
        }
        self.results.finish(TRIED);
        Ok(self.results)
    }

    /// The versions of the stores.
    pub(crate) fn versions(&self, stores: &[Store]) -> Vec<String> {
        stores.iter().filter_map(|store| self.runtime.block_on(store.version()).ok()).collect()
    }

    fn prepare<'a>(&mut self, store: &'a Store, phase: &str, data: Data) -> Result<Dataset<'a>> {
        let target = self.runtime.block_on(store.fresh(phase))?;
        let mut dataset = Dataset { store, target, data, log: None };
        let first = plan::contestants(store.name).iter().take(1);
        let others = plan::contestants(store.name).iter().skip(1);
        // Ours first: others copy what it wrote.
        let all: Vec<Contestant> =
            first.chain(others).filter(|contestant| self.workers.can_run(contestant)).copied().collect();
        let bar = progress(&format!("{} {phase}: writing the entries", store.name), all.len());
        for contestant in all {
            let job = dataset.job(&Measurement { contestant, task: Task::Seed, callers: 1, rate: None }, 0.0);
            let done = self.workers.run(&contestant, &job);
            match done {
                Err(error) if contestant.name == "ours" => return Err(format!("cannot seed: {error}").into()),
                Err(error) => self.results.note(format!("{} {}: seed: {error}", store.name, contestant.name)),
                Ok(_) => {}
            }
            bar.inc(1);
        }
        self.runtime.block_on(store.settle(&dataset.target))?;
        dataset.log = store.grown_log(&dataset.target)?;
        Ok(dataset)
    }

    /// Every contender under every load.
    fn closed(&mut self, dataset: &Dataset<'_>, size: usize) {
        let callers = self.plan.callers.get(size).cloned().unwrap_or_default();
        let loads = callers.iter().flat_map(|callers| BOTH.map(|task| (task, *callers)));
        let groups: Vec<Vec<Measurement>> =
            loads.map(|(task, count)| self.measurements(dataset.store.name, task, count, &callers)).collect();
        self.measure_all(dataset, "as fast as it goes", &groups, |_| Phase::Closed);
    }

    /// Who is measured on `task` with `callers`: everybody, and the limits that belong beside them.
    fn measurements(
        &self,
        store: &str,
        task: Task,
        callers: usize,
        all_callers: &[usize],
    ) -> Vec<Measurement> {
        let mut measurements = Vec::new();
        for contestant in self.present(store) {
            let measurement = |callers| Measurement { contestant, task, callers, rate: None };
            match contestant.part {
                Part::Every => measurements.push(measurement(callers)),
                Part::Limit { tasks, callers: own, beside } => {
                    let beside = if all_callers.contains(&beside) {
                        Some(beside)
                    } else {
                        all_callers.last().copied()
                    };
                    if tasks.contains(&task) && beside == Some(callers) {
                        measurements.extend(own.iter().map(|callers| measurement(*callers)));
                    }
                }
            }
        }
        measurements
    }

    fn present(&self, store: &str) -> Vec<Contestant> {
        let all = plan::contestants(store).iter();
        all.filter(|contestant| self.workers.can_run(contestant)).copied().collect()
    }

    /// The same rates for all, as shares of what ours reaches.
    fn fixed_rates(&mut self, dataset: &Dataset<'_>) {
        let mut groups = Vec::new();
        for task in BOTH {
            let reached = self.results.of(dataset.store.name, Phase::Closed).find(|row| {
                let case = &row.case;
                case.contender == "ours" && case.op == task.name() && case.callers == RATE_CALLERS
            });
            let Some(reached) = reached.map(|row| row.ops_per_s()) else { continue };
            for share in &self.plan.rates {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate")]
                let rate = Some((reached * share) as u64);
                let all = self.measurements(dataset.store.name, task, RATE_CALLERS, &[]);
                groups.push(all.into_iter().map(|measurement| Measurement { rate, ..measurement }).collect());
            }
        }
        self.measure_all(dataset, "at fixed rates", &groups, |measurement| {
            Phase::Rate(measurement.rate.unwrap_or_default())
        });
    }

    fn list_deals(&mut self, dataset: &Dataset<'_>) {
        let bare = plan::bare_listing(dataset.store.name);
        let both =
            self.present(dataset.store.name).into_iter().filter(|all| ["ours", bare].contains(&all.name));
        let measurements =
            both.map(|contestant| Measurement { contestant, task: Task::ListDeals, callers: 1, rate: None });
        self.measure_all(dataset, "listing deals", &[measurements.collect()], |_| Phase::Listing);
    }

    /// Ours alone, on a store that grows.
    fn growth(&mut self, store: &Store) -> Result<()> {
        let mut dataset = self.prepare(store, "growth", plan::growing_deals())?;
        for keys in self.plan.growth.clone() {
            dataset.data = plan::growing(keys);
            let Some(contestant) = plan::contestants(store.name).first().copied() else { return Ok(()) };
            let measurement = |task| Measurement { contestant, task, callers: 1, rate: None };
            self.workers.run(&contestant, &dataset.job(&measurement(Task::Seed), 0.0))?;
            self.runtime.block_on(store.settle(&dataset.target))?;
            let mut tasks = vec![Task::Get, Task::Set, Task::Keys, Task::Page];
            if store.name != "redis" {
                tasks.push(Task::Sweep);
            }
            let groups: Vec<Vec<Measurement>> =
                tasks.into_iter().map(|task| vec![measurement(task)]).collect();
            self.measure_all(&dataset, &format!("at {keys} keys"), &groups, |_| Phase::Growth);
            if self.plan.scans_at(keys) {
                self.measure_all(&dataset, "scanning", &[vec![measurement(Task::Scan)]], |_| Phase::Listing);
            }
        }
        Ok(())
    }

    /// Measures all groups, round after round; within a group the contenders follow each other, each round beginning
    /// with the next one.
    fn measure_all(
        &mut self,
        dataset: &Dataset<'_>,
        title: &str,
        groups: &[Vec<Measurement>],
        phase: impl Fn(&Measurement) -> Phase,
    ) {
        let count: usize = groups.iter().map(Vec::len).sum();
        let title = format!("{}, values of {} bytes, {title}", dataset.store.name, dataset.data.value_bytes);
        let bar = progress(&title, count * self.plan.rounds);
        for round in 0..self.plan.rounds {
            for group in groups {
                for position in 0..group.len() {
                    if let Some(measurement) = group.get((position + round) % group.len()) {
                        self.measure(dataset, measurement, phase(measurement));
                    }
                    bar.inc(1);
                }
            }
        }
    }

    fn measure(&mut self, dataset: &Dataset<'_>, measurement: &Measurement, phase: Phase) {
        let job = dataset.job(measurement, self.plan.seconds);
        let case = dataset.case(measurement, phase);
        match self.workers.run(&measurement.contestant, &job) {
            Ok(measured) => self.results.add(case, measured),
            Err(error) => {
                self.results
                    .note(format!("{} {}, {}: not measured: {error}", case.store, case.contender, case.op));
                // A round that is missing must not shift the others.
                self.results.add(case, Measured::default());
            }
        }
    }
}

impl Dataset<'_> {
    fn job(&self, measurement: &Measurement, seconds: f64) -> Job {
        #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
        let rate = measurement.rate.map(|rate| rate as f64);
        Job {
            store: self.store.name.into(),
            contender: measurement.contestant.name.into(),
            target: self.target.clone(),
            task: measurement.task,
            callers: measurement.callers,
            data: self.data.clone(),
            // Interpreters take longer to warm up.
            seconds: if measurement.contestant.program == Program::Python { seconds * 1.5 } else { seconds },
            rate,
        }
    }

    fn case(&self, measurement: &Measurement, phase: Phase) -> Case {
        let suffix = if measurement.rate.is_some() { "_fixed_rate" } else { "" };
        Case {
            store: self.store.name,
            op: format!("{}{suffix}", measurement.task.name()),
            contender: measurement.contestant.name,
            callers: measurement.callers,
            value_bytes: self.data.value_bytes,
            keys: self.data.keys,
            phase,
        }
    }
}

/// A bar on a terminal, and a line elsewhere.
pub(crate) fn progress(title: &str, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(title.to_owned());
    if bar.is_hidden() {
        eprintln!("{title}");
    }
    bar
}
