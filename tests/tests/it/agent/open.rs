//! A store of its own for each test.

use std::sync::Arc;

use storage_core::MemoryBackend;
use storage_tests::variable;

use crate::stores::{self, Backend, build};

/// A name that no other test has, here or in another run against the same servers: `name` begins with the store's.
fn namespace(name: &str) -> String {
    format!("a{}_{}", std::process::id(), &name[..name.len().min(45)])
}

pub(crate) fn memory(_name: &str) -> Backend {
    Arc::new(MemoryBackend::new())
}

pub(crate) fn sqlite(name: &str) -> Backend {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("agent");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{}.db", namespace(name)));
    build(&[("DATABASE_URL", &format!("sqlite:///{}", file.display()))])
}

pub(crate) fn redis(name: &str) -> Backend {
    redis_at("STORAGE_TEST_REDIS_URL", name)
}

pub(crate) fn redis_cluster(name: &str) -> Backend {
    redis_at("STORAGE_TEST_REDIS_CLUSTER_URL", name)
}

fn redis_at(url: &str, name: &str) -> Backend {
    build(&[
        ("STORAGE_TYPE", "redis"),
        ("REDIS_URL", &variable(url)),
        ("REDIS_NAMESPACE", &format!("{}:", namespace(name))),
    ])
}

pub(crate) fn postgres(name: &str) -> Backend {
    build(&[
        ("STORAGE_TYPE", "postgres"),
        ("DATABASE_URL", &variable("STORAGE_TEST_POSTGRES_URL")),
        ("POSTGRES_SCHEMA", &namespace(name)),
        ("POSTGRES_POOL_MIN", "0"),
    ])
}

pub(crate) fn hybrid(name: &str) -> Backend {
    stores::hybrid(&namespace(name), "")
}
