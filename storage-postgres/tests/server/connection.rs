use std::{path::PathBuf, time::Duration};

use storage_core::{Error, ErrorKind, Json, StorageBackend};
use storage_postgres::{PostgresConfig, SslMode, SslRoots, TlsVerify};
use storage_tests::{Postgres, PostgresOptions};

use crate::common::{config, database, open, outside, port, unique, url, variable, with_login};

fn tls_config(mode: SslMode) -> PostgresConfig {
    let mut config = PostgresConfig::from_url(&variable("STORAGE_TEST_POSTGRES_TLS_URL")).unwrap();
    config.ssl_mode = mode;
    config.ssl_roots = None;
    config.schema = Some(unique("tls"));
    config
}

fn right_roots() -> Option<SslRoots> {
    Some(SslRoots::File(PathBuf::from(variable("STORAGE_TEST_POSTGRES_TLS_CA"))))
}

/// The TLS server under a name that its certificate is not for.
fn misnamed(mode: SslMode) -> PostgresConfig {
    let url = variable("STORAGE_TEST_POSTGRES_TLS_URL");
    let (login, place) = url.split_once('@').unwrap();
    let (_, port_and_rest) = place.split_once(':').unwrap();
    let (port, database) = port_and_rest.split_once('/').unwrap();
    let database = database.split('?').next().unwrap();
    let url = format!("{login}@wrong.example:{port}/{database}?hostaddr=127.0.0.1");
    let mut config = PostgresConfig::from_url(&url).unwrap();
    config.ssl_mode = mode;
    config.ssl_roots = right_roots();
    config.schema = Some(unique("tls"));
    config
}

async fn refused(config: PostgresConfig) -> Error {
    let error = open(config).connect().await.expect_err("it must be refused");
    assert_eq!((error.backend(), error.operation()), (Some("postgres"), Some("connect")));
    error
}

async fn works(config: PostgresConfig) {
    let backend = open(config);
    backend.connect().await.unwrap();
    backend.set("k", Json::from(1), None).await.unwrap();
    assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(1)));
}

