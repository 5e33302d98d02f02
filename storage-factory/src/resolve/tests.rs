//! Which settings lead to which type, and what the others are told.

use storage_core::ErrorKind;

use super::*;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().fold(Settings::new(), |settings, (name, text)| settings.with(name, *text).unwrap())
}

#[test]
fn the_type_by_name_and_by_url() {
    let postgres = ("DATABASE_URL", "postgresql+asyncpg://u:p@h/d");
    let redis = ("REDIS_URL", "redis://h");
    for (pairs, expected) in [
        (vec![], StorageType::Sqlite),
        (vec![("STORAGE_TYPE", "ReDiS")], StorageType::Redis),
        (vec![("STORAGE_TYPE", " Memory ")], StorageType::Memory),
        (vec![("STORAGE_TYPE", "postgresql")], StorageType::Postgres),
        (vec![("STORAGE_TYPE", "hybrid"), postgres, redis], StorageType::Hybrid),
        (vec![redis], StorageType::Redis),
        (vec![redis, ("DATABASE_URL", "sqlite:///./a.db")], StorageType::Redis),
        (vec![postgres], StorageType::Postgres),
        (vec![("DATABASE_URL", "postgres://h/d")], StorageType::Postgres),
        (vec![("DATABASE_URL", "SQLITE:///a.db")], StorageType::Sqlite),
        (vec![("DATABASE_URL", "./plain/path.db")], StorageType::Sqlite),
        (vec![("DATABASE_URL", "sqlite+aiosqlite:///a.db")], StorageType::Sqlite),
        (vec![("DATABASE_URL", "sqlite+s3://bucket/agent")], StorageType::Sqlite),
        (vec![("DATABASE_URL", "sqlite+gs://bucket/agent")], StorageType::Sqlite),
        (vec![("DATABASE_URL", "rediss://h:6380/1")], StorageType::Redis),
        (vec![("DATABASE_URL", "redis-cluster://a:1,b:2")], StorageType::Redis),
        (vec![("DATABASE_URL", "memory://")], StorageType::Memory),
        (vec![("DATABASE_URL", "POSTGRESQL://u:p@h/d")], StorageType::Postgres),
        (vec![("DATABASE_URL", "REDIS://h")], StorageType::Redis),
        (vec![("DATABASE_URL", "redis+sentinel://a:1,b:2/main")], StorageType::Redis),
        (vec![("DATABASE_URL", "rediss+sentinel://a:1,b:2/main")], StorageType::Redis),
        (vec![("DATABASE_URL", "valkey://h")], StorageType::Redis),
        (vec![("REDIS_URL", "valkeys://h")], StorageType::Redis),
        (vec![("DATABASE_URL", "host=db user=app password='it''s' dbname=agent")], StorageType::Postgres),
        (vec![("DATABASE_URL", "dbname=agent")], StorageType::Postgres),
        (vec![("DATABASE_URL", "agent.sqlite3")], StorageType::Sqlite),
        (vec![("DATABASE_URL", "/var/lib/agent")], StorageType::Sqlite),
        (vec![("STORAGE_TYPE", "postgres"), ("PGHOST", "h")], StorageType::Postgres),
        (vec![("PGHOST", "h")], StorageType::Sqlite),
        (vec![("STORAGE_TYPE", ""), ("REDIS_URL", " ")], StorageType::Sqlite),
    ] {
        assert_eq!(storage_type(&settings(&pairs)).unwrap(), expected, "{pairs:?}");
    }
}

