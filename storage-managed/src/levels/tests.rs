use super::*;
use crate::format::{Base, Hex, IndexRef, base_name, segment_name};

const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;

/// A home that is written to for a while, of which only the sizes are real: each commit changes one page that no other does
/// and that cannot be compressed, so that merging spares nothing but headers.
struct Simulated {
    levels: Levels,
    head: Head,
    index: Option<Index>,
    objects: Vec<(String, u64, f64)>,
    now: f64,
    kept: Duration,
    committed: u64,
    sent: u64,
    most_objects: usize,
    most_bytes: u64,
    cleaned: u32,
    /// When a base that is on its way arrives, and what it is of.
    base: Option<(f64, Base)>,
}

/// What a segment of one page has beside it.
const HEADER: u64 = 470;
/// What a home takes in a second.
const LINE: f64 = 50e6;

impl Simulated {
    fn new(bytes: u64, kept: Duration) -> Self {
        let page_count = u32::try_from(bytes / PAGE).unwrap();
        let base = Base { generation: 1, commit: Hex(1), page_count, checksum: Hex(0) };
        let head = Head::of_base(Hex(7), 4096, base, None);
        let objects = vec![(base_name(1, Hex(1)), bytes, 0.0)];
        Self {
            levels: Levels::of(&Options::new("unused")),
            head,
            index: None,
            objects,
            now: 1.0,
            kept,
            committed: 0,
            sent: 0,
            most_objects: 0,
            most_bytes: 0,
            cleaned: 0,
            base: None,
        }
    }

    fn put(&mut self, name: String, bytes: u64) {
        self.sent += bytes;
        self.objects.push((name, bytes, self.now));
        self.most_objects = self.most_objects.max(self.objects.len());
    }

