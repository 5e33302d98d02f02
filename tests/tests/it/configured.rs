//! The factory with everything compiled in: what the environment says is what is built.

use storage_core::ErrorKind;
use storage_factory::{Settings, StorageType, get_storage_backend, storage_type};
use storage_tests::variable;

use crate::stores::{build, connected, json, settings};

/// An ambient variable must not change what explicit settings lead to.
#[test]
fn settings_that_are_new_ignore_the_environment() {
    let error = get_storage_backend(&settings(&[("STORAGE_TYPE", "redis")])).unwrap_err();
    assert!(error.to_string().contains("Redis URL required"), "{error}");
    let error = get_storage_backend(&settings(&[("STORAGE_TYPE", "hybrid")])).unwrap_err();
    assert!(error.to_string().contains("PostgreSQL URL required"), "{error}");
    assert_eq!(storage_type(&Settings::new()).unwrap(), StorageType::Sqlite);
}

#[test]
fn malformed_urls_and_pools_are_config_errors_without_passwords() {
    for pairs in [
        vec![("DATABASE_URL", "postgresql://u:hunter2@h:port/d")],
        vec![("DATABASE_URL", "postgresql://u:hunter2@h/d?sslmode=maybe")],
        vec![
            ("DATABASE_URL", "postgresql://u:hunter2@h/d"),
            ("POSTGRES_POOL_MIN", "9"),
            ("POSTGRES_POOL_MAX", "3"),
        ],
        vec![("REDIS_URL", "redis://u:hunter2@h:port")],
        vec![("REDIS_URL", "redis://:hunter2@h/notanumber")],
    ] {
        let error = get_storage_backend(&settings(&pairs)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_in_words_that_say_why_and_without_the_password() {
    for (variable, url, why) in [
        ("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/d", "refused"),
        ("DATABASE_URL", "postgresql://u:hunter2@no-such-host.invalid/d", "lookup"),
        ("REDIS_URL", "redis://u:hunter2@127.0.0.1:1", "refused"),
        ("REDIS_URL", "redis://u:hunter2@no-such-host.invalid", "lookup"),
    ] {
        let storage = get_storage_backend(&settings(&[(variable, url)])).unwrap();
        let error = storage.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_is_built_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:///{}/deep/er/a.db", folder.path().display());
    let cluster = variable("STORAGE_TEST_REDIS_CLUSTER_URL");
    for (pairs, name) in [
        (vec![("DATABASE_URL", file.as_str())], "sqlite"),
        (vec![("DATABASE_URL", variable("STORAGE_TEST_POSTGRES_URL").as_str())], "postgres"),
        (vec![("REDIS_URL", variable("STORAGE_TEST_REDIS_URL").as_str())], "redis"),
        (vec![("REDIS_URL", variable("STORAGE_TEST_REDIS_SOCKET_URL").as_str())], "redis"),
        (vec![("REDIS_URL", cluster.as_str())], "redis"),
        (
            vec![
                ("REDIS_URL", variable("STORAGE_TEST_REDIS_TLS_URL").as_str()),
                ("REDIS_TLS_CA", variable("STORAGE_TEST_REDIS_TLS_CA").as_str()),
            ],
            "redis",
        ),
        (vec![("STORAGE_TYPE", "memory")], "memory"),
    ] {
        let storage = connected(&pairs).await;
        assert_eq!(storage.name(), name);
        storage.set("configured:1", json("1"), None).await.unwrap();
        assert!(storage.delete("configured:1").await.unwrap());
        storage.disconnect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_unauthorized_and_is_not_shown() {
    let postgres = variable("STORAGE_TEST_POSTGRES_URL");
    let (_, host) = postgres.rsplit_once('@').unwrap();
    let storage = build(&[("DATABASE_URL", &format!("postgresql://storage:hunter2@{host}"))]);
    let error = storage.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let redis = variable("STORAGE_TEST_REDIS_TLS_URL");
    let (_, host) = redis.rsplit_once('@').unwrap();
    let url = format!("rediss://nobody:hunter2@{host}");
    let ca = variable("STORAGE_TEST_REDIS_TLS_CA");
    let storage = build(&[("REDIS_URL", &url), ("REDIS_TLS_CA", &ca)]);
    let refused = storage.connect().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused}");
    for error in [error, refused] {
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
