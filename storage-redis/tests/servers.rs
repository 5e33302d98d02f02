//! Where a backend connects to: TLS, credentials, sockets, databases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::{path::PathBuf, time::Duration};

use storage_core::{ErrorKind, HealthStatus, StorageBackend};
use storage_redis::{RedisBackend, RedisConfig, TlsVerify};
use storage_tests::{AclUser, Redis, RedisOptions};
use support::{config, json, open, raw, variable};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

async fn failure(config: RedisConfig) -> storage_core::Error {
    RedisBackend::new(config).unwrap().connect().await.unwrap_err()
}

async fn works(config: RedisConfig) {
    let backend = open(config).await;
    backend.set("deal:1", json("{\"cpm\":1}"), None).await.unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(json("{\"cpm\":1}")));
    assert!(backend.delete("deal:1").await.unwrap());
    backend.disconnect().await.unwrap();
}

#[tokio::test]
async fn tls_with_the_authority_and_an_acl_user_works() {
    let mut config = config(&variable("STORAGE_TEST_REDIS_TLS_URL"));
    config.tls_ca = Some(variable("STORAGE_TEST_REDIS_TLS_CA").into());
    works(config).await;
}

#[tokio::test]
async fn a_password_is_given_as_it_is_where_there_is_no_url() {
    let url = variable("STORAGE_TEST_REDIS_TLS_URL");
    let port = url.rsplit_once(':').unwrap().1.trim_end_matches('/').parse().unwrap();
    let built = RedisConfig::new("localhost", port).tls().user("agent").database(0);
    let mut config = built.clone().password("p@ss:w/rd%");
    config.tls_ca = Some(variable("STORAGE_TEST_REDIS_TLS_CA").into());
    let backend = open(config).await;
    backend.set("built:1", json("1"), None).await.unwrap();
    assert!(backend.delete("built:1").await.unwrap());
    for wrong in [
        built,
        RedisConfig::new("", 6379),
        RedisConfig::new("localhost", 0),
        RedisConfig::unix("/tmp/socket").tls(),
        RedisConfig::cluster([("localhost", 6379)]).database(1),
        RedisConfig::cluster(Vec::<(String, u16)>::new()),
    ] {
        assert_eq!(RedisBackend::new(wrong).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn tls_without_the_authority_is_refused() {
    let error = failure(config(&variable("STORAGE_TEST_REDIS_TLS_URL"))).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn tls_to_a_host_that_the_certificate_does_not_name_is_refused() {
    let url = variable("STORAGE_TEST_REDIS_TLS_URL").replace("localhost", "127.0.0.2");
    let tls = Redis::start(&RedisOptions {
        tls: true,
        settings: vec!["bind 127.0.0.1 127.0.0.2".to_owned()],
        ..RedisOptions::default()
    });
    let server = tls.unwrap();
    let mut wrong = config(&format!("rediss://127.0.0.2:{}", server.port()));
    wrong.tls_ca = server.ca().map(Into::into);
    let error = failure(wrong).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{url} {error}");
}

#[tokio::test]
async fn a_certificate_file_that_is_none_is_named() {
    let mut config = config("rediss://localhost:1");
    config.tls_ca = Some("/nowhere/ca.pem".into());
    let error = failure(config).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("/nowhere/ca.pem does not exist"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let mut config = support::config("rediss://localhost:1");
    config.tls_ca = Some(file);
    assert!(failure(config).await.to_string().contains("holds no PEM certificate"));
}

/// A server with a certificate that `openssl req -x509` would make: its own authority.
fn self_signed(names: &[&str], folder: &std::path::Path) -> (Redis, PathBuf) {
    let mut parameters =
        rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = folder.join("self.pem");
    let key_file = folder.join("self.key");
    std::fs::write(&certificate, parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let settings = vec![
        format!("tls-cert-file {}", certificate.display()),
        format!("tls-key-file {}", key_file.display()),
    ];
    let server = Redis::start(&RedisOptions { tls: true, settings, ..RedisOptions::default() }).unwrap();
    (server, certificate)
}

#[tokio::test]
async fn a_self_signed_certificate_works_where_it_is_the_trusted_one_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (server, certificate) = self_signed(&["localhost"], folder.path());
    let trusting = |url: &str, certificate: &std::path::Path| {
        let mut config = config(url);
        config.tls_ca = Some(certificate.to_owned());
        config
    };
    works(trusting(&server.url(), &certificate)).await;
    works(config(&format!("{}?ssl_ca_certs={}", server.url(), certificate.display()))).await;
    // Not for another host, and not another certificate, be it for the same names and by the same authority's name.
    let error = failure(trusting(&server.url().replace("localhost", "127.0.0.1"), &certificate)).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("other hosts"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let (_, other) = self_signed(&["localhost"], other.path());
    assert_eq!(failure(trusting(&server.url(), &other)).await.kind(), ErrorKind::Config);
    assert_eq!(failure(config(&server.url())).await.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn nothing_is_verified_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = self_signed(&["elsewhere.example"], folder.path());
    let mut unverified = config(&server.url());
    assert_eq!(failure(unverified.clone()).await.kind(), ErrorKind::Config);
    unverified.tls_verify = TlsVerify::None;
    works(unverified).await;
    works(config(&format!("{}?ssl_cert_reqs=none", server.url()))).await;
    works(config(&format!("{}#insecure", server.url()))).await;
}

#[tokio::test]
async fn tls_and_none_are_not_taken_for_each_other() {
    let tls = variable("STORAGE_TEST_REDIS_TLS_URL");
    let error = failure(config(&tls.replace("rediss://", "redis://"))).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("rediss://")), "{error}");
    let plain = variable("STORAGE_TEST_REDIS_URL");
    let mut config = config(&plain.replace("redis://", "rediss://"));
    (config.connect_timeout, config.tls_verify) = (Duration::from_millis(500), TlsVerify::None);
    let error = failure(config).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("redis://")), "{error}");
}

/// A server that speaks RESP3, and says more than it was asked.
async fn talkative() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asides = "|1\r\n+ttl\r\n:9\r\n>2\r\n+invalidate\r\n*1\r\n+deal:1\r\n";
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (requests, mut answers) = client.into_split();
                let mut requests = BufReader::new(requests).lines();
                let mut gets = 0;
                while let Ok(Some(line)) = requests.next_line().await {
                    let answer = match line.as_str() {
                        "HELLO" => "%2\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n".to_owned(),
                        "PING" => "+PONG\r\n".to_owned(),
                        "GET" => {
                            gets += 1;
                            let nothing = gets % 3 == 0;
                            if nothing { "_\r\n".to_owned() } else { format!("=5\r\ntxt:{}\r\n", gets % 3) }
                        }
                        _ => continue,
                    };
                    let all = [asides, &answer, asides].concat();
                    answers.write_all(all.as_bytes()).await.unwrap();
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn what_nobody_asked_for_shifts_no_answer() {
    let mut config = config(&format!("redis://127.0.0.1:{}", talkative().await));
    config.connections = 1;
    let backend = open(config).await;
    for number in 1..20 {
        let expected = Some(json(&(number % 3).to_string())).filter(|_| number % 3 > 0);
        assert_eq!(backend.get("deal:1").await.unwrap(), expected, "{number}");
    }
}

#[tokio::test]
async fn both_versions_of_the_protocol_carry_the_name_of_the_client() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    for (query, version) in [("", "resp=3"), ("?protocol=3", "resp=3"), ("?protocol=2", "resp=2")] {
        let mut config = config(&format!("{}{query}", server.url()));
        config.client_name = format!("buyer-{}", query.len());
        let name = format!("name={} ", config.client_name);
        let backend = open(config.clone()).await;
        let listing = server.command(&["CLIENT", "LIST"]).unwrap();
        let line = listing.lines().find(|line| line.contains(&name)).expect("a named connection");
        // Redis 7.0 does not show the protocol yet.
        assert!(!line.contains("resp=") || line.contains(version), "{line}");
        backend.disconnect().await.unwrap();
        works(config).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_unauthorized_and_never_shown() {
    let user = AclUser { name: "agent".to_owned(), password: "right".to_owned() };
    let server = Redis::start(&RedisOptions { user: Some(user), ..RedisOptions::default() }).unwrap();
    let host = format!("127.0.0.1:{}", server.port());
    for credentials in ["agent:s3cret@", ":s3cret@", ""] {
        let error = failure(config(&format!("redis://{credentials}{host}"))).await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{credentials} {error}");
        let config = config(&format!("redis://{credentials}{host}"));
        assert!(!format!("{error} {error:?} {config:?}").contains("s3cret"));
    }
    works(config(&server.url())).await;
}

#[tokio::test]
async fn a_unix_socket_works() {
    works(config(&variable("STORAGE_TEST_REDIS_SOCKET_URL"))).await;
}

#[tokio::test]
async fn database_numbers_are_apart_and_one_too_high_is_refused() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let url = |number| format!("redis://127.0.0.1:{}/{number}", server.port());
    let one = open(config(&url(1))).await;
    one.set("deal:1", json("1"), None).await.unwrap();
    let count = |number| {
        let url = url(number);
        async move { redis::cmd("DBSIZE").query_async::<u64>(&mut raw(&url).await).await.unwrap() }
    };
    assert_eq!((count(0).await, count(1).await), (0, 1));
    assert_eq!(failure(config(&url(99))).await.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_at_once() {
    let url = {
        let mut server = Redis::start(&RedisOptions::default()).unwrap();
        server.kill().unwrap();
        server.url()
    };
    let start = std::time::Instant::now();
    assert_eq!(failure(config(&url)).await.kind(), ErrorKind::Unavailable);
    assert_eq!(failure(config("redis+unix:///nowhere/redis.sock")).await.kind(), ErrorKind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_server_and_a_cluster_are_not_taken_for_each_other() {
    let single = variable("STORAGE_TEST_REDIS_URL").replace("redis://", "redis-cluster://");
    assert_eq!(failure(config(&single)).await.kind(), ErrorKind::Config);
    let cluster = variable("STORAGE_TEST_REDIS_CLUSTER_URL");
    let node = cluster.split(',').next().unwrap().replace("redis-cluster://", "redis://");
    let error = failure(config(&node)).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().is_some_and(|hint| hint.contains("redis-cluster://")), "{error}");
    // Where the server does not say so in its greeting, the first key of another node does.
    let backend = open(config(&format!("{node}?protocol=2"))).await;
    let mut kinds = Vec::new();
    for number in 0..32 {
        kinds.extend(backend.get(&format!("deal:{number}")).await.err().map(|error| error.kind()));
    }
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == ErrorKind::Config), "{kinds:?}");
}

#[test]
fn settings_that_cannot_be_are_refused_before_any_io() {
    let wrong = |change: fn(&mut RedisConfig), url: &str| {
        let mut config = config(url);
        change(&mut config);
        RedisBackend::new(config).unwrap_err().kind()
    };
    let single = "redis://localhost";
    assert_eq!(wrong(|config| config.namespace = "a\0".to_owned(), single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.connections = 0, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.operation_timeout = Duration::ZERO, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.operation_timeout = Duration::MAX, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.connect_timeout = Duration::MAX, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.idle_check = Duration::ZERO, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.idle_check = Duration::MAX, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.max_value_bytes = 0, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.max_value_bytes = usize::MAX, single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.namespace = "n".repeat(1_025), single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.client_name = "a b".to_owned(), single), ErrorKind::Config);
    assert_eq!(wrong(|config| config.client_name = String::new(), single), ErrorKind::Config);
    let braces = |config: &mut RedisConfig| config.namespace = "{a}:".to_owned();
    assert_eq!(wrong(braces, "redis-cluster://localhost"), ErrorKind::Config);
}

#[tokio::test]
async fn health_and_stats_speak_of_the_server() {
    let (backend, _) = support::shared().await;
    let health = backend.health().await;
    assert_eq!((health.status(), health.stores[0].store.as_str()), (HealthStatus::Healthy, "redis"));
    let stats = backend.stats().await.unwrap();
    assert!(stats.bytes > Some(0) && stats.details.contains_key("redis_version"), "{stats:?}");
    backend.disconnect().await.unwrap();
    assert_eq!(backend.health().await.status(), HealthStatus::Unhealthy);

    let cluster = support::cluster().await;
    let health = cluster.health().await;
    assert_eq!((health.status(), health.stores.len()), (HealthStatus::Healthy, 3));
    assert_eq!(cluster.stats().await.unwrap().details["nodes"], "3");
}
