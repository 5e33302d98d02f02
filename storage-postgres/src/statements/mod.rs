//! The statements, and the values that go with them.

pub(crate) mod columns;
pub(crate) mod entries;
pub(crate) mod partition_schema;
pub(crate) mod partitions;
pub(crate) mod query;
pub(crate) mod schema;
pub(crate) mod value;
