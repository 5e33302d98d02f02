//! Managed databases on simulated clouds, under thousands of seeded schedules of faults, kills, clones and sleeping
//! machines; and on a folder whose objects are damaged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod azure;
#[path = "../homes/cases.rs"]
#[allow(dead_code, reason = "two of them are about how the names of files are checked")]
mod cases;
mod client;
mod clock;
mod cloud;
mod contract;
mod damage;
mod home;
mod ledger;
mod machine;
mod requests;
mod schedules;
mod service;
mod steps;
mod world;

/// As the product's lease of S3 finds its clock, which is here the simulated one.
mod steady {
    pub(crate) use crate::clock::Steady;
}

/// As the cases of all homes find how a client is made.
mod stores {
    pub(crate) type Store = Box<dyn Fn() -> Box<dyn storage_managed::home::Home> + Send + Sync>;
}
