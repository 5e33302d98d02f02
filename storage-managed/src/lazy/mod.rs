//! Reading without a full download: a database of gigabytes answers its first query after some hundred kilobytes.
//!
//! A [`Replica`] only reads. SQLite runs on a VFS whose pages come from the home when they are asked for: those that changed
//! since the base from the segments, all others from the base, by ranged reads of 64 KiB, up to 1 MiB where they are read in
//! their order. What has come stays in a page cache on disk.
//!
//! # What it costs
//!
//! - **Opening** is one request for the head, one for the index if there is one, and one for each segment that lies on the base:
//!   any of them may hold any page. A point query by primary key on 1 GiB is then at most five requests: for the page of the
//!   schema and four of the table, some of which are beside each other. So a cold query takes at most eight requests and less than
//!   2 MiB where one merged segment, or two small single ones, lie on the base, as after a fold.
//! - **With a long chain** the requests are as many as its segments, [`fetched_at_once`](ReplicaOptions::fetched_at_once)
//!   of them at a time, each of at most 64 KiB for the page numbers of some 14,000 pages, or 128 KiB for a small segment as a whole. One
//!   of up to 4 MiB of pages that was never merged has one hash at its end, so all of it is fetched.
//!   They are kept: the next process, and the next generation, asks only for what is new.
//! - **In memory**: some 24 bytes for each page that changed since the base, and for each connection what SQLite caches (2 MiB) and
//!   512 KiB. **On disk**: [`cache_bytes`](ReplicaOptions::cache_bytes).
//!
//! # What is checked
//!
//! Head, index, what stands before the pages of a segment, and each of its frames have checksums; what does not verify is refused by
//! name. **Blocks of the base have none in the home**: TLS or encryption protect them on the way, encryption also in the home, and
//! [`DatabaseStore::verify`](crate::DatabaseStore::verify) checks the whole. In the cache each block has a hash, and a damaged one is fetched again.
//!
//! # What changes meanwhile
//!
//! A read sees one generation from its beginning to its end, however far the home goes on. What was superseded is removed after
//! [`Options::grace`](crate::Options::grace); a read that needs it then fails with a passing error (`Unavailable`), and the
//! replica has refreshed itself by then: the same read, tried again, sees the newest generation. The closure itself is not run twice.

mod blocks;
mod cached;
mod image;
mod objects;
mod options;
mod paged;
mod replica;
mod snapshot;
mod source;
#[cfg(test)]
mod tests;

pub use options::ReplicaOptions;
pub use replica::{Replica, ReplicaStatus};
