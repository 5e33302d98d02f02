//! The Redis and Redis Cluster backend of agent storage.
