//! The product's home, under the names by which its lease of buckets knows it.

pub(crate) use storage_managed::home::{
    Body, Claim, Fresh, Held, Holder, Home, Listed, Object, Put, Version,
};

/// The object that says who holds the lease. No listing shows it.
pub(crate) const LEASE: &str = "lease";
