//! Typed helpers of the ad domain on top of every backend.
//!
//! [`AdBuyer`] and [`AdSeller`] give each entity its documented calls (`get_deal`, `set_deal`, `delete_deal`,
//! `list_deals`) on every [`StorageBackend`](crate::StorageBackend), behind an `Arc<dyn StorageBackend>` too. They name
//! keys as the Python buyer and seller agents do, so both can work on one store.
//!
//! What goes in is anything that serializes, a [`Json`](crate::Json) or a `serde_json::Value` included, and what comes
//! out is any type that fits. For all calls alike:
//!
//! - `get_*` answers `None` where there is no such entry or it has expired.
//! - `set_*` writes over whatever is there. Only sessions and quotes can expire.
//! - `delete_*` answers whether the entry was there.
//! - `list_*` is one scan, with its filters applied in the store where that can do it. A filter that is `None` lets all
//!   pass; the others must all hold, and an entry without the field does not match. Entries come in byte order of their
//!   keys, and those that cannot be read, or that have another shape, stand apart in
//!   [`Listing::corrupt`](crate::Listing).
//! - An empty id, or one that makes a key too long, is `InvalidInput` before any I/O. An entry that does not fit the type
//!   asked for is `Corrupt` naming its key. The other errors are those of the trait.

mod buyer;
mod entity;
mod index;
mod seller;

pub use buyer::{AdBuyer, QUOTE_TTL};
pub use seller::AdSeller;
