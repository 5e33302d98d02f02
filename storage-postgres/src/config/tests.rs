use storage_core::ErrorKind;

use super::*;

fn error(url: &str) -> Error {
    PostgresConfig::from_url(url).expect_err(url)
}

#[test]
fn urls_by_table() {
    for (url, host, port, database) in [
        ("postgresql://u:p@db.example/ads", "db.example", 5432, Some("ads")),
        ("postgres://u:p@db.example:6543/ads", "db.example", 6543, Some("ads")),
        ("postgresql+asyncpg://u:p@db.example/ads", "db.example", 5432, Some("ads")),
        ("postgresql+psycopg://u:p@db.example/ads", "db.example", 5432, Some("ads")),
        ("postgresql://db.example", "db.example", 5432, None),
        ("postgresql://u@[::1]:7000/ads", "::1", 7000, Some("ads")),
        ("postgresql:///ads", "localhost", 5432, Some("ads")),
    ] {
        let config = PostgresConfig::from_url(url).unwrap();
        assert_eq!(config.driver.get_hosts(), [Host::Tcp(host.to_owned())], "{url}");
        assert_eq!(config.driver.get_ports().first().copied().unwrap_or(5432), port, "{url}");
        assert_eq!(config.driver.get_dbname(), database, "{url}");
    }
}

#[test]
fn passwords_are_percent_decoded() {
    for (url, password) in [
        ("postgresql://u:p%40ss%2Fw%3F@h/d", "p@ss/w?"),
        ("postgresql://u:p%25@h/d?sslmode=require", "p%"),
        ("postgresql://u:what?now@h/d?sslmode=require", "what?now"),
    ] {
        let config = PostgresConfig::from_url(url).unwrap();
        assert_eq!(config.driver.get_password(), Some(password.as_bytes()), "{url}");
        assert_eq!(config.driver.get_hosts(), [Host::Tcp("h".to_owned())], "{url}");
    }
}

#[test]
fn sockets_and_several_hosts_are_taken() {
    let config =
        PostgresConfig::from_url("postgresql://u@%2Fvar%2Frun%2Fpostgresql/ads?sslmode=require").unwrap();
    assert_eq!(config.driver.get_hosts(), [Host::Unix("/var/run/postgresql".into())]);
    assert_eq!(config.driver().get_ssl_mode(), DriverSslMode::Disable, "libpq never encrypts a socket");
    let config =
        PostgresConfig::from_url("postgresql://u@a:1,b:2/ads?target_session_attrs=read-write").unwrap();
    assert_eq!(config.driver.get_hosts(), [Host::Tcp("a".into()), Host::Tcp("b".into())]);
    assert_eq!(config.driver.get_ports(), [1, 2]);
}

#[test]
fn sslmodes_by_table() {
    for (parameters, mode, driver) in [
        ("", SslMode::Prefer, DriverSslMode::Prefer),
        ("?sslmode=disable", SslMode::Disable, DriverSslMode::Disable),
        ("?sslmode=allow", SslMode::Prefer, DriverSslMode::Prefer),
        ("?sslmode=prefer", SslMode::Prefer, DriverSslMode::Prefer),
        ("?ssl=require", SslMode::Require, DriverSslMode::Require),
        ("?sslmode=verify-ca", SslMode::VerifyCa, DriverSslMode::Require),
        ("?connect_timeout=3&sslmode=verify-full", SslMode::VerifyFull, DriverSslMode::Require),
    ] {
        let config = PostgresConfig::from_url(&format!("postgresql://u:p@h/d{parameters}")).unwrap();
        assert_eq!(config.ssl_mode, mode, "{parameters}");
        assert_eq!(config.driver().get_ssl_mode(), driver, "{parameters}");
    }
    let roots = |parameters: &str| {
        PostgresConfig::from_url(&format!("postgresql://h/d?{parameters}&sslmode=verify-ca"))
            .unwrap()
            .ssl_roots
    };
    assert_eq!(roots("sslrootcert=system"), Some(SslRoots::System));
    assert_eq!(roots("sslrootcert=%2Fetc%2Fmy%20ca.pem"), Some(SslRoots::File("/etc/my ca.pem".into())));
}

#[test]
fn the_url_sets_what_it_names() {
    let url = "postgresql://h/d?connect_timeout=3&application_name=seller&options=-c%20statement_timeout%3D9";
    let mut config = PostgresConfig::from_url(url).unwrap();
    assert_eq!(config.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.application_name, "seller");
    let driver = config.driver();
    assert!(driver.get_options().unwrap().ends_with("-c jit=off -c statement_timeout=9"), "the URL wins");
    config.pooler = true;
    assert_eq!(config.driver().get_options(), Some("-c statement_timeout=9"), "a pooler refuses ours");
}

#[test]
fn wrong_urls_say_what_is_wrong_without_the_password() {
    for (url, named) in [
        ("mysql://u:s3cret@h/d", "no Postgres URL"),
        ("host=h password=s3cret", "no Postgres URL"),
        ("postgresql://u:s3cret@h/d?sslmode=sometimes", "sslmode"),
        ("postgresql://u:s3cret@h/d?colour=red", "colour"),
        ("postgresql://u:s3cret@h:port/d", "port"),
        ("postgresql://u:x@s3cret@h/d", "more than one `@`"),
        ("postgresql://u:x@s3cret/y@h/d", "more than one `@`"),
        ("postgresql://u:s3cret@h/d?sslrootcert=%ff", "sslrootcert"),
        ("postgresql://u:s3cret@h/d?target_session_attrs=any-s3cret", "target_session_attrs"),
    ] {
        let error = error(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(named), "{url}: {text}");
        assert!(!text.contains("s3cret"), "{url}: {text}");
    }
}

#[test]
fn debug_texts_hold_no_login() {
    let url = "postgresql://agent:s3cret@h/d?options=-c%20role%3Ds3cret";
    let config = PostgresConfig::from_url(url).unwrap();
    let backend = crate::PostgresBackend::new(config.clone()).unwrap();
    assert!(!format!("{config:?} {backend:?}").contains("s3cret"));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let broken: [fn(&mut PostgresConfig); 9] = [
        |config| config.pool_max = 0,
        |config| config.pool_min = 11,
        |config| config.operation_timeout = Duration::ZERO,
        |config| config.connect_timeout = Duration::ZERO,
        |config| config.operation_timeout = Duration::MAX,
        |config| config.connect_timeout = Duration::MAX,
        |config| config.schema = Some(String::new()),
        |config| config.schema = Some("s".repeat(64)),
        |config| config.sweep = Some(SweepConfig { batch: 0, ..SweepConfig::default() }),
    ];
    for (number, change) in broken.into_iter().enumerate() {
        let mut config = PostgresConfig::from_url("postgresql://h/d").unwrap();
        change(&mut config);
        let error = crate::PostgresBackend::new(config).expect_err("it must be refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{number}");
    }
}

#[test]
fn a_schema_is_quoted_whatever_is_in_it() {
    let mut config = PostgresConfig::from_url("postgresql://h/d").unwrap();
    assert_eq!(config.table(), "kv_store");
    config.schema = Some("my \"own\"; DROP".to_owned());
    assert_eq!(config.table(), "\"my \"\"own\"\"; DROP\".kv_store");
}
