//! Checkpoints behave the same on every store: the cases of storage-agent, on real servers.

#[macro_use]
#[path = "../../../../storage-agent/tests/checkpoints/cases/mod.rs"]
mod cases;

mod churn;
pub(crate) mod counters;
mod killed;
mod steps;

use crate::agent::open;

/// A module for each store, with a test in it for each case.
macro_rules! on_stores {
    ($($store:ident)*) => {
        $(mod $store {
            fn open(name: &str) -> crate::stores::Backend {
                super::open::$store(&format!(concat!(stringify!($store), "_{}"), name))
            }

            checkpoint_cases!((crate::checkpoints::cases), (crate::checkpoints::$store::open));
        })*
    };
}

on_stores! { memory sqlite redis redis_cluster postgres hybrid }
