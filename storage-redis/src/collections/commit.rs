//! What a commit sends, and how it reads the answer.

use std::borrow::Cow;

use storage_core::{
    Commit, Committed, Error, ErrorKind, Expire, Operation, Outcome, Precondition, PutMode, Result,
    ttl_millis,
};

use super::query::{lower, upper};
use crate::{
    error::unexpected,
    statements::{answer::Answer, reply, script::Script},
};

pub(super) static SCRIPT: Script = Script::new(include_str!("commit.lua"));

type Argument<'a> = Cow<'a, [u8]>;

fn text(text: &str) -> Argument<'_> {
    Cow::Borrowed(text.as_bytes())
}

fn owned(text: &impl ToString) -> Argument<'static> {
    Cow::Owned(text.to_string().into_bytes())
}

/// Nothing where there is no bound.
fn bound(bound: Option<u64>) -> Argument<'static> {
    bound.map_or(Cow::Borrowed(&[]), |bound| owned(&bound))
}

pub(super) fn arguments(commit: &Commit) -> Result<Vec<Argument<'_>>> {
    let mut arguments = vec![
        match commit.expire {
            Expire::Keep => text("keep"),
            Expire::Never => text("never"),
            Expire::After(ttl) => owned(&ttl_millis(ttl)?),
        },
        owned(&commit.preconditions.len()),
    ];
    for precondition in &commit.preconditions {
        match precondition {
            Precondition::Version(version) => arguments.extend([text("version"), owned(version)]),
            Precondition::Absent(sort) => arguments.extend([text("absent"), text(sort)]),
            Precondition::Present(sort) => arguments.extend([text("present"), text(sort)]),
            Precondition::ItemVersion(sort, version) => {
                arguments.extend([text("item"), text(sort), owned(version)]);
            }
            _ => return Err(unknown()),
        }
    }
    for operation in &commit.operations {
        add_operation(&mut arguments, operation)?;
    }
    Ok(arguments)
}

fn add_operation<'a>(arguments: &mut Vec<Argument<'a>>, operation: &'a Operation) -> Result<()> {
    match operation {
        Operation::Put { sort, attributes, body, mode, .. } => {
            let name = match mode {
                PutMode::Insert => "insert",
                PutMode::InsertIfAbsent => "insert_if_absent",
                PutMode::Upsert => "upsert",
            };
            arguments.extend([text(name), text(sort), text(attributes.as_str()), Cow::Borrowed(body)]);
        }
        Operation::Append { prefix, attributes, body, tag, .. } => {
            let (attributes, tag) = (text(attributes.as_str()), text(tag.as_deref().unwrap_or_default()));
            arguments.extend([text("append"), text(prefix), attributes, Cow::Borrowed(body), tag]);
        }
        Operation::Delete { sort } => arguments.extend([text("delete"), text(sort)]),
        Operation::DeleteRange { from, to } => {
            arguments.extend([text("delete_range"), owned(&lower(from)), owned(&upper(to.as_deref()))]);
        }
        Operation::Increment { sort, by } => arguments.extend([text("increment"), text(sort), owned(by)]),
        Operation::Trim { items, bytes, max_age } => {
            let age = max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            arguments.extend([text("trim"), bound(*items), bound(*bytes), bound(age)]);
        }
        _ => return Err(unknown()),
    }
    Ok(())
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unsupported, "this backend does not know a part of the commit")
}

pub(super) fn committed(commit: &Commit, answer: Answer) -> Result<Committed> {
    if let Answer::Status(status) = &answer {
        return Err(refused(commit, status));
    }
    let mut answers = reply::array(answer)?.into_iter();
    let version = reply::integer(answers.next().ok_or_else(unexpected)?)?.unsigned_abs();
    if answers.len() != commit.operations.len() {
        return Err(unexpected());
    }
    let outcomes = commit.operations.iter().zip(answers).map(|(operation, answer)| {
        if let Operation::Increment { .. } = operation {
            return Ok(Outcome::Sum(reply::text(answer)?.parse().map_err(|_| unexpected())?));
        }
        let answer = reply::integer(answer)?;
        Ok(match operation {
            // The number of an append whose tag was there comes negated.
            Operation::Append { .. } => {
                Outcome::Appended { sequence: answer.unsigned_abs(), new: answer > 0 }
            }
            Operation::DeleteRange { .. } | Operation::Trim { .. } => Outcome::Deleted(answer.unsigned_abs()),
            _ => Outcome::Applied(answer != 0),
        })
    });
    Ok(Committed { version, outcomes: outcomes.collect::<Result<_>>()? })
}

/// Why the script did nothing.
fn refused(commit: &Commit, status: &[u8]) -> Error {
    match status {
        b"PRECONDITION" => commit.conflict("a precondition of the commit does not hold"),
        b"EXISTS" => commit.conflict("an item that should be new is there"),
        b"NOINTEGER" => Error::invalid_input("the value is not a 64-bit integer"),
        b"OVERFLOW" => Error::invalid_input("the sum does not fit a 64-bit integer"),
        b"CORRUPT" => super::query::corrupt(),
        _ => unexpected(),
    }
}
