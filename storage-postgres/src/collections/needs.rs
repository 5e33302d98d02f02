//! What has to be known for a commit.

use std::collections::{BTreeMap, BTreeSet};

use storage_core::{Commit, Operation, Precondition, Result, sequence_key};
use tokio_postgres::Row as Answer;

use super::{
    known::{Known, Row, state},
    plan::Plan,
};
use crate::statements::{
    partitions::END,
    value::{Param, column},
};

/// How many items at the beginning are looked at first, for a commit with a bound.
const HEAD: i64 = 16;
/// How many more are, each time that these are too few.
const MORE: i64 = 8;

/// What has to be known of items.
#[derive(Default)]
pub(super) struct Needs<'c> {
    sorts: BTreeSet<String>,
    counters: Vec<&'c str>,
    tags: Vec<&'c str>,
    /// The prefixes of the appends.
    appends: Vec<&'c str>,
    /// Ranges: from the first to before the second.
    lows: Vec<&'c str>,
    highs: Vec<&'c str>,
    /// How many items at the beginning at least, and by how many more than the partition has now.
    head: i64,
    growth: Option<i64>,
}

impl<'c> Needs<'c> {
    pub(super) fn of(commit: &'c Commit) -> Self {
        let mut needs = Self::default();
        for precondition in &commit.preconditions {
            match precondition {
                Precondition::Absent(sort)
                | Precondition::Present(sort)
                | Precondition::ItemVersion(sort, _) => {
                    needs.sorts.insert(sort.clone());
                }
                _ => {}
            }
        }
        let mut most = None;
        let mut written = 0;
        for operation in &commit.operations {
            match operation {
                Operation::Trim { items, .. } => {
                    needs.head = HEAD;
                    most = most.into_iter().chain(*items).min();
                }
                _ => written += needs.touch(operation),
            }
        }
        let most = most.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
        // One more than a bound deletes: it shows that the beginning is in bounds then.
        needs.growth = most.map(|most| written + 1 - most);
        needs
    }

    /// Returns how many items the operation may add.
    fn touch(&mut self, operation: &'c Operation) -> i64 {
        match operation {
            Operation::Put { sort, .. } => {
                self.sorts.insert(sort.clone());
                1
            }
            Operation::Append { prefix, tag, .. } => {
                self.appends.push(prefix);
                self.tags.extend(tag.as_deref());
                1
            }
            Operation::Delete { sort } => {
                self.sorts.insert(sort.clone());
                0
            }
            Operation::Increment { sort, .. } => {
                self.sorts.insert(sort.clone());
                self.counters.push(sort);
                1
            }
            Operation::DeleteRange { from, to } => {
                self.lows.push(from);
                self.highs.push(to.as_deref().unwrap_or(END.as_str()));
                0
            }
            _ => 0,
        }
    }

    /// What a void plan asks for besides.
    pub(super) fn widen(&mut self, plan: &Plan<'_>) {
        self.sorts.extend(plan.unknown.iter().cloned());
        if plan.beyond {
            self.head = self.head.saturating_mul(MORE);
        }
    }

    pub(super) fn sorts(&self) -> Vec<&str> {
        self.sorts.iter().map(String::as_str).collect()
    }

    /// The parameters of the statement, in its order.
    pub(super) fn params<'p>(&'p self, name: &'p &str, sorts: &'p &'p [&'p str]) -> [Param<'p>; 9] {
        [
            name,
            sorts,
            &self.counters,
            &self.tags,
            &self.appends,
            &self.lows,
            &self.highs,
            &self.head,
            &self.growth,
        ]
    }

    /// What the answer to the statement tells.
    pub(super) fn known(&self, answers: &[Answer], row: &Row) -> Result<Known> {
        let mut asked = self.sorts.clone();
        for (place, prefix) in (1..).zip(&self.appends) {
            asked.insert(sequence_key(prefix, row.sequence + place));
        }
        let mut known = Known { items: BTreeMap::new(), asked, head_end: None };
        let (mut head, mut last) = (0, None);
        for answer in answers {
            let (sort, state) = state(answer)?;
            if column(answer, 7)? {
                head += 1;
                last = Some(sort.clone());
            }
            known.insert(sort, state);
        }
        let most = i64::try_from(row.items).unwrap_or(i64::MAX);
        let limit = self.growth.map_or(self.head, |growth| self.head.max(most.saturating_add(growth)));
        known.head_end = last.filter(|_| self.head > 0 && head >= limit);
        Ok(known)
    }
}
