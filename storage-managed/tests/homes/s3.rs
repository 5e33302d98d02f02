//! What only S3 does.

use storage_core::ErrorKind;
use storage_managed::home::{Home, S3Home, from_url, probe};
use storage_tests::{Moto, variable};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    buckets::Cloud,
    cases::text,
    stores::{TIMEOUT, prefix},
};

const BUCKET: &str = "storage";
const SECRET: &str = "a-secret-access-key";

pub(crate) fn url() -> String {
    variable("STORAGE_TEST_S3_URL")
}

/// The variables of a program that asks at `url`.
fn variables(url: &str) -> impl Fn(&str) -> Option<String> {
    move |name| match name {
        "AWS_ACCESS_KEY_ID" => Some("an-access-key".into()),
        "AWS_SECRET_ACCESS_KEY" => Some(SECRET.into()),
        "AWS_REGION" => Some("us-east-1".into()),
        "AWS_ENDPOINT_URL" => Some(url.into()),
        _ => None,
    }
}

pub(crate) fn home(url: &str, prefix: &str) -> S3Home {
    S3Home::new(BUCKET, prefix, &variables(url)).unwrap().with_timeout(TIMEOUT)
}

pub(crate) fn cloud() -> Cloud {
    let port = url().rsplit(':').next().unwrap().parse().unwrap();
    Cloud { port, home: |url, prefix, timeout| Box::new(home(url, prefix).with_timeout(timeout)) }
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let mut moto = Moto::start().unwrap();
    let home = home(&moto.url(), "agent");
    assert!(home.get("head").await.unwrap().is_none());
    moto.kill().unwrap();
    assert_eq!(home.get("head").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(home.create("head", text("1"), None).await.unwrap_err().kind(), ErrorKind::Unavailable);
    moto.restart().unwrap();
    assert!(home.get("head").await.unwrap().is_none());
}

#[test]
fn half_a_key_names_the_half_that_is_missing() {
    for missing in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        for value in [None, Some(String::new())] {
            let variable = |name: &str| match name == missing {
                true => value.clone(),
                false => variables(&url())(name),
            };
            let error = S3Home::new(BUCKET, "agent", &variable).unwrap_err();
            assert!(error.to_string().contains(&format!("{missing} is not set, or empty")), "{error}");
            assert!(!error.to_string().contains(SECRET) && error.hint().is_some(), "{error}");
        }
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named_as_such() {
    let home = S3Home::new("no-such-bucket", "agent", &variables(&url())).unwrap();
    let error = home.get("head").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_without_telling_them() {
    let moto = Moto::start().unwrap();
    moto.check_credentials().unwrap();
    let home = home(&moto.url(), "agent");
    let error = home.get("head").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    for text in [format!("{error} {error:?}"), format!("{home:?}"), home.name()] {
        assert!(!text.contains(SECRET) && !text.contains("an-access-key"), "{text}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    for url in ["not a url", "http://example.com", "ftp://127.0.0.1"] {
        let error = S3Home::new(BUCKET, "agent", &variables(url)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
    }
    let trusted = |name: &str| match name {
        "AWS_ALLOW_HTTP" => Some("true".into()),
        _ => variables("http://example.com")(name),
    };
    S3Home::new(BUCKET, "agent", &trusted).unwrap();
}

#[tokio::test]
async fn a_home_is_reached_by_its_url() {
    let home = from_url(&format!("sqlite+s3://{BUCKET}/{}", prefix()), &variables(&url())).unwrap();
    probe(&*home).await.unwrap();
}

/// S3 answers 409 while another conditional write to the object is under way: whoever is put off each time has written
/// nothing, and may ask again.
#[tokio::test]
async fn a_write_that_is_put_off_for_others_each_time_is_unavailable() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = home(&format!("http://{}", server.local_addr().unwrap()), "agent");
    let answering = tokio::spawn(async move {
        let body = "<Error><Code>ConditionalRequestConflict</Code></Error>";
        let length = body.len();
        for asked in 1.. {
            let (mut stream, _) = server.accept().await.unwrap();
            let _ = stream.read(&mut [0; 16 * 1024]).await.unwrap();
            let answer = format!(
                "HTTP/1.1 409 Conflict\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            if asked == 4 {
                return;
            }
        }
    });
    let error = home.create("head", text("1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    answering.await.unwrap();
}