    fn commit(&mut self) {
        let bytes = PAGE + HEADER;
        let (generation, commit) = (self.head.generation + 1, Hex(u128::from(self.head.generation + 1)));
        self.put(segment_name(generation, commit), bytes);
        self.committed += bytes;
        (self.head.generation, self.head.commit) = (generation, commit);
        self.head.push(commit, bytes, Some(vec![1]));
        let fold = self.levels.is_fold_due(&self.head, 1)
            || self.levels.is_fold_better(&self.head, self.index.as_ref());
        if self.base.as_ref().is_some_and(|(at, _)| *at <= self.now) {
            self.name_base();
        } else if fold && self.base.is_none() {
            let base = Base { generation, commit, ..self.head.base.clone() };
            self.base = Some((self.now + self.head.base_bytes() as f64 / LINE, base));
        }
        if self.levels.is_merge_due(&self.head, 1) {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let plan = self.levels.plan(&self.head, self.index.as_ref());
        let (first, last, commit) = (plan.first, self.head.generation, self.head.commit);
        let bytes = (last - first + 1) * PAGE + HEADER;
        let merged = Merged { first, last, commit, level: plan.level, bytes };
        self.put(merged.name(), bytes);
        let mut all =
            self.index.as_ref().map_or_else(Vec::new, |index| still_needed(index, &self.head, plan.taken));
        all.push(merged);
        // What stands before the pages of those that are told, and of large ones where there is another.
        let begin = |merged: &Merged| (merged.last - merged.first + 1) * 4;
        let told = |from: u64, to: u64| move |bytes: &u64| (from..=to).contains(bytes);
        let small: u64 = all.iter().map(begin).filter(told(0, 32 * 1024)).sum();
        let large: u64 = all.iter().map(begin).filter(told(32 * 1024, 512 * 1024)).sum();
        let begin = small.min(1024 * 1024) + if plan.level > 1 { large.min(2 * 1024 * 1024) } else { 0 };
        let index = Index::new(Hex(7), all.into_iter().map(|merged| (merged, None)).collect());
        let bytes = index.bytes_from(self.head.base.generation);
        let named = IndexRef { generation: last, id: Hex(last.into()), bytes };
        self.put(index_name(last, named.id), 70 * index.merged.len() as u64 + begin);
        (self.head.index, self.index) = (Some(named), Some(index));
        self.head.forget();
        self.clean();
    }

    fn name_base(&mut self) {
        let Some((_, base)) = self.base.take() else { return };
        self.put(base_name(base.generation, base.commit), self.head.base_bytes());
        if let (Some(named), Some(index)) = (&mut self.head.index, &self.index) {
            named.bytes = index.bytes_from(base.generation);
        }
        self.head.base = base;
        self.head.forget();
        self.clean();
    }

    fn clean(&mut self) {
        let age = |at: f64| Some(Duration::from_secs_f64(self.now - at));
        let listed = self.objects.iter();
        let listed: Vec<Listed> = listed
            .map(|(name, length, at)| Listed { name: name.clone(), length: *length, age: age(*at) })
            .collect();
        let gone = superseded(&listed, &self.head, self.index.as_ref(), self.kept).gone;
        self.objects.retain(|(name, ..)| gone.binary_search(name).is_err());
        self.most_bytes = self.most_bytes.max(self.objects.iter().map(|(_, bytes, _)| bytes).sum());
        self.cleaned += 1;
        // What is needed changes slowly.
        if !self.cleaned.is_multiple_of(16) {
            return;
        }
        let names: BTreeSet<&str> = self.objects.iter().map(|(name, ..)| name.as_str()).collect();
        let needed = |name: String| assert!(names.contains(name.as_str()), "{name} is needed and gone");
        needed(base_name(self.head.base.generation, self.head.base.commit));
        self.index.iter().flat_map(|index| &index.merged).for_each(|merged| needed(merged.name()));
        for generation in self.head.singles_from() + 1..=self.head.generation {
            needed(segment_name(generation, self.head.commit_at(generation).unwrap().0));
        }
    }

    fn write(&mut self, seconds: u64, rate: f64) {
        for _ in 0..(seconds as f64 * rate) as u64 {
            self.now += 1.0 / rate;
            self.commit();
        }
    }

    fn amplification(&self) -> f64 {
        self.sent as f64 / self.committed as f64
    }
}

const DAY: u64 = 24 * 3_600;

/// The worst that can be written.
fn a_day_costs_little(bytes: u64, rate: f64) {
    writing_costs_little(bytes, rate, DAY);
}

fn writing_costs_little(bytes: u64, rate: f64, seconds: u64) {
    let mut home = Simulated::new(bytes, Duration::from_secs(600));
    home.write(seconds, rate);
    let told = format!(
        "{} GiB, {rate}/s: amplification {:.2}, {} objects, {:.2} x the database",
        bytes / GIB,
        home.amplification(),
        home.most_objects,
        home.most_bytes as f64 / bytes as f64,
    );
    println!("{told}");
    assert!(home.amplification() <= 4.0, "{told}");
    assert!(home.most_objects <= 500, "{told}");
    // The retained base is there for ten minutes beside the new one and what led to that.
    assert!(home.most_bytes <= 3 * bytes + bytes / 4, "{told}");
}

#[test]
fn a_day_of_a_commit_each_ten_seconds_costs_little() {
    a_day_costs_little(GIB, 0.1);
    a_day_costs_little(10 * GIB, 0.1);
}

#[test]
fn a_day_of_two_commits_a_second_costs_little() {
    a_day_costs_little(GIB, 2.0);
    a_day_costs_little(10 * GIB, 2.0);
}

#[test]
fn fifty_commits_a_second_on_a_gibibyte_cost_little() {
    // A base is made each 80 minutes.
    writing_costs_little(GIB, 50.0, 6 * 3_600);
}

#[test]
fn a_day_of_fifty_commits_a_second_on_ten_gibibytes_costs_little() {
    a_day_costs_little(10 * GIB, 50.0);
}
