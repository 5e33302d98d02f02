//! What only S3 does.

use std::time::Duration;

use futures::{StreamExt, stream};
use storage_core::ErrorKind;
use storage_managed::home::{Body, Fresh, Home, Put, S3Home, from_url, probe};
use storage_tests::{Fault, Moto, Proxy, variable};

use crate::{
    cases::{TERM, acquire, done, text},
    stores::prefix,
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
    S3Home::new(BUCKET, prefix, &variables(url)).unwrap()
}

fn behind_a_proxy() -> (Proxy, S3Home) {
    let port = url().rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port).unwrap();
    let home = home(&format!("http://127.0.0.1:{}", proxy.port()), &prefix());
    (proxy, home)
}

#[tokio::test]
async fn a_silent_holder_is_followed_after_its_term() {
    let (url, prefix) = (url(), prefix());
    let (ours, theirs) = (home(&url, &prefix), home(&url, &prefix));
    let term = Duration::from_millis(600);
    let held = acquire(&ours, "ours", term).await.unwrap();
    let head = done(ours.create("head", text("first"), Some(&held)).await.unwrap());
    // Of an age in whole seconds it is not known yet that the term has passed; whoever looks on sees it pass.
    tokio::time::sleep(term).await;
    assert_eq!(acquire(&theirs, "theirs", term).await, None);
    let stale = ours.replace("head", text("stale"), &head, Some(&held)).await.unwrap();
    assert_eq!(stale, Put::Refused, "the term has passed without a renewal");
    ours.renew(&held).await.unwrap().unwrap();
    tokio::time::sleep(term / 2).await;
    assert_eq!(acquire(&theirs, "theirs", term).await, None, "it was renewed");
    tokio::time::sleep(term).await;
    let next = acquire(&theirs, "theirs", term).await.unwrap();
    assert_eq!(ours.renew(&held).await.unwrap(), None);
    done(theirs.replace("head", text("second"), &head, Some(&next)).await.unwrap());
    assert_eq!(ours.replace("head", text("late"), &head, Some(&held)).await.unwrap(), Put::Refused);
}

#[tokio::test]
async fn who_comes_after_the_term_of_a_killed_holder_need_not_wait() {
    let (url, prefix) = (url(), prefix());
    let term = Duration::from_secs(1);
    acquire(&home(&url, &prefix), "killed", term).await.unwrap();
    tokio::time::sleep(term + Duration::from_millis(2_100)).await;
    // A client that never saw it before, as a process that lives for a second is.
    let next = home(&url, &prefix);
    assert_eq!(next.holder().await.unwrap(), None);
    acquire(&next, "the next", term).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_are_listed() {
    let home = home(&url(), &prefix());
    stream::iter(0..1_005)
        .for_each_concurrent(16, |index| {
            let home = &home;
            async move {
                home.put(&format!("seg/{index:05}"), Body::Bytes(text("x")), &|_| {}).await.unwrap();
            }
        })
        .await;
    let names: Vec<String> = home.list("seg/").await.unwrap().into_iter().map(|listed| listed.name).collect();
    let expected: Vec<String> = (0..1_005).map(|index| format!("seg/{index:05}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn requests_are_few() {
    let (proxy, home) = behind_a_proxy();
    let held = acquire(&home, "us", TERM).await.unwrap();
    let first = done(home.create("head", text("first"), Some(&held)).await.unwrap());
    proxy.reset();
    home.put("seg/1", Body::Bytes(text("pages")), &|_| {}).await.unwrap();
    let second = done(home.replace("head", text("second"), &first, Some(&held)).await.unwrap());
    assert_eq!(proxy.seen().len(), 2, "a publication");
    proxy.reset();
    assert!(matches!(home.get_if_changed("head", &second).await.unwrap(), Fresh::Unchanged));
    let seen = proxy.seen();
    assert_eq!((seen.len(), seen[0].status, seen[0].received), (1, Some(304), 0));
    proxy.reset();
    assert!(matches!(home.get_if_changed("head", &first).await.unwrap(), Fresh::Changed(_)));
    home.get("seg/1").await.unwrap().unwrap();
    home.renew(&held).await.unwrap().unwrap();
    assert_eq!(proxy.seen().len(), 3);
}

#[tokio::test]
async fn what_became_of_a_request_is_said_by_its_error() {
    let (proxy, home) = behind_a_proxy();
    let first = done(home.create("head", text("first"), None).await.unwrap());
    for fault in [Fault::LoseAnswer, Fault::AnswerAfter(500)] {
        proxy.always(fault);
        let error = home.put("seg/1", Body::Bytes(text("pages")), &|_| {}).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{fault:?}");
        let error = home.get("head").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}");
    }
    proxy.always(Fault::LoseAnswer);
    let error = home.replace("head", text("second"), &first, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    proxy.reset();
    assert_eq!(home.get("head").await.unwrap().unwrap().bytes, "second");
    assert_eq!(home.get("seg/1").await.unwrap().unwrap().bytes, "pages");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_the_whole() {
    let (proxy, home) = behind_a_proxy();
    home.put("seg/1", Body::Bytes(text("pages and pages")), &|_| {}).await.unwrap();
    proxy.always(Fault::TruncateAnswer);
    assert_eq!(home.get("seg/1").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn lost_answers_to_the_lease_are_settled() {
    let (proxy, home) = behind_a_proxy();
    // The first request looks for a lease.
    proxy.at(1, Fault::LoseAnswer);
    let held = acquire(&home, "us", TERM).await.unwrap();
    proxy.reset();
    proxy.at(0, Fault::LoseAnswer);
    assert!(home.renew(&held).await.unwrap().is_some());
    assert!(home.renew(&held).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lost_answer_and_a_lost_look_leave_the_lease_renewable() {
    let (proxy, home) = behind_a_proxy();
    let held = acquire(&home, "us", TERM).await.unwrap();
    proxy.always(Fault::LoseAnswer);
    home.renew(&held).await.unwrap_err();
    proxy.reset();
    assert!(home.renew(&held).await.unwrap().is_some());
}

#[tokio::test]
async fn a_late_answer_ends_at_the_deadline() {
    let (proxy, home) = behind_a_proxy();
    let home = home.with_timeout(Duration::from_millis(300));
    proxy.always(Fault::DelayAnswer(Duration::from_secs(3)));
    assert_eq!(home.get("head").await.unwrap_err().kind(), ErrorKind::Timeout);
    let error = home.create("head", text("first"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
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

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_and_nothing_is_left() {
    let (proxy, home) = behind_a_proxy();
    // The probe creates, creates again, replaces, and replaces what is another version by then.
    for (request, complaint) in [(1, "created that exists already"), (3, "replaced that has changed")] {
        proxy.reset();
        proxy.at(request, Fault::DropConditions);
        let error = probe(&home).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(complaint), "{error}");
        assert_eq!(home.list("").await.unwrap(), []);
    }
    proxy.reset();
    probe(&home).await.unwrap();
    assert_eq!(proxy.seen().len(), 5);
}
