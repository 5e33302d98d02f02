//! Proof that a home keeps its conditions, before a database is trusted to it.

use bytes::Bytes;
use storage_core::{Error, ErrorKind, Result};

use super::{Home, Put, Version};
use crate::format::Id;

/// Proves that `home` refuses a second create and a replacement of another version: a home that lets either through would
/// let two writers overwrite each other. Writes one small object and removes it: five requests.
///
/// # Errors
/// `Unsupported` for a home that does not keep its conditions; else what the home answers, `Unauthorized` for example.
pub async fn probe(home: &dyn Home) -> Result<()> {
    let name = format!("probe-{}", Id::random()?);
    let proven = prove(home, &name).await;
    let removed = home.delete(&name).await;
    proven.and(removed)
}

async fn prove(home: &dyn Home, name: &str) -> Result<()> {
    let first =
        written(home, home.create(name, content("first"), None).await?, "does not let an object be created")?;
    let again = home.create(name, content("again"), None).await?;
    refused(home, &again, "lets an object be created that exists already")?;
    let second = home.replace(name, content("second"), &first, None).await?;
    written(home, second, "does not let an object be replaced")?;
    let stale = home.replace(name, content("stale"), &first, None).await?;
    refused(home, &stale, "lets an object be replaced that has changed")
}

fn content(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn written(home: &dyn Home, put: Put, complaint: &str) -> Result<Version> {
    match put {
        Put::Done(version) => Ok(version),
        Put::Refused => Err(unfit(home, complaint)),
    }
}

fn refused(home: &dyn Home, put: &Put, complaint: &str) -> Result<()> {
    if *put == Put::Refused { Ok(()) } else { Err(unfit(home, complaint)) }
}

fn unfit(home: &dyn Home, complaint: &str) -> Error {
    let message = format!("the home {} {complaint}, so that writers could overwrite each other", home.name());
    Error::new(ErrorKind::Unsupported, message).with_hint("use a store with conditional writes")
}
