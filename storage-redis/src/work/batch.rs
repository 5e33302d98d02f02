//! Atomic batches: a transaction, or a script where it depends on what is there.

use storage_core::{
    Batch, BatchOperation, Error, ErrorKind, Expected, Json, Result, engine::Deadline, optional_ttl_millis,
};

use super::operations::{Connected, SWAP_TRIES, restless, set_command};
use crate::{
    connections::{lane::Request, node::Load},
    error::{Access, refused, unexpected},
    statements::{answer::Answer, command::cmd, reply, script::APPLY},
};

impl Connected {
    /// All or nothing: on one server, or on the node of one slot.
    pub(crate) async fn apply(&self, batch: &Batch) -> Result<()> {
        let keys: Vec<String> = batch.keys().map(|key| self.full_key(key)).collect();
        let Some(first) = keys.first() else { return Ok(()) };
        let slot = self.router.slot(first);
        if keys.iter().any(|key| self.router.slot(key) != slot) {
            let message = "the keys are in different slots of the cluster";
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint("give them a common {tag}"));
        }
        let deadline = self.deadline();
        if !batch.requirements().is_empty() {
            return self.apply_if(batch, &keys, deadline).await;
        }
        let mut commands = Vec::with_capacity(keys.len());
        for (operation, full) in batch.operations().iter().zip(&keys) {
            commands.push(match operation {
                BatchOperation::Set(entry) => {
                    set_command(full, &entry.value, optional_ttl_millis(entry.ttl)?)
                }
                _ => cmd("UNLINK").arg(full),
            });
        }
        let request = Request::Transaction(commands);
        let answer = self.router.one(slot, request, Load::Bulk, Access::Write, deadline).await?;
        reply::array(answer).map(drop)
    }

    /// Expects the very texts first. Where other texts mean the same, they are what is expected next.
    async fn apply_if(&self, batch: &Batch, keys: &[String], deadline: Deadline) -> Result<()> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut expected: Vec<Option<Json>> =
            batch.requirements().iter().map(|(_, expected)| text_of(expected)).collect();
        let operations = operation_arguments(batch)?;
        for _ in 0..SWAP_TRIES {
            let count = expected.len().to_string();
            let texts = expected.iter().map(|text| text.as_ref().map_or("", Json::as_str));
            let arguments: Vec<&str> = std::iter::once(&*count)
                .chain(texts)
                .chain(operations.iter().flat_map(|(value, ttl)| [*value, &**ttl]))
                .collect();
            let answer = self.script_on(&APPLY, &keys, &arguments, Load::Bulk, deadline).await?;
            let Answer::Array(others) = answer else { return Ok(()) };
            let mut others = others.into_iter();
            while let (Some(place), Some(found)) = (others.next(), others.next()) {
                let place = usize::try_from(reply::integer(place)?).map_err(|_| unexpected())?;
                let required = batch.requirements().get(place).ok_or_else(unexpected)?;
                *expected.get_mut(place).ok_or_else(unexpected)? = respelled(required, found)?;
            }
        }
        Err(restless())
    }
}

/// What is there, where it means what is required.
fn respelled((key, required): &(String, Expected), found: Answer) -> Result<Option<Json>> {
    let found = match (required, found) {
        // Whatever is there, and whether or not it can be read.
        (Expected::Absent, _) | (_, Answer::Nil) => return Err(Batch::conflict(key)),
        (_, Answer::Error(error)) => return Err(refused(&error).with_key(key)),
        (_, found) => reply::stored(&reply::bytes(found)?, key)?,
    };
    if required.matches(Some(&found)) { Ok(Some(found)) } else { Err(Batch::conflict(key)) }
}

fn text_of(expected: &Expected) -> Option<Json> {
    match expected {
        Expected::Absent => None,
        Expected::Value(value) => Some(value.clone()),
    }
}

/// The value and the time to live of each operation, as the script takes them: no value deletes.
fn operation_arguments(batch: &Batch) -> Result<Vec<(&str, String)>> {
    let arguments = batch.operations().iter().map(|operation| match operation {
        BatchOperation::Set(entry) => {
            let ttl = optional_ttl_millis(entry.ttl)?;
            Ok((entry.value.as_str(), ttl.map(|millis| millis.to_string()).unwrap_or_default()))
        }
        // No JSON text is empty.
        _ => Ok(("", String::new())),
    });
    arguments.collect()
}
