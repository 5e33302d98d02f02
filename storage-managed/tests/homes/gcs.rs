//! What only Google Cloud Storage does, as its documentation says: before a server of ours, which follows that.

use std::{io::Write, sync::LazyLock};

use storage_core::{Error, ErrorKind};
use storage_managed::home::{Body, Fresh, GcsHome, Home, Put, Version, from_url, probe};
use storage_tests::{Fault, Gcs, Proxy};

use crate::{
    buckets::Cloud,
    cases::{done, text},
    stores::prefix,
};

const BUCKET: &str = "storage";

static SERVER: LazyLock<Gcs> = LazyLock::new(|| Gcs::start().unwrap());

pub(crate) fn url() -> String {
    SERVER.url()
}

/// The variables of a program that asks at `url`.
fn variables(url: &str) -> impl Fn(&str) -> Option<String> {
    move |name| match name {
        "GOOGLE_SERVICE_ACCOUNT_KEY" => Some(Gcs::KEY.into()),
        "GOOGLE_BASE_URL" => Some(url.into()),
        _ => None,
    }
}

pub(crate) fn home(url: &str, prefix: &str) -> GcsHome {
    GcsHome::new(BUCKET, prefix, &variables(url)).unwrap()
}

pub(crate) fn cloud() -> Cloud {
    Cloud {
        port: SERVER.port(),
        home: |url, prefix, timeout| Box::new(home(url, prefix).with_timeout(timeout)),
    }
}

fn large(fill: u8) -> Body {
    Body::Bytes(vec![fill; 9 << 20].into())
}

/// All that an error tells: nothing of it may be secret.
fn all_of(error: &Error) -> String {
    let mut all = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        all += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    all
}

#[tokio::test]
async fn the_same_content_written_again_is_another_version() {
    let home = home(&url(), &prefix());
    let first = done(home.create("head", text("same"), None).await.unwrap());
    let second = done(home.replace("head", text("same"), &first, None).await.unwrap());
    assert_ne!(first, second);
    assert_eq!(home.replace("head", text("late"), &first, None).await.unwrap(), Put::Refused);
    // By etags alone, which are the content's, there is nothing new to be read.
    assert!(matches!(home.get_if_changed("head", &first).await.unwrap(), Fresh::Unchanged));
    assert_eq!(home.get("head").await.unwrap().unwrap().version, second);
}

#[tokio::test]
async fn a_version_of_another_home_is_none_of_this_one() {
    let home = home(&url(), &prefix());
    done(home.create("head", text("first"), None).await.unwrap());
    for version in ["\"etag\"", "0/etag", ""] {
        let version = Version(version.into());
        assert_eq!(home.replace("head", text("late"), &version, None).await.unwrap(), Put::Refused);
        assert!(matches!(home.get_if_changed("head", &version).await.unwrap(), Fresh::Changed(_)));
    }
}

#[tokio::test]
async fn what_is_sent_apart_is_copied_and_removed() {
    let server = Gcs::start().unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let home = home(&format!("http://127.0.0.1:{}", proxy.port()), "agent");
    assert!(home.put("base/1", large(1), &|_| {}).await.unwrap());
    assert_eq!(server.kept(), (vec!["agent/base/1".to_owned()], 0));
    // Is it there? Begin, two parts, complete, copy, remove.
    assert_eq!(proxy.seen().len(), 7);
    // Somebody else's comes between the question and the copy.
    proxy.reset();
    proxy.at(0, Fault::Answer(404));
    assert!(!home.put("base/1", large(2), &|_| {}).await.unwrap());
    assert_eq!(home.get("base/1").await.unwrap().unwrap().bytes[0], 1);
    assert_eq!(server.kept(), (vec!["agent/base/1".to_owned()], 0));
}

