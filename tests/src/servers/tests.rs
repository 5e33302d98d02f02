//! The servers, really started.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::http;
use crate::{AclUser, Azurite, Moto, Postgres, PostgresOptions, Redis, RedisCluster, RedisOptions};

/// Whether somebody answers a Redis `PING` on `port` within a second; `None` when nobody listens.
fn answers(port: u16) -> Option<bool> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    connection.write_all(b"PING\r\n").unwrap();
    match connection.read(&mut [0; 7]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(false),
        count => Some(count.unwrap() > 0),
    }
}

#[test]
fn redis_comes_back_with_its_data_after_a_kill() {
    let mut redis = Redis::start(&RedisOptions::default()).unwrap();
    redis.command(&["SET", "key", "value"]).unwrap();
    redis.kill().unwrap();
    assert_eq!(answers(redis.port()), None);
    let url = redis.url();
    redis.restart().unwrap();
    assert_eq!(redis.command(&["GET", "key"]).unwrap(), "value");
    assert_eq!(redis.url(), url);
    redis.stop().unwrap();
    assert_eq!(answers(redis.port()), None);
}

#[test]
fn a_paused_redis_keeps_connections_and_answers_nobody() {
    let redis = Redis::start(&RedisOptions::default()).unwrap();
    redis.pause();
    assert_eq!(answers(redis.port()), Some(false));
    redis.resume();
    assert_eq!(answers(redis.port()), Some(true));
}

#[test]
fn redis_lets_in_only_whom_it_was_told_to() {
    let password = "p@ss:w/rd%".to_string();
    let user = AclUser { name: "agent".into(), password: password.clone() };
    let options = RedisOptions { user: Some(user), ..RedisOptions::default() };
    let redis = Redis::start(&options).unwrap();
    assert_eq!(redis.url(), format!("redis://agent:p%40ss%3Aw%2Frd%25@127.0.0.1:{}", redis.port()));
    assert_eq!(redis.command(&["ACL", "WHOAMI"]).unwrap(), "agent");
    let options = RedisOptions { password: Some(password), ..RedisOptions::default() };
    let redis = Redis::start(&options).unwrap();
    assert_eq!(redis.command(&["ACL", "WHOAMI"]).unwrap(), "default");
    assert!(redis.url().starts_with("redis://:p%40ss%3Aw%2Frd%25@"));
}

#[test]
fn a_cluster_survives_the_restart_of_a_node() {
    let mut cluster = RedisCluster::start(3).unwrap();
    assert_eq!(cluster.url().matches("127.0.0.1:").count(), 3);
    let node = cluster.nodes_mut().last_mut().unwrap();
    node.kill().unwrap();
    node.restart().unwrap();
    cluster.wait_until_complete().unwrap();
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let options = RedisOptions { settings: vec!["no-such-setting 1".into()], ..RedisOptions::default() };
    let error = Redis::start(&options).unwrap_err().to_string();
    assert!(error.contains("no-such-setting"), "{error}");
    let options = PostgresOptions {
        settings: vec![("no_such_setting".into(), "1".into())],
        ..PostgresOptions::default()
    };
    let error = Postgres::start(&options).unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn postgres_comes_back_with_its_data_after_a_kill_and_a_stop() {
    let mut postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    postgres.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").unwrap();
    postgres.kill().unwrap();
    assert!(postgres.sql("SELECT 1").is_err());
    postgres.restart().unwrap();
    assert_eq!(postgres.sql("SELECT a FROM t").unwrap(), "7");
    postgres.stop().unwrap();
    postgres.restart().unwrap();
    assert_eq!(postgres.sql("SELECT a FROM t").unwrap(), "7");
}

#[test]
fn postgres_with_tls_refuses_plain_connections() {
    let postgres = Postgres::start(&PostgresOptions { tls: true, ..PostgresOptions::default() }).unwrap();
    assert!(postgres.url().starts_with("postgresql://storage:p%40ss%3Aw%2Frd%25@localhost:"));
    assert!(postgres.url().ends_with("/storage?sslmode=verify-full"));
    let rules = "SELECT type FROM pg_hba_file_rules ORDER BY type";
    assert_eq!(postgres.sql(rules).unwrap(), "hostssl\nlocal");
    assert_eq!(postgres.sql("SHOW ssl").unwrap(), "on");
    assert!(postgres.ca().unwrap().is_file());
}

#[test]
fn postgres_orders_text_as_a_language_does() {
    let postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let version: u32 =
        postgres.sql("SELECT current_setting('server_version_num')::int / 10000").unwrap().parse().unwrap();
    let expected = if version >= 15 { "t" } else { "f" };
    assert_eq!(postgres.sql("SELECT 'a' < 'B'").unwrap(), expected);
}

#[test]
fn azurite_ends_and_comes_back_on_its_port() {
    let mut azurite = Azurite::start().unwrap();
    let url = azurite.url();
    azurite.kill().unwrap();
    assert!(!http::answers(azurite.port()));
    azurite.restart().unwrap();
    assert!(http::answers(azurite.port()));
    assert_eq!(azurite.url(), url);
    azurite.stop().unwrap();
    assert!(!http::answers(azurite.port()));
}

#[test]
fn moto_keeps_objects_until_it_ends() {
    let mut moto = Moto::start().unwrap();
    http::tell(moto.port(), "PUT", "/storage/object", "content").unwrap();
    assert!(http::ask(moto.port(), "GET", "/storage/object", "").unwrap().ends_with("content"));
    moto.stop().unwrap();
    moto.restart().unwrap();
    assert!(http::tell(moto.port(), "GET", "/storage/object", "").is_err());
}

#[test]
fn moto_checks_credentials_when_told_to() {
    let moto = Moto::start().unwrap();
    http::tell(moto.port(), "PUT", "/storage/object", "content").unwrap();
    moto.check_credentials().unwrap();
    let refused = http::tell(moto.port(), "PUT", "/storage/object", "content").unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[test]
fn what_means_something_in_a_url_is_encoded() {
    assert_eq!(super::encode("p@ss:w/rd%"), "p%40ss%3Aw%2Frd%25");
    assert_eq!(super::encode("plain123"), "plain123");
}
