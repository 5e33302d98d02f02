//! The storage of this process, chosen by the environment:
//!
//! `STORAGE_TYPE=memory cargo run -p storage-factory --example from_environment`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use storage_core::{ErrorKind, Json, Result};
use storage_factory::{close_storage, get_storage};

#[tokio::main]
async fn main() -> Result<()> {
    let storage = get_storage().await?;
    println!("store: {}", storage.name());

    // Everybody in the process gets the same one.
    let others = futures::future::try_join_all((0..16).map(|_| get_storage())).await?;
    println!("shared: {}", others.iter().all(|other| Arc::ptr_eq(&storage, other)));

    storage.set("example:greeting", Json::parse(r#""hello""#)?, None).await?;
    let found = storage.get("example:greeting").await?;
    println!("read: {}", found.map(|value| value.to_string()).unwrap_or_default());
    storage.delete("example:greeting").await?;

    close_storage().await?;
    let closed =
        storage.exists("example:greeting").await.is_err_and(|error| error.kind() == ErrorKind::NotConnected);
    println!("closed: {closed}");
    Ok(())
}
