use super::*;

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.to_owned(), port }
}

fn server(addresses: Vec<Address>) -> Server {
    let cluster = addresses.len() > 1;
    Server { cluster, ..Server::at(addresses) }
}

#[test]
fn urls_by_table() {
    let with = |user: Option<&str>, password: &str, server: Server| Server {
        username: user.map(str::to_owned),
        password: Some(password.to_owned()),
        ..server
    };
    let one = || server(vec![tcp("h", 6379)]);
    let two = || server(vec![tcp("a", 1), tcp("b", 2)]);
    let sentinel = |nodes: Vec<Address>, user: Option<&str>, password: Option<&str>| {
        let (service, own) = ("my master".to_owned(), |text: Option<&str>| text.map(str::to_owned));
        let (username, password) = (own(user), own(password));
        Server {
            sentinels: Some(Sentinels { nodes, service: service.clone(), username, password }),
            ..server(vec![Address::Service(service)])
        }
    };
    let three = || vec![tcp("a", 1), tcp("b", 26379), tcp("::1", 3)];
    let socket = || server(vec![Address::Unix("/run/r.sock".into())]);
    let table = [
        ("redis://h", one()),
        (" redis://h/ ", one()),
        ("redis://h:7/3", Server { database: 3, ..server(vec![tcp("h", 7)]) }),
        ("redis://[::1]:7", server(vec![tcp("::1", 7)])),
        ("rediss://h", Server { tls: true, ..one() }),
        ("redis://:pw@h", with(None, "pw", one())),
        ("redis://u:p%40%3A%2F%25@h", with(Some("u"), "p@:/%", one())),
        ("redis://u:p@ss@h", with(Some("u"), "p@ss", one())),
        ("unix:///run/r.sock", socket()),
        ("redis+unix:///run/r.sock?db=2", Server { database: 2, ..socket() }),
        ("redis+unix:///run/r.sock?user=u&password=p%26", with(Some("u"), "p&", socket())),
        ("redis+unix://u:p@/run/r.sock", with(Some("u"), "p", socket())),
        ("redis-cluster://h", Server { cluster: true, ..one() }),
        ("redis-cluster://a:1,b:2", two()),
        ("redis-cluster://u:p@a:1,b:2", with(Some("u"), "p", two())),
        ("rediss-cluster://a:1,b:2", Server { tls: true, ..two() }),
        ("redis://a:1,redis://b:2", two()),
        ("REDIS://a:1,Redis://b:2", two()),
        ("RedisS://h", Server { tls: true, ..one() }),
        ("valkeys://h", Server { tls: true, ..one() }),
        ("rediss://h#insecure", Server { tls: true, ..one() }),
        ("redis://h?db=3", Server { database: 3, ..one() }),
        ("redis://h/3?db=3&protocol=2", Server { database: 3, ..one() }),
        ("redis://h?username=u&password=p%40", with(Some("u"), "p@", one())),
        ("redis-cluster://a:1,b:2?protocol=3", two()),
        ("redis+sentinel://a:1,b,[::1]:3/my%20master", sentinel(three(), None, None)),
        (
            "rediss+sentinel://u:p@a:1,b,[::1]:3/my%20master/2?sentinel_user=s&sentinel_password=p%26",
            Server {
                database: 2,
                tls: true,
                ..with(Some("u"), "p", sentinel(three(), Some("s"), Some("p&")))
            },
        ),
        ("redis://u:p@a:1/0,redis://u:p@b:2/0", with(Some("u"), "p", two())),
    ];
    for (url, expected) in table {
        assert_eq!(parse(url).unwrap().0, expected, "{url}");
    }
}

#[test]
fn wrong_urls_are_named_without_a_password() {
    for url in [
        "",
        "h:6379",
        "http://secret",
        "redis://",
        "redis://:secret@",
        "redis://u@h",
        "redis://:secret@h:port",
        "redis://:sec,secret@h:1",
        "redis://:secret@h/first",
        "redis://h?pasword=secret",
        "redis://u@h?user=secret&password=1",
        "redis://:secret@h/1?db=2",
        "redis://h?sentinel_password=secret",
        "redis-cluster://a:1?db=1&password=secret",
        "redis://:secret@h?ssl_cert_reqs=none",
        "redis+sentinel://:secret@a:1,b:2",
        "redis+sentinel://:secret@a:1,b:2/",
        "redis+sentinel://:secret@a:1,b:2/service/first",
        "redis+sentinel://:secret@a:1,,b:2/service",
        "redis-sentinel://:secret@a:1/0#service",
        "redis://:secret@h:0",
        "redis://:%ff%fe@h",
        "redis+unix://secret/run",
        "redis+unix:///run/r.sock?secret=1",
        "redis-cluster://:secret@a:1,b:2/1",
        "redis://:secret@a:1,rediss://b:2",
        "redis://:secret@a:1,redis://:other@b:2",
    ] {
        let error = parse(url).unwrap_err();
        assert_eq!(error.kind(), storage_core::ErrorKind::Config, "{url}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{url}: {error}");
    }
}

#[test]
fn hints_by_table() {
    let table = [
        ("127.0.0.1:6379", Some("write redis://127.0.0.1:6379")),
        ("cache.example:6379", Some("write redis://cache.example:6379")),
        ("user:secret@h:6379", Some(SCHEMES)),
        ("redis-sentinel://h/0", Some(SENTINEL_FORM)),
        ("http://h", Some(SCHEMES)),
        ("redis://h?ssl_cert_reqs=none", Some("write rediss://")),
    ];
    for (url, hint) in table {
        assert_eq!(parse(url).unwrap_err().hint(), hint, "{url}");
    }
    let options = parse("rediss://h?ssl_cert_reqs=none").unwrap().1;
    assert_eq!(options, parse("rediss://h#insecure").unwrap().1);
}
