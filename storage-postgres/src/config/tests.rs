use std::time::Duration;

use storage_core::{DEFAULT_OPERATION_TIMEOUT, Error, ErrorKind, SweepConfig};
use tokio_postgres::config::{Config as Driver, Host, SslMode as DriverSslMode};

use super::*;

fn error(url: &str) -> Error {
    PostgresConfig::from_url(url).expect_err(url)
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// What the driver is told about the first place.
fn told(config: &PostgresConfig) -> Driver {
    config.driver(&config.places()[0], None, None)
}

fn tcp(host: &str, port: u16) -> Place {
    Place { host: Some(Host::Tcp(host.to_owned())), address: None, port }
}

#[test]
fn urls_by_table() {
    for (url, host, port, database) in [
        ("postgresql://u:p@db.example/ads", "db.example", 5432, Some("ads")),
        ("postgres://u:p@db.example:6543/ads", "db.example", 6543, Some("ads")),
        ("postgresql+asyncpg://u:p@db.example/ads", "db.example", 5432, Some("ads")),
        ("postgresql+psycopg://u:p@db.example/ads", "db.example", 5432, Some("ads")),
        ("POSTGRESQL://u:p@db.example/ads", "db.example", 5432, Some("ads")),
        ("Postgres://u:p@db.example/my%20ads", "db.example", 5432, Some("my ads")),
        ("postgresql://db.example", "db.example", 5432, None),
        ("postgresql://u@[::1]:7000/ads", "::1", 7000, Some("ads")),
        ("postgresql://u@[::1]/ads", "::1", 5432, Some("ads")),
        ("postgresql:///ads", "localhost", 5432, Some("ads")),
        ("postgresql://", "localhost", 5432, None),
        ("postgresql:///ads?host=db.example&port=7", "db.example", 7, Some("ads")),
        ("host=db.example user=u dbname=ads", "db.example", 5432, Some("ads")),
        ("  dbname = 'my ads'  host='db.example'port=7 ", "db.example", 7, Some("my ads")),
        ("dbname=ads", "localhost", 5432, Some("ads")),
    ] {
        let config = config(url);
        assert_eq!(config.places(), [tcp(host, port)], "{url}");
        assert_eq!(told(&config).get_dbname(), database, "{url}");
    }
}

#[test]
fn passwords_are_what_was_meant() {
    for (url, password) in [
        ("postgresql://u:p%40ss%2Fw%3F@h/d", Some("p@ss/w?")),
        ("postgresql://u:p%25@h/d?sslmode=require", Some("p%")),
        ("postgresql://u:what?now@h/d?sslmode=require", Some("what?now")),
        ("postgresql://u:a/b@h/d", Some("a/b")),
        ("postgresql://u:a:b@h/d?application_name=me@x", Some("a:b")),
        ("postgresql://h/d?application_name=me@x", None),
        ("postgresql://u:@h/d", None),
        ("host=h password='it''s' dbname=d", Some("it's")),
        (r"host=h password='it\'s \\ me' dbname=d", Some(r"it's \ me")),
        (r"host=h password=a\ b\'c dbname=d", Some("a b'c")),
        ("host=h password=p%40ss", Some("p%40ss")),
    ] {
        let config = config(url);
        assert_eq!(told(&config).get_password(), password.map(str::as_bytes), "{url}");
        assert_eq!(config.places(), [tcp("h", 5432)], "{url}");
    }
}

#[test]
fn sockets_and_several_hosts_are_taken() {
    let socket = config("postgresql://u@%2Fvar%2Frun%2Fpostgresql/ads?sslmode=require");
    assert_eq!(socket.places()[0].host, Some(Host::Unix("/var/run/postgresql".into())));
    assert_eq!(told(&socket).get_ssl_mode(), DriverSslMode::Disable, "libpq never encrypts a socket");
    for url in ["postgresql://u@a:1,b:2/ads", "host=a,b port=1,2 dbname=ads"] {
        assert_eq!(config(url).places(), [tcp("a", 1), tcp("b", 2)]);
    }
    assert_eq!(config("postgresql://a,b:2/ads").places(), [tcp("a", 5432), tcp("b", 2)]);
    assert_eq!(config("host=a,b port=7").places(), [tcp("a", 7), tcp("b", 7)]);
    let address = config("postgresql://a,b/ads?hostaddr=10.0.0.1,::2").places()[1].clone();
    assert_eq!(address, Place { address: Some("::2".parse().unwrap()), ..tcp("b", 5432) });
}

#[test]
fn one_host_may_be_any_and_several_are_for_writing() {
    use TargetSessionAttrs::*;
    for (url, wanted) in [
        ("postgresql://a/d", Any),
        ("postgresql://a,b/d", ReadWrite),
        ("postgresql://a/d?target_session_attrs=primary", Primary),
        ("postgresql://a,b/d?target_session_attrs=any", Any),
        ("postgresql://a,b/d?target_session_attrs=prefer-standby", PreferStandby),
    ] {
        assert_eq!(config(url).target(), wanted, "{url}");
    }
    assert_eq!(PostgresConfig::new("a").or_host("b").target(), ReadWrite);
    assert!(config("postgresql://a,b/d?load_balance_hosts=random").load_balance_hosts);
}

#[test]
fn sslmodes_by_table() {
    use SslMode::*;
    for (parameters, mode, verified, drivers) in [
        ("", Prefer, Prefer, DriverSslMode::Prefer),
        ("?sslmode=disable", Disable, Disable, DriverSslMode::Disable),
        ("?sslmode=allow", Prefer, Prefer, DriverSslMode::Prefer),
        ("?sslmode=prefer", Prefer, Prefer, DriverSslMode::Prefer),
        ("?sslmode=prefer&sslrootcert=/ca", Prefer, VerifyCa, DriverSslMode::Require),
        ("?ssl=require", Require, Require, DriverSslMode::Require),
        ("?ssl=true", Require, Require, DriverSslMode::Require),
        ("?sslmode=require&sslrootcert=/ca", Require, VerifyCa, DriverSslMode::Require),
        ("?sslmode=verify-ca", VerifyCa, VerifyCa, DriverSslMode::Require),
        ("?connect_timeout=3&sslmode=verify-full", VerifyFull, VerifyFull, DriverSslMode::Require),
        ("?sslrootcert=system", VerifyFull, VerifyFull, DriverSslMode::Require),
        ("?sslrootcert=/ca", VerifyCa, VerifyCa, DriverSslMode::Require),
    ] {
        let config = config(&format!("postgresql://u:p@h/d{parameters}"));
        assert_eq!((config.ssl_mode, config.verification()), (mode, verified), "{parameters}");
        assert_eq!(told(&config).get_ssl_mode(), drivers, "{parameters}");
    }
    let roots =
        |parameters: &str| config(&format!("postgresql://h/d?{parameters}&sslmode=verify-ca")).ssl_roots;
    assert_eq!(roots("sslrootcert=system"), Some(SslRoots::System));
    assert_eq!(roots("sslrootcert=%2Fetc%2Fmy%20ca.pem"), Some(SslRoots::File("/etc/my ca.pem".into())));
}

#[test]
fn the_url_sets_what_it_names() {
    let url = "postgresql://h/d?connect_timeout=3&application_name=seller&options=-c%20statement_timeout%3D9";
    let mut config = config(url);
    assert_eq!(config.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.application_name, "seller");
    assert!(
        told(&config).get_options().unwrap().ends_with("-c jit=off -c statement_timeout=9"),
        "the URL wins"
    );
    config.pooler = true;
    assert_eq!(told(&config).get_options(), Some("-c statement_timeout=9"), "a pooler refuses ours");
}

#[test]
fn what_providers_hand_out_is_taken() {
    let config = config(
        "postgres://u:p@h/d?sslmode=require&channel_binding=require&gssencmode=disable&client_encoding=UTF8\
         &pgbouncer=true&connection_limit=1&schema=ads&fallback_application_name=them&connect_timeout=0\
         &keepalives=1&keepalives_idle=9&keepalives_interval=8&keepalives_count=7&tcp_user_timeout=6000&sslsni=1",
    );
    assert!(config.pooler);
    assert_eq!((config.pool_max, config.pool_min, config.schema.as_deref()), (1, 1, Some("ads")));
    assert_eq!(config.application_name, "them");
    assert_eq!(config.connect_timeout, DEFAULT_OPERATION_TIMEOUT);
    let driver = told(&config);
    assert_eq!(driver.get_keepalives_idle(), Duration::from_secs(9));
    assert_eq!(driver.get_keepalives_interval(), Some(Duration::from_secs(8)));
    assert_eq!(driver.get_keepalives_retries(), Some(7));
    assert_eq!(driver.get_tcp_user_timeout(), Some(&Duration::from_secs(6)));
    let usual = told(&PostgresConfig::new("h"));
    assert!(usual.get_keepalives() && usual.get_keepalives_idle() <= Duration::from_secs(30));
}

#[test]
fn what_is_not_supported_names_what_to_use_instead() {
    for (parameter, named, hint) in [
        ("service=main", "service", "URL"),
        ("sslcert=/c", "sslcert", "password"),
        ("gssencmode=require", "gssencmode", ""),
        ("client_encoding=latin1", "client_encoding", "UTF-8"),
        ("pool_timeout=3", "pool_timeout", "STORAGE_OPERATION_TIMEOUT"),
        ("statement_timeout=3", "statement_timeout", "STORAGE_OPERATION_TIMEOUT"),
        ("currentSchema=x", "currentSchema", "POSTGRES_SCHEMA"),
        ("sslaccept=accept_invalid_certs", "sslaccept", "POSTGRES_TLS_VERIFY"),
        ("statement_cache_size=0", "statement_cache_size", "POSTGRES_POOLER"),
        ("colour=red", "colour", "libpq"),
        ("target_session_attrs=master", "target_session_attrs", "prefer-standby"),
        ("sslmode=no-verify", "sslmode", "verify-full"),
        ("load_balance_hosts=yes", "load_balance_hosts", ""),
        ("connect_timeout=soon", "connect_timeout", ""),
        ("connection_limit=-1", "connection_limit", ""),
        ("port=0", "port", ""),
        ("port=1,2", "ports", ""),
        ("hostaddr=db.example", "hostaddr", ""),
    ] {
        let error = error(&format!("postgresql://u:s3cret@h/d?{parameter}"));
        assert_eq!(error.kind(), ErrorKind::Config, "{parameter}");
        assert!(error.message().contains(named), "{parameter}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{parameter}: {error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn variables_say_what_the_url_does_not() {
    let variables = |name: &str| {
        let value = match name {
            "PGHOST" => "their.example,other.example",
            "PGPORT" => "7000",
            "PGUSER" => "them",
            "PGPASSWORD" => "s3cret",
            "PGDATABASE" => "theirs",
            "PGSSLMODE" => "verify-full",
            "PGSSLROOTCERT" => "/their/ca.pem",
            "PGAPPNAME" => "app",
            "PGCONNECT_TIMEOUT" => "9",
            "PGOPTIONS" => "-c work_mem=9MB",
            "PGTARGETSESSIONATTRS" => "primary",
            "HOME" => "/home/them",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let read = |url: &str| PostgresConfig::from_url_and_variables(url, &variables).unwrap();
    let all = read("postgresql://");
    assert_eq!(all.places(), [tcp("their.example", 7000), tcp("other.example", 7000)]);
    let login = |config: &PostgresConfig| {
        let driver = told(config);
        let password = driver.get_password().map(<[u8]>::to_vec);
        (driver.get_user().map(str::to_owned), password, driver.get_dbname().map(str::to_owned))
    };
    assert_eq!(login(&all), (Some("them".into()), Some(b"s3cret".to_vec()), Some("theirs".into())));
    assert_eq!(
        (all.ssl_mode, &all.ssl_roots),
        (SslMode::VerifyFull, &Some(SslRoots::File("/their/ca.pem".into())))
    );
    assert_eq!((&*all.application_name, all.connect_timeout), ("app", Duration::from_secs(9)));
    assert!(told(&all).get_options().unwrap().ends_with("-c work_mem=9MB"));
    assert_eq!(all.target(), TargetSessionAttrs::Primary);
    assert_eq!(all.pass_file, Some("/home/them/.pgpass".into()));
    let url =
        "postgresql://me:mine@h:1/d?sslmode=disable&target_session_attrs=any&passfile=/p&application_name=a";
    let own = read(url);
    assert_eq!(own.places(), [tcp("h", 1)]);
    assert_eq!(login(&own), (Some("me".into()), Some(b"mine".to_vec()), Some("d".into())));
    assert_eq!((own.ssl_mode, own.target()), (SslMode::Disable, TargetSessionAttrs::Any));
    assert_eq!((own.pass_file, &*own.application_name), (Some("/p".into()), "a"));
    // Without the variables nothing of them.
    assert_eq!(config("postgresql://").pass_file, None);
}

#[test]
fn a_wrong_variable_is_named() {
    let variables = |name: &str| (name == "PGSSLMODE").then(|| "s3cret".to_owned());
    let error = PostgresConfig::from_url_and_variables("postgresql://h/d", &variables).unwrap_err();
    assert!(error.message().contains("PGSSLMODE") && !format!("{error:?}").contains("s3cret"), "{error:?}");
    // An address from there would be for another host.
    let variables = |name: &str| (name == "PGHOSTADDR").then(|| "10.0.0.1".to_owned());
    let config = PostgresConfig::from_url_and_variables("postgresql://h/d", &variables).unwrap();
    assert_eq!(config.places(), [tcp("h", 5432)]);
}

#[test]
fn wrong_urls_say_what_is_wrong_without_the_password() {
    for (url, named) in [
        ("mysql://u:s3cret@h/d", "no Postgres URL"),
        ("s3cret.db", "no Postgres URL"),
        ("host=h password='s3cret", "without an end"),
        ("host=h s3cret", "without `=`"),
        ("host=h pass word=s3cret", "a name that is none"),
        ("postgresql://u:s3cret@h/d?sslmode", "no value"),
        ("postgresql://u:s3cret@[::1/d", "bracket"),
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
