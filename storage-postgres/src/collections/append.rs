//! The commit that does nothing but append: one statement, because nothing has to be known first.

use std::collections::HashSet;

use storage_core::{Commit, Committed, Operation, Outcome, Result, next_version};

use super::text;
use crate::{
    connections::executor::Executor,
    error::State,
    statements::{
        partition_schema::Collections,
        partitions::Sql,
        query::Query,
        value::{Hidden, Param, column, expiry, signed, unsigned},
    },
};

/// Appends of one commit, as the columns that the server takes.
pub(super) struct Appends<'c> {
    name: &'c str,
    /// Whether the expiry changes, and the time to live.
    expiry: (bool, Option<i64>),
    /// Of the attributes, the bodies and the sort keys.
    bytes: usize,
    prefixes: Vec<&'c str>,
    attributes: Vec<Hidden<&'c str>>,
    bodies: Vec<Hidden<&'c [u8]>>,
    tags: Vec<Option<&'c str>>,
    /// What each is found by.
    words: Vec<Option<Hidden<String>>>,
}

impl<'c> Appends<'c> {
    /// `None` where the commit does anything else, or has a tag twice.
    pub(super) fn of(commit: &'c Commit) -> Result<Option<Self>> {
        if commit.operations.is_empty() || !commit.preconditions.is_empty() {
            return Ok(None);
        }
        let mut appends = Self {
            name: commit.partition.as_str(),
            expiry: expiry(commit.expire)?,
            bytes: 0,
            prefixes: Vec::new(),
            attributes: Vec::new(),
            bodies: Vec::new(),
            tags: Vec::new(),
            words: Vec::new(),
        };
        for operation in &commit.operations {
            let Operation::Append { prefix, attributes, body, tag, search } = operation else {
                return Ok(None);
            };
            appends.bytes += prefix.len() + 20 + attributes.len() + body.len();
            appends.prefixes.push(prefix);
            appends.attributes.push(Hidden(attributes.as_str()));
            appends.bodies.push(Hidden(body));
            appends.tags.push(tag.as_deref());
            appends.words.push(search.as_ref().map(|search| Hidden(text::vector(search))));
        }
        let mut seen = HashSet::new();
        let distinct = appends.tags.iter().flatten().all(|tag| seen.insert(*tag));
        Ok(distinct.then_some(appends))
    }

    /// `None` where it takes the longer way after all; nothing was applied then.
    pub(super) async fn send(&self, executor: &mut Executor) -> Result<Option<Committed>> {
        let (count, bytes) = (signed(self.prefixes.len() as u64), signed(self.bytes as u64));
        let (expires, ttl) = self.expiry;
        let version = signed(next_version(0));
        let all: [Param<'_>; 11] = [
            &self.name,
            &count,
            &bytes,
            &expires,
            &ttl,
            &self.prefixes,
            &self.attributes,
            &self.bodies,
            &self.tags,
            &version,
            &self.words,
        ];
        let words = executor.schema().collections == Collections::Whole;
        let (params, query) = (if words { &all[..] } else { &all[..10] }, Sql::Append { words });
        let rows = match executor.rows(Query::Collections(query), params).await {
            Err(failure) if failure.state == State::Unfit => return Ok(None),
            answer => answer.map_err(|failure| failure.into_error(true))?,
        };
        let Some(row) = rows.first() else { return Ok(None) };
        let (version, last) = (unsigned(column(row, 0)?), unsigned(column(row, 1)?));
        let first = last.saturating_sub(self.prefixes.len() as u64) + 1;
        let outcomes = (first..=last).map(|sequence| Outcome::Appended { sequence, new: true }).collect();
        Ok(Some(Committed { version, outcomes }))
    }
}
