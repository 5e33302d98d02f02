#![doc = include_str!("../README.md")]

mod database;
mod file;
mod vfs;

use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

pub use database::ReadAt;

/// A connection that reads this database alone, which lives as long as the connection. Opening it reads the first 100 bytes.
///
/// # Errors
/// What SQLite says.
pub fn open(database: Arc<dyn ReadAt>) -> rusqlite::Result<Connection> {
    vfs::register()?;
    // Once it is open, the file has it.
    let named = database::Named::new(database);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags_and_vfs(&named.name, flags, vfs::NAME)
}
