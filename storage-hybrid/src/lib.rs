//! The hybrid backend of agent storage: durable keys in one store, ephemeral keys in another.
