//! Several processes on one file: each adds to the same counter, and none of the additions is lost.
//!
//! ```text
//! cargo run -p storage-sqlite --example many_processes -- ./agent.db 50 &
//! cargo run -p storage-sqlite --example many_processes -- ./agent.db 50 &
//! ```

use std::env::args_os;

use storage_core::{Error, Result, StorageBackend};
use storage_sqlite::{SqliteBackend, SqliteConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let usage = || Error::invalid_input("give a file and how many times to count");
    let mut args = args_os().skip(1);
    let path = args.next().ok_or_else(usage)?;
    let times: u32 = args.next().and_then(|times| times.to_str()?.parse().ok()).ok_or_else(usage)?;

    let storage = SqliteBackend::new(SqliteConfig::new(path))?;
    storage.connect().await?;
    for _ in 0..times {
        storage.increment("seen:1", 1, None).await?;
    }
    storage.disconnect().await
}