#[tokio::test]
async fn sslmodes_verify_what_libpq_verifies() {
    for mode in [SslMode::Prefer, SslMode::Require] {
        works(tls_config(mode)).await;
    }
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let mut config = tls_config(mode);
        config.ssl_roots = right_roots();
        works(config).await;
    }
    assert_eq!(refused(tls_config(SslMode::Disable)).await.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(&path, authority.self_signed(&key).unwrap().pem()).unwrap();
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let mut config = tls_config(mode);
        config.ssl_roots = Some(SslRoots::File(path.clone()));
        let error = refused(config).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{mode:?}: {error}");
        assert!(error.to_string().contains("TLS"), "{error}");
    }
    // The roots of the operating system do not know it either.
    assert_eq!(refused(tls_config(SslMode::VerifyFull)).await.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn only_verify_full_minds_the_name() {
    works(misnamed(SslMode::VerifyCa)).await;
    assert_eq!(refused(misnamed(SslMode::VerifyFull)).await.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_server_without_tls_and_files_that_are_no_roots_are_refused() {
    let mut plain = config("plain");
    plain.ssl_mode = SslMode::Require;
    let error = refused(plain).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().unwrap().contains("sslmode=prefer"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let (empty, broken) = (folder.path().join("empty.pem"), folder.path().join("broken.pem"));
    std::fs::write(&empty, "nothing").unwrap();
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n").unwrap();
    for (path, what) in [
        (empty, "holds no PEM certificate"),
        (broken, "holds a malformed PEM block"),
        (folder.path().join("missing.pem"), "does not exist"),
        (folder.path().to_owned(), "cannot be read"),
    ] {
        let mut config = tls_config(SslMode::VerifyCa);
        config.ssl_roots = Some(SslRoots::File(path));
        let error = refused(config).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("sslrootcert") && error.message().contains(what), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_is_trusted_where_it_is_the_root() {
    let options = PostgresOptions { tls: true, self_signed: true, ..PostgresOptions::default() };
    let server = tokio::task::spawn_blocking(move || Postgres::start(&options).unwrap()).await.unwrap();
    let mut config = PostgresConfig::from_url(&server.url()).unwrap();
    let error = refused(config.clone()).await;
    assert_eq!(error.kind(), ErrorKind::Config, "the system does not know it");
    assert!(error.message().contains("self-signed, and not among the roots"), "{error}");
    assert!(error.hint().unwrap().contains("POSTGRES_TLS_CA"), "{error}");
    config.ssl_roots = Some(SslRoots::File(server.ca().unwrap().to_owned()));
    works(config.clone()).await;
    config.ssl_roots = right_roots();
    assert_eq!(refused(config).await.kind(), ErrorKind::Config, "another root");
}

#[tokio::test]
async fn what_a_login_lacks_is_named() {
    let url = url();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, rest) = rest.split_once('@').unwrap();
    let nobody = format!("{scheme}://{}@{rest}", user.split(':').next().unwrap());
    let error = refused(PostgresConfig::from_url(&nobody).unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        error.message().contains("none is set") && error.hint().unwrap().contains("PGPASSFILE"),
        "{error}"
    );
    let bound = format!("{url}?channel_binding=require&sslmode=disable");
    let error = refused(PostgresConfig::from_url(&bound).unwrap()).await;
    assert!(error.message().contains("channel binding is required"), "{error}");
}

#[tokio::test]
async fn nothing_is_verified_where_that_is_said() {
    let mut config = misnamed(SslMode::VerifyFull);
    config.ssl_roots = Some(SslRoots::System);
    let error = refused(config.clone()).await;
    assert!(error.hint().unwrap().contains("POSTGRES_TLS_VERIFY=none"), "{error}");
    config.tls_verify = TlsVerify::None;
    works(config).await;
}

#[tokio::test]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let options = format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        let error = refused(PostgresConfig::from_url(&database("encoding", &options).await).unwrap()).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(encoding) && error.hint().unwrap().contains("UTF8"), "{error}");
    }
}

#[tokio::test]
async fn a_setting_that_the_server_does_not_know_is_told_as_one() {
    for options in ["-c%20no_such_setting%3D1", "-c%20work_mem%3Dmuch"] {
        let config = PostgresConfig::from_url(&format!("{}?options={options}", url())).unwrap();
        let error = refused(config).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint().unwrap().contains("`options`"), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_password_may_stand_in_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    std::fs::write(&path, "other:*:*:*:wrong\n127.0.0.1:*:*:storage:p@ss\\:w/rd%\n").unwrap();
    let variables = |name: &str| match name {
        "PGPASSFILE" => Some(path.display().to_string()),
        "PGUSER" | "PGDATABASE" => Some("storage".to_owned()),
        _ => None,
    };
    let url = format!("postgresql://127.0.0.1:{}", port(&url()));
    let mut config = PostgresConfig::from_url_and_variables(&url, &variables).unwrap();
    config.schema = Some(unique("passfile"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(refused(config.clone()).await.kind(), ErrorKind::Unauthorized, "others may read it");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    works(config).await;
}

#[tokio::test]
async fn a_wrong_password_is_unauthorized_and_never_shown() {
    let role = unique("role");
    outside().await.batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'right'")).await.unwrap();
    let config = PostgresConfig::from_url(&with_login(&url(), &role, "s3cret")).unwrap();
    let error = refused(config).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_password_is_given_as_it_is_where_there_is_no_url() {
    let url = url();
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let mut built = PostgresConfig::new("127.0.0.1").port(port).user("storage").database("storage");
    built.schema = Some(unique("built"));
    works(built.clone().password("p@ss:w/rd%")).await;
    assert_eq!(refused(built.password("p%40ss")).await.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_a_matter_of_settings() {
    let url = url();
    let (server, _) = url.rsplit_once('/').unwrap();
    let config = PostgresConfig::from_url(&format!("{server}/no_such_database")).unwrap();
    assert_eq!(refused(config).await.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_closed_port_is_unavailable_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let config = PostgresConfig::from_url(&format!("postgresql://u:p@127.0.0.1:{port}/d")).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(2), refused(config)).await.unwrap();
    assert_eq!(answer.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_server_that_never_answers_ends_within_the_limit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgresql://u:p@127.0.0.1:{port}/d");
    let mut config = PostgresConfig::from_url(&url).unwrap();
    config.connect_timeout = Duration::from_millis(200);
    let answer = tokio::time::timeout(Duration::from_secs(2), refused(config)).await.unwrap();
    assert_eq!(answer.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn several_hosts_are_tried_in_turn() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let url = url();
    let (login, place) = url.split_once('@').unwrap();
    let mut config = PostgresConfig::from_url(&format!("{login}@{closed},{place}")).unwrap();
    config.schema = Some(unique("hosts"));
    works(config).await;
}

#[tokio::test]
async fn disconnect_leaves_no_connection_behind() {
    let mut config = config("left");
    config.application_name = unique("left");
    config.pool_min = 4;
    let backend = open(config.clone());
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    let client = outside().await;
    for _ in 0..3 {
        backend.connect().await.unwrap();
        backend.set("k", Json::from(1), None).await.unwrap();
        backend.disconnect().await.unwrap();
        crate::common::eventually("the server sees them closed", async || {
            client.query_one(sql, &[&config.application_name]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    }
}
