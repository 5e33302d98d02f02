//! The hybrid backend on Postgres and Redis keeps the whole contract, whichever of the two a key lives in.

use crate::stores::{Backend, hybrid};

/// The keys and partitions of the suite in Postgres.
mod durable {
    use super::{Backend, hybrid};

    fn open(namespace: &str) -> Backend {
        hybrid(namespace, "")
    }

    storage_conformance::full!(open);
    storage_conformance::shared!(open);
    storage_conformance::collections!(open);
    storage_conformance::search!(open);
}

/// The keys and partitions of the suite in Redis.
mod ephemeral {
    use super::{Backend, hybrid};

    fn open(namespace: &str) -> Backend {
        let keys = "deal:,Deal:,order:,quote:,value:,seen:,settle:";
        hybrid(namespace, &format!("{keys},conversation:,thread:,thread_2:"))
    }

    storage_conformance::full!(open);
    storage_conformance::collections!(open);
}
