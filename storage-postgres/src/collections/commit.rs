//! Commits: one statement where nothing has to be known first, else one transaction in two round trips.

use storage_core::{Commit, Committed, Error, ErrorKind, Json, Result};

use super::{
    append::Appends,
    known::{Content, Row, State as ItemState},
    needs::Needs,
    plan::Plan,
};
use crate::{
    connections::{
        executor::{Executor, Failed, Transaction},
        pool::Checkout,
        session::Part,
    },
    error::{Failure, State},
    statements::{
        partition_schema::Collections,
        partitions::Sql,
        query::Query,
        value::{Hidden, Param, column, expiry, signed, unsigned},
    },
};

pub(super) async fn commit(mut executor: Executor, commit: Commit) -> Result<Committed> {
    if let Some(appends) = Appends::of(&commit)?
        && let Some(committed) = appends.send(&mut executor).await?
    {
        return Ok(committed);
    }
    executor.transaction(&commit).await
}

impl Transaction for Commit {
    type Answer = Committed;

    async fn run(&self, checkout: &mut Checkout) -> Result<Committed, Failed> {
        transact(checkout, self).await
    }
}

/// The first round trip locks the partition and tells what is there; the second writes.
async fn transact(checkout: &mut Checkout, commit: &Commit) -> Result<Committed, Failed> {
    let write = Sql::Write { words: checkout.schema().collections == Collections::Whole };
    for sql in [Sql::Bury, Sql::Make, Sql::Lock, Sql::Touched, Sql::Clear, write] {
        checkout.prepare(Query::Collections(sql)).await?;
    }
    let name = commit.partition.as_str();
    let mut needs = Needs::of(commit);
    let mut row = None;
    loop {
        let sorts = needs.sorts();
        let sorts = &sorts[..];
        let params = needs.params(&name, &sorts);
        let touched = (Query::Collections(Sql::Touched), &params[..]);
        let answers = match row {
            Some(_) => checkout.pipeline(Part::Middle, &[touched]).await?,
            None => {
                let named = |sql| (Query::Collections(sql), &params[..1]);
                let statements = [named(Sql::Bury), named(Sql::Make), named(Sql::Lock), touched];
                checkout.pipeline(Part::Begin, &statements).await?
            }
        };
        let row = match row {
            Some(row) => row,
            None => *row.insert(locked(answers.iter().rev().nth(1))?),
        };
        let known = needs.known(answers.last().map_or(&[], Vec::as_slice), &row)?;
        let plan = Plan::new(commit, &known, row)?;
        if plan.unknown.is_empty() && !plan.beyond {
            return finish(checkout, commit, &row, plan, write).await;
        }
        needs.widen(&plan);
    }
}

fn locked(rows: Option<&Vec<tokio_postgres::Row>>) -> Result<Row, Failed> {
    let Some(row) = rows.and_then(|rows| rows.first()) else {
        let error = Error::new(ErrorKind::Unavailable, "the partition was deleted at the same moment");
        // As if rolled back: the transaction runs again, and makes the partition.
        return Err(Failure { error, state: State::RolledBack }.into());
    };
    Ok(Row {
        id: column(row, 0)?,
        version: unsigned(column(row, 1)?),
        sequence: unsigned(column(row, 2)?),
        items: unsigned(column(row, 3)?),
        bytes: unsigned(column(row, 4)?),
        now: column(row, 5)?,
    })
}

async fn finish(
    checkout: &mut Checkout,
    commit: &Commit,
    before: &Row,
    plan: Plan<'_>,
    write: Sql,
) -> Result<Committed, Failed> {
    // Preconditions alone make no partition: the rollback removes the row that was made to be locked.
    if before.version == 0 && commit.operations.is_empty() {
        return Ok(Committed { version: 0, outcomes: plan.outcomes });
    }
    let row = plan.row;
    let [version, sequence, items, bytes] = [row.version, row.sequence, row.items, row.bytes].map(signed);
    let (expires, ttl) = expiry(commit.expire)?;
    let columns = Columns::of(&plan);
    let Columns { deleted, untagged, sorts, attributes, bodies, tags, words } = &columns;
    let clear: [Param<'_>; 3] = [&row.id, deleted, untagged];
    let params: [Param<'_>; 12] = [
        &row.id, &version, &sequence, &items, &bytes, &expires, &ttl, sorts, attributes, bodies, tags, words,
    ];
    let params = if write == (Sql::Write { words: true }) { &params[..] } else { &params[..11] };
    let statements = [(Query::Collections(Sql::Clear), &clear[..]), (Query::Collections(write), params)];
    let needed = if deleted.is_empty() && untagged.is_empty() { &statements[1..] } else { &statements[..] };
    match checkout.pipeline(Part::End, needed).await {
        Ok(_) => Ok(Committed { version: row.version, outcomes: plan.outcomes }),
        Err(failure) => Err(Failed::at_the_end(failure)),
    }
}

/// What a plan changes, as the columns that the server takes.
#[derive(Default)]
struct Columns<'p> {
    deleted: Vec<&'p str>,
    /// Items that lose their tags before any is given out.
    untagged: Vec<&'p str>,
    sorts: Vec<&'p str>,
    attributes: Vec<Hidden<&'p str>>,
    bodies: Vec<Option<Hidden<&'p [u8]>>>,
    tags: Vec<Option<&'p str>>,
    words: Vec<Option<Hidden<&'p str>>>,
}

impl<'p> Columns<'p> {
    fn of(plan: &'p Plan<'_>) -> Self {
        let mut columns = Self::default();
        for (sort, stored) in &plan.known.items {
            match plan.items.get(sort) {
                None => columns.deleted.push(sort),
                Some(ItemState { content: Content::Stored, .. }) => {}
                Some(_) if stored.tag.is_some() => columns.untagged.push(sort),
                Some(_) => {}
            }
        }
        for (sort, state) in &plan.items {
            let body = match &state.content {
                Content::Stored => continue,
                Content::Kept => None,
                Content::Written(body) => Some(Hidden(&body[..])),
            };
            columns.sorts.push(sort);
            columns.attributes.push(Hidden(state.attributes.as_ref().map_or("null", Json::as_str)));
            columns.bodies.push(body);
            columns.tags.push(state.tag.as_deref());
            columns.words.push(state.words.as_deref().map(Hidden));
        }
        columns
    }
}