#[tokio::test]
async fn what_was_left_apart_is_not_listed() {
    let server = Gcs::start().unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let home = home(&format!("http://127.0.0.1:{}", proxy.port()), "agent");
    // Neither copied nor removed, as where the process is killed.
    proxy.at(5, Fault::LoseRequest);
    proxy.at(6, Fault::LoseRequest);
    let error = home.put("base/1", large(1), &|_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    let (kept, unfinished) = server.kept();
    assert!(kept.len() == 1 && kept[0].ends_with(".upload") && unfinished == 0, "{kept:?}");
    assert_eq!(home.list("").await.unwrap(), []);
    assert!(home.put("base/1", large(1), &|_| {}).await.unwrap(), "and it is in nobody's way");
}

/// As in clones of one machine, which have one state of the generator that is no secret.
#[tokio::test]
async fn what_is_sent_apart_has_a_name_of_its_own_in_each_process() {
    let server = Gcs::start().unwrap();
    for number in 1..=2 {
        let proxy = Proxy::start(server.port()).unwrap();
        let home = home(&format!("http://127.0.0.1:{}", proxy.port()), "agent");
        proxy.at(5, Fault::LoseRequest);
        proxy.at(6, Fault::LoseRequest);
        fastrand::seed(7);
        home.put("base/1", large(1), &|_| {}).await.unwrap_err();
        assert_eq!(server.kept().0.len(), number, "{:?}", server.kept());
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_ended() {
    let server = Gcs::start().unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let home = home(&format!("http://127.0.0.1:{}", proxy.port()), "agent");
    proxy.at(2, Fault::Answer(503));
    home.put("base/1", large(1), &|_| {}).await.unwrap_err();
    assert_eq!(server.kept(), (Vec::new(), 0));
}

#[tokio::test]
async fn writes_that_come_too_fast_are_tried_again() {
    let server = Gcs::start().unwrap();
    server.limit_writes();
    let home = home(&server.url(), "agent");
    let first = done(home.create("head", text("first"), None).await.unwrap());
    let second = done(home.replace("head", text("second"), &first, None).await.unwrap());
    assert_eq!(home.get("head").await.unwrap().unwrap().version, second);
}

#[tokio::test]
async fn a_server_that_refuses_or_has_no_such_bucket_is_told_apart() {
    let server = Gcs::start().unwrap();
    let elsewhere = GcsHome::new("no-such-bucket", "agent", &variables(&server.url())).unwrap();
    let error = elsewhere.get("head").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    server.close();
    let home = home(&server.url(), "agent");
    let error = home.get("head").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    for text in [all_of(&error), format!("{home:?}"), home.name()] {
        assert!(!text.contains("PRIVATE KEY") && !text.contains("Bearer"), "{text}");
    }
    drop(server);
    assert_eq!(home.get("head").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn credentials_that_cannot_be_used_are_named_by_their_variable_and_not_told() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(br#"{"type": "service_account", "private_key": "hunter2"}"#).unwrap();
    let path = file.path().to_str().unwrap();
    let unsigned = r#"{"private_key": "hunter2", "private_key_id": "x", "client_email": "x"}"#;
    for (name, value) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/hunter2.json"),
        ("GOOGLE_APPLICATION_CREDENTIALS", path),
        ("GOOGLE_SERVICE_ACCOUNT", "/nowhere/hunter2.json"),
        ("GOOGLE_SERVICE_ACCOUNT", path),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", "hunter2"),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", unsigned),
    ] {
        let error =
            GcsHome::new(BUCKET, "agent", &|asked| (asked == name).then(|| value.into())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name}");
        assert!(error.to_string().contains(name) && error.hint().is_some(), "{error}");
        assert!(!all_of(&error).contains("hunter2"), "{error}");
    }
}

#[test]
fn a_file_of_credentials_that_is_not_there_is_told_so() {
    for name in ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"] {
        let variable = |asked: &str| (asked == name).then(|| "/nowhere/key.json".into());
        let error = GcsHome::new(BUCKET, "agent", &variable).unwrap_err();
        let said = format!("the file that {name} names cannot be read: no such file");
        assert!(error.to_string().contains(&said), "{error}");
    }
}

#[test]
fn the_first_of_several_credentials_counts() {
    let both = |name: &str| match name {
        "GOOGLE_APPLICATION_CREDENTIALS" => Some("/nowhere".into()),
        _ => variables("http://127.0.0.1:1")(name),
    };
    GcsHome::new(BUCKET, "agent", &both).unwrap();
}

#[test]
fn endpoints_that_cannot_be_used_are_refused() {
    for url in ["not a url", "http://example.com", "ftp://127.0.0.1"] {
        let error = GcsHome::new(BUCKET, "agent", &variables(url)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.to_string().contains("GOOGLE_BASE_URL"), "{error}");
    }
    let elsewhere = GcsHome::new(BUCKET, "agent", &variables("https://user:hunter2@one.example/")).unwrap();
    assert_eq!(elsewhere.name(), "gcs storage/agent at one.example");
}

#[tokio::test]
async fn an_endpoint_in_a_file_of_credentials_is_not_asked() {
    let key = Gcs::KEY.replace('}', r#", "gcs_base_url": "http://127.0.0.1:1"}"#);
    let variable = |name: &str| match name {
        "GOOGLE_SERVICE_ACCOUNT_KEY" => Some(key.clone()),
        _ => variables(&url())(name),
    };
    let home = GcsHome::new(BUCKET, &prefix(), &variable).unwrap();
    assert!(home.get("head").await.unwrap().is_none());
}

#[tokio::test]
async fn a_home_is_reached_by_its_url() {
    let home = from_url(&format!("sqlite+gs://{BUCKET}/{}", prefix()), &variables(&url())).unwrap();
    probe(&*home).await.unwrap();
}
