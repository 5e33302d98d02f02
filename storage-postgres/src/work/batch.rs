//! Atomic batches: one upsert, or a transaction where it depends on what is there.

use std::collections::{BTreeSet, HashMap};

use storage_core::{Batch, BatchOperation, Expected, Json, Result};

use crate::{
    connections::{
        executor::{Executor, Failed, Transaction},
        pool::Checkout,
        session::Part,
    },
    statements::{
        columns::Columns,
        query::{LONG_EXPIRED, Query},
        value::{column, millis, value},
    },
};

/// All or nothing.
pub(crate) async fn apply(mut executor: Executor, batch: Batch) -> Result<()> {
    let null = Json::parse("null")?;
    let (columns, deleted) = columns(&batch, &null)?;
    if !batch.requirements().is_empty() {
        let get = executor.schema().get;
        return executor.transaction(&Conditional { batch: &batch, columns: &columns, get }).await;
    }
    if columns.is_empty() {
        return Ok(());
    }
    if deleted.is_empty() {
        return executor.query(Query::Set, &columns.params()).await.map(drop);
    }
    executor.set_and_purge(&columns.params(), &[&deleted]).await
}

/// One upsert in which what is deleted is written as expired, so that all locks are taken in the order of the keys; then
/// those rows are removed, in the same transaction.
fn columns<'b>(batch: &'b Batch, null: &'b Json) -> Result<(Columns<'b>, Vec<&'b str>)> {
    let (mut columns, mut deleted) = (Columns::default(), Vec::new());
    for (key, operation) in batch.last_per_key() {
        match operation {
            BatchOperation::Set(entry) => columns.push(key, &entry.value, millis(entry.ttl)?),
            _ => {
                columns.push(key, null, Some(LONG_EXPIRED));
                deleted.push(key);
            }
        }
    }
    Ok((columns, deleted))
}

/// A batch that depends on what is there.
struct Conditional<'b> {
    batch: &'b Batch,
    columns: &'b Columns<'b>,
    get: Query,
}

impl Transaction for Conditional<'_> {
    type Answer = ();

    /// The first round trip locks all rows that the batch names, made where there are none, and reads those that are
    /// required; the second writes.
    async fn run(&self, checkout: &mut Checkout) -> Result<(), Failed> {
        let Self { batch, columns, get } = *self;
        for query in [Query::Claim, get, Query::Set, Query::Purge] {
            checkout.prepare(query).await?;
        }
        let keys: Vec<&str> = batch.keys().collect::<BTreeSet<_>>().into_iter().collect();
        let required: Vec<&str> = batch.requirements().iter().map(|(key, _)| &**key).collect();
        // The read is a statement of its own: under READ COMMITTED it sees what was committed before the locks were got.
        let answers =
            checkout.pipeline(Part::Begin, &[(Query::Claim, &[&keys]), (get, &[&required])]).await?;
        let mut found = HashMap::new();
        for row in answers.last().map_or(&[][..], Vec::as_slice) {
            let key: &str = column(row, 0)?;
            found.insert(key, value(row, 1, key));
        }
        for (key, expected) in batch.requirements() {
            // An entry that cannot be read is there.
            let holds = match (found.get(&**key), expected) {
                (found, Expected::Absent) => found.is_none(),
                (found, expected) => expected.matches(found.cloned().transpose()?.as_ref()),
            };
            if !holds {
                return Err(Batch::conflict(key).into());
            }
        }
        // Not committed: the rollback removes the rows that were made to be locked.
        if columns.is_empty() {
            return Ok(());
        }
        let written = columns.params();
        let statements = [(Query::Set, &written[..]), (Query::Purge, &[&keys as _])];
        checkout.pipeline(Part::End, &statements).await.map(drop).map_err(Failed::at_the_end)
    }
}
