//! A SQLite file whose home is a folder or blob storage.

pub mod home;
mod wal;