/// The seconds of `Duration::MAX`.
const MAX: &str = "18446744073709551615s";

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let redis = ("REDIS_URL", "redis://:hunter2@h");
    let postgres = ("DATABASE_URL", "postgresql://u:hunter2@h/d");
    for (pairs, says) in [
        (vec![("STORAGE_TYPE", "mysql")], "Unknown storage type `mysql`"),
        (vec![("STORAGE_TYPE", "mysql")], "compiled in: memory"),
        (vec![("STORAGE_TYPE", "redis")], "Redis URL required"),
        (vec![("STORAGE_TYPE", "postgres")], "PostgreSQL URL required"),
        (vec![("STORAGE_TYPE", "postgres"), ("DATABASE_URL", "sqlite:///a.db")], "PostgreSQL URL required"),
        (vec![("STORAGE_TYPE", "hybrid"), redis], "PostgreSQL URL required"),
        (vec![("STORAGE_TYPE", "hybrid"), postgres], "Redis URL required"),
        (vec![("STORAGE_TYPE", "sqlite"), postgres], "DATABASE_URL is no SQLite URL"),
        (
            vec![("STORAGE_TYPE", "redis"), ("REDIS_URL", "postgres://u:hunter2@h/d")],
            "REDIS_URL is no Redis URL",
        ),
        (vec![redis, postgres], "set STORAGE_TYPE to hybrid"),
        (vec![("DATABASE_URL", "mysql://u:hunter2@h/d")], "the scheme `mysql`"),
        (vec![("DATABASE_URL", "sqlite+azure://hunter2/container/agent")], "the scheme `sqlite+azure`"),
        (vec![("DATABASE_URL", "sqlite+files:///hunter2")], "sqlite+s3 or sqlite+gs"),
        (vec![("DATABASE_URL", "db.example.com")], "DATABASE_URL is neither a URL nor plainly a path"),
        (vec![("DATABASE_URL", "hunter2@db/agents")], "write ./agent.db or sqlite:///./agent.db for a file"),
        (vec![("DATABASE_URL", "memory")], "set STORAGE_TYPE to memory"),
        (vec![("DATABASE_URL", "Postgres")], "set STORAGE_TYPE to postgres"),
        (vec![("DATABASE_URL", "postgresql//u:hunter2@h/d")], "DATABASE_URL has no colon after its scheme"),
        (vec![("DATABASE_URL", "127.0.0.1:6379")], "is an address and no URL"),
        (vec![("DATABASE_URL", "127.0.0.1:6379")], "redis://127.0.0.1:6379"),
        (vec![("REDIS_URL", "localhost:6379/1")], "write redis://localhost:6379/1"),
        (vec![("REDIS_URL", "./redis.sock")], "REDIS_URL is no Redis URL"),
        (vec![("STORAGE_TYPE", "redis"), ("REDIS_URL", "cache")], "REDIS_URL is no URL"),
        (vec![("STORAGE_TYPE", "sqlite"), ("DATABASE_URL", "agent")], "is neither a URL nor plainly a path"),
        (vec![("STORAGE_TYPE", "sqlite"), ("DATABASE_URL", "host=h password=hunter2")], "is no SQLite URL"),
        (vec![("DATABASE_URL", "~/hunter2.db")], "begins with `~`"),
        (vec![("DATABASE_URL", "sqlite:///~/hunter2.db")], "begins with `~`"),
        (vec![("POSTGRES_READ_URL", "redis://:hunter2@h")], "POSTGRES_READ_URL must be a Postgres URL"),
        (vec![("POSTGRES_READ_STALENESS", "5")], "POSTGRES_READ_STALENESS must be a duration"),
        (vec![("POSTGRES_TLS_VERIFY", "no")], "POSTGRES_TLS_VERIFY must be full or none"),
        (vec![("REDIS_TLS_VERIFY", "false")], "REDIS_TLS_VERIFY must be full or none"),
        (vec![("STORAGE_FRESHNESS", "5")], "STORAGE_FRESHNESS must be a duration"),
        (vec![("STORAGE_MANAGED_ACK", "disk")], "STORAGE_MANAGED_ACK must be home or local"),
        (vec![("STORAGE_MANAGED_PUBLISH_EVERY", "2s")], "is of no use without STORAGE_MANAGED_ACK=local"),
        (vec![("POSTGRES_POOL_MAX", "many")], "POSTGRES_POOL_MAX must be"),
        (vec![("POSTGRES_POOL_MAX", "0")], "POSTGRES_POOL_MAX must be a number from 1"),
        (vec![("POSTGRES_POOLER", "maybe")], "POSTGRES_POOLER must be true or false"),
        (
            vec![("STORAGE_OPERATION_TIMEOUT", "5")],
            "STORAGE_OPERATION_TIMEOUT must be a duration with its unit",
        ),
        (vec![("STORAGE_OPERATION_TIMEOUT", "0s")], "STORAGE_OPERATION_TIMEOUT"),
        (vec![("STORAGE_SWEEP_INTERVAL", "never")], "STORAGE_SWEEP_INTERVAL"),
        (vec![("STORAGE_OPERATION_TIMEOUT", "25h")], "STORAGE_OPERATION_TIMEOUT may be at most 24 h"),
        (vec![("STORAGE_OPERATION_TIMEOUT", MAX)], "STORAGE_OPERATION_TIMEOUT may be at most 24 h"),
        (vec![("STORAGE_SWEEP_INTERVAL", MAX)], "STORAGE_SWEEP_INTERVAL may be at most 24 h"),
        (vec![("STORAGE_FRESHNESS", MAX)], "STORAGE_FRESHNESS may be at most 24 h"),
        (vec![("STORAGE_MAX_VALUE_BYTES", "1e9")], "STORAGE_MAX_VALUE_BYTES must be"),
    ] {
        let error = get_storage_backend(&settings(&pairs)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn an_unknown_setting_is_named_and_an_explicit_one_wins() {
    let error = Settings::new().with("STORAGE_TYP", "memory").unwrap_err();
    assert!(
        error.to_string().contains("STORAGE_TYP") && error.to_string().contains("STORAGE_TYPE"),
        "{error}"
    );
    let twice = settings(&[("STORAGE_TYPE", "redis"), ("STORAGE_TYPE", "memory")]);
    assert_eq!(storage_type(&twice).unwrap(), StorageType::Memory);
}

#[test]
fn debug_of_settings_shows_no_secret() {
    let shown = format!("{:?}", settings(&[("REDIS_URL", "redis://:hunter2@h")]));
    assert!(shown.contains("REDIS_URL") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_managed_database_needs_its_feature_and_that_is_said() {
    for (url, feature, here) in [
        ("sqlite+file:///folder/agent", "managed", cfg!(feature = "managed")),
        ("sqlite+azblob://account/container/agent", "managed-azure", cfg!(feature = "managed-azure")),
        ("sqlite+s3://bucket/agent", "managed-s3", cfg!(feature = "managed-s3")),
        ("sqlite+gs://bucket/agent", "managed-gcs", cfg!(feature = "managed-gcs")),
    ] {
        let keys = [
            ("AZURE_STORAGE_KEY", "aHVudGVyMg=="),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_REGION", "x"),
        ];
        let pairs =
            [&keys[..], &[("DATABASE_URL", url), ("AWS_ACCESS_KEY_ID", "id"), ("STORAGE_CACHE_DIR", "x")]];
        match get_storage_backend(&settings(&pairs.concat())) {
            Ok(backend) => assert!(here && backend.name() == "sqlite", "{url}"),
            Err(error) => {
                assert!(!here && error.to_string().contains(&format!("--features {feature}")), "{error}");
                assert_eq!(error.kind(), ErrorKind::Config);
            }
        }
    }
}

/// 32 bytes that a message must not show.
#[cfg(feature = "managed")]
const KEY: &str = "a:68756e7465723268756e7465723268756e7465723268756e746572326875AAAA";

#[cfg(feature = "managed-encryption")]
#[test]
fn keys_encrypt_a_managed_database_and_mistakes_in_them_are_named() {
    let home = |pairs: &[(&str, &str)]| {
        let url = [("DATABASE_URL", "sqlite+file:///folder/agent"), ("STORAGE_CACHE_DIR", "x")];
        crate::managed_database(&settings(&[&url, pairs].concat()))
    };
    assert!(!format!("{:?}", home(&[]).unwrap().0).contains("EncryptedHome"));
    for pair in [("STORAGE_MANAGED_KEYS", KEY), ("STORAGE_MANAGED_KEY_FILE", "/nowhere/keys")] {
        let shown = format!("{:?}", home(&[pair]).unwrap());
        assert!(shown.contains("EncryptedHome") && !shown.contains("68756e"), "{shown}");
    }
    for (pairs, says) in [
        (vec![("STORAGE_MANAGED_KEYS", KEY), ("STORAGE_MANAGED_KEY_FILE", "x")], "are both set"),
        (vec![("STORAGE_MANAGED_KEYS", &KEY[..60])], "STORAGE_MANAGED_KEYS: entry 1"),
    ] {
        let error = home(&pairs).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("68756e"), "{error}");
    }
}

#[cfg(all(feature = "managed", not(feature = "managed-encryption")))]
#[test]
fn keys_need_their_feature_and_that_is_said() {
    for pair in [("STORAGE_MANAGED_KEYS", KEY), ("STORAGE_MANAGED_KEY_FILE", "/nowhere/keys")] {
        let pairs = [("DATABASE_URL", "sqlite+file:///folder/agent"), ("STORAGE_CACHE_DIR", "x"), pair];
        let error = get_storage_backend(&settings(&pairs)).unwrap_err();
        assert!(error.to_string().contains("--features managed-encryption"), "{error}");
    }
}

#[cfg(all(feature = "managed-azure", feature = "managed-s3"))]
#[test]
fn databases_of_one_name_at_several_endpoints_have_caches_of_their_own() {
    let cache = |url: &str, endpoints: &[(&str, &str)]| {
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_REGION", "x")];
        let azure = [("AZURE_STORAGE_KEY", "aHVudGVyMg=="), ("DATABASE_URL", url)];
        let cache =
            crate::managed_database(&settings(&[&keys, &azure[..], endpoints].concat())).unwrap().1.cache;
        cache.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let s3 = |endpoints: &[(&str, &str)]| cache("sqlite+s3://bucket/agent", endpoints);
    assert_eq!(s3(&[]), "s3%20bucket%2Fagent", "the usual place");
    assert_eq!(s3(&[("AWS_ENDPOINT_URL", "https://one.example")]), "s3%20bucket%2Fagent%20at%20one.example");
    let set = [
        ("AWS_ENDPOINT_URL", "https://one.example"),
        ("AWS_ENDPOINT_URL_S3", "https://user:hunter2@two.example:9000/s3/"),
    ];
    assert_eq!(s3(&set), "s3%20bucket%2Fagent%20at%20two.example%3A9000%2Fs3", "as S3 is asked");
    let azure =
        |endpoint| cache("sqlite+azblob://me/box/agent", &[("AZURE_STORAGE_BLOB_ENDPOINT", endpoint)]);
    assert_eq!(cache("sqlite+azblob://me/box/agent", &[]), "azblob%20me.blob.core.windows.net%2Fbox%2Fagent");
    assert_eq!(azure("https://blob.example/"), "azblob%20blob.example%2Fbox%2Fagent");
    assert_eq!(azure("http://127.0.0.1:10000/me"), "azblob%20127.0.0.1%3A10000%2Fme%2Fbox%2Fagent");
}

#[cfg(feature = "managed")]
#[test]
fn a_managed_home_is_no_tilde() {
    let error = get_storage_backend(&settings(&[("DATABASE_URL", "sqlite+file:///~/agent")])).unwrap_err();
    assert!(error.to_string().contains("begins with `~`"), "{error}");
}

#[cfg(feature = "postgres")]
#[test]
fn schemes_may_be_written_in_any_case() {
    for url in ["POSTGRESQL://u:p@h/d", "PostgreSQL+AsyncPG://u:p@h/d"] {
        assert_eq!(get_storage_backend(&settings(&[("DATABASE_URL", url)])).unwrap().name(), "postgres");
    }
    #[cfg(feature = "redis")]
    for url in ["REDIS://h", "Rediss://h", "Redis-Cluster://h:1"] {
        assert_eq!(get_storage_backend(&settings(&[("REDIS_URL", url)])).unwrap().name(), "redis");
    }
}

#[test]
fn passwords_are_taken_as_they_stand() {
    assert_eq!(settings(&[("PGPASSWORD", " pass ")]).exact("PGPASSWORD").as_deref(), Some(" pass "));
}

#[cfg(feature = "managed")]
#[test]
fn the_limits_of_a_managed_database_are_settings_and_their_bounds_are_named() {
    use std::time::Duration;
    let home = ("DATABASE_URL", "sqlite+file:///a");
    let options = |pairs: &[(&str, &str)]| {
        crate::managed_database(&settings(&[&[home], pairs].concat())).map(|(_, options)| options)
    };
    let seconds = Duration::from_secs;
    let unset = options(&[]).unwrap();
    assert_eq!((unset.lease_term, unset.lease_wait), (seconds(15), seconds(20)));
    let set = options(&[
        ("STORAGE_LEASE_TERM", "30s"),
        ("STORAGE_LEASE_IDLE", "0s"),
        ("STORAGE_LEASE_SHARE", "5s"),
        ("STORAGE_CACHE_WAIT", "1m"),
        ("STORAGE_MANAGED_FOLD_SHARE", "0.5"),
        ("STORAGE_OPERATION_TIMEOUT", "100s"),
    ])
    .unwrap();
    assert_eq!((set.lease_term, set.lease_idle, set.lease_share), (seconds(30), seconds(0), seconds(5)));
    assert_eq!((set.cache_wait, set.fold_share), (seconds(60), 0.5));
    // Waiting outlasts the term, and ends before the operation does.
    assert_eq!(set.lease_wait, seconds(35));
    assert_eq!(options(&[("STORAGE_OPERATION_TIMEOUT", "10s")]).unwrap().lease_wait, seconds(5));
    assert_eq!(options(&[("STORAGE_LEASE_WAIT", "39s")]).unwrap().lease_wait, seconds(39));
    for (name, text, expected) in [
        ("STORAGE_LEASE_TERM", "15", "a duration from 1s to 60s"),
        ("STORAGE_LEASE_TERM", "0s", "a duration from 1s to 60s"),
        ("STORAGE_LEASE_TERM", "61s", "a duration from 1s to 60s"),
        ("STORAGE_LEASE_WAIT", "40s", "less than STORAGE_OPERATION_TIMEOUT, which is 40s"),
        ("STORAGE_LEASE_WAIT", "soon", "a duration with its unit"),
        ("STORAGE_LEASE_IDLE", "-1s", "a duration with its unit"),
        ("STORAGE_LEASE_SHARE", "25h", "at most 24 h"),
        ("STORAGE_CACHE_WAIT", "2", "a duration with its unit"),
        ("STORAGE_MANAGED_FOLD_SHARE", "0", "a number from 0.1 to 100"),
        ("STORAGE_MANAGED_FOLD_SHARE", "NaN", "a number from 0.1 to 100"),
    ] {
        let error = options(&[(name, text)]).unwrap_err();
        let message = error.to_string();
        assert!(error.kind() == ErrorKind::Config && message.contains(name), "{name}={text}: {message}");
        assert!(message.contains(expected), "{name}={text}: {message}");
    }
}

#[cfg(feature = "managed")]
#[test]
fn a_managed_database_has_a_cache_of_its_own() {
    let database = |pairs: &[(&str, &str)]| crate::managed_database(&settings(pairs));
    let cache = |url: &str| database(&[("DATABASE_URL", url)]).unwrap().1.cache;
    assert!(cache("sqlite+file:///a/b").ends_with("agent-storage/folder%20%2Fa%2Fb"));
    assert_ne!(cache("sqlite+file:///a/b"), cache("sqlite+file:///a%2Db"));
    let here = std::env::current_dir().unwrap();
    assert_eq!(cache("SQLITE+FILE:///./x"), cache(&format!("sqlite+file://{}/x", here.display())));

    let set = [("DATABASE_URL", "sqlite+file:///a"), ("STORAGE_CACHE_DIR", "c"), ("STORAGE_FRESHNESS", "0s")];
    let (home, options) = database(&set).unwrap();
    assert_eq!((home.name().as_str(), options.cache.to_str()), ("folder /a", Some("c")));
    assert!(options.freshness.is_zero() && options.publish_every.is_none());
    let local = [("DATABASE_URL", "sqlite+file:///a"), ("STORAGE_MANAGED_ACK", "Local")];
    assert_eq!(database(&local).unwrap().1.publish_every, Some(std::time::Duration::from_secs(1)));
    for url in ["sqlite:///a.db", "postgresql://u:hunter2@h/d", "sqlite+file:///", "sqlite+file://a/b"] {
        let error = database(&[("DATABASE_URL", url)]).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && !error.to_string().contains("hunter2"), "{error}");
    }
}
