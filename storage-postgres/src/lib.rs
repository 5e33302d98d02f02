//! The Postgres backend of agent storage.
