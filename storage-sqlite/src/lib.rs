//! The SQLite backend of agent storage: one file, one durable writer, several readers.
