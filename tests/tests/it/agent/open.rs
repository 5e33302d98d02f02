//! A store of its own for each test.

use std::sync::Arc;

use storage_core::MemoryBackend;
use storage_tests::variable;

use crate::stores::{Backend, build, hybrid_settings};

/// The settings of a store, which another process can be told.
pub(crate) type Pairs = Vec<(String, String)>;

/// A name that no other test has, here or in another run against the same servers: `name` begins with the store's.
fn namespace(name: &str) -> String {
    format!("a{}_{}", std::process::id(), &name[..name.len().min(45)])
}

pub(crate) fn built(pairs: &Pairs) -> Backend {
    build(&pairs.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>())
}

pub(crate) fn memory(_name: &str) -> Backend {
    Arc::new(MemoryBackend::new())
}

pub(crate) fn sqlite(name: &str) -> Backend {
    built(&settings::sqlite(name))
}

pub(crate) fn redis(name: &str) -> Backend {
    built(&settings::redis(name))
}

pub(crate) fn redis_cluster(name: &str) -> Backend {
    built(&settings::redis_cluster(name))
}

pub(crate) fn postgres(name: &str) -> Backend {
    built(&settings::postgres(name))
}

pub(crate) fn hybrid(name: &str) -> Backend {
    built(&settings::hybrid(name))
}

/// What the stores are opened with, where several processes can share them.
pub(crate) mod settings {
    use super::{Pairs, hybrid_settings, namespace, variable};

    fn owned<const N: usize>(pairs: [(&str, String); N]) -> Pairs {
        pairs.map(|(name, text)| (name.to_owned(), text)).into()
    }

    pub(crate) fn sqlite(name: &str) -> Pairs {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("agent");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{}.db", namespace(name)));
        owned([("DATABASE_URL", format!("sqlite:///{}", file.display()))])
    }

    pub(crate) fn redis(name: &str) -> Pairs {
        redis_at("STORAGE_TEST_REDIS_URL", name)
    }

    pub(crate) fn redis_cluster(name: &str) -> Pairs {
        redis_at("STORAGE_TEST_REDIS_CLUSTER_URL", name)
    }

    fn redis_at(url: &str, name: &str) -> Pairs {
        owned([
            ("STORAGE_TYPE", "redis".into()),
            ("REDIS_URL", variable(url)),
            ("REDIS_NAMESPACE", format!("{}:", namespace(name))),
        ])
    }

    pub(crate) fn postgres(name: &str) -> Pairs {
        owned([
            ("STORAGE_TYPE", "postgres".into()),
            ("DATABASE_URL", variable("STORAGE_TEST_POSTGRES_URL")),
            ("POSTGRES_SCHEMA", namespace(name)),
            ("POSTGRES_POOL_MIN", "0".into()),
        ])
    }

    pub(crate) fn hybrid(name: &str) -> Pairs {
        owned(hybrid_settings(&namespace(name), ""))
    }
}
