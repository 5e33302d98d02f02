//! What only Azure does.

use std::time::Duration;

use storage_core::{Error, ErrorKind};
use storage_managed::home::{
    AzureCredentials, AzureHome, AzureIdentity, Body, Fresh, Home, Put, from_url, probe,
};
use storage_tests::{Azurite, Fault, Proxy, variable};

use crate::{
    cases::{TERM, acquire, done, text},
    stores::{TIMEOUT, prefix},
};

/// The account that every Azurite has, and the key that Microsoft publishes for it.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const CONTAINER: &str = "homes";
/// An account's shared access signature, by that key.
const SAS: &str = "sv=2024-11-04&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&sig=BYjJ%2F4bZ7PPwgOzzEX1F2W%2FKbELrPshjmVpAyTUQzvE%3D";

pub(crate) fn url() -> String {
    variable("STORAGE_TEST_AZURITE_URL")
}

fn with(account_url: &str, prefix: &str, credentials: AzureCredentials) -> AzureHome {
    AzureHome::new(&format!("{account_url}/{CONTAINER}"), prefix, credentials).unwrap()
}

fn key(key: &str) -> AzureCredentials {
    AzureCredentials::SharedKey { account: ACCOUNT.into(), key: key.into() }
}

pub(crate) fn home(account_url: &str, prefix: &str) -> AzureHome {
    with(account_url, prefix, key(KEY)).with_timeout(TIMEOUT)
}

/// A home behind a proxy; the proxy has seen nothing yet.
async fn behind_a_proxy() -> (Proxy, AzureHome) {
    let url = url();
    let port = url.split([':', '/']).find_map(|part| part.parse().ok()).unwrap();
    let proxy = Proxy::start(port).unwrap();
    let home = home(&format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port()), &prefix());
    home.create_container().await.unwrap();
    proxy.reset();
    (proxy, home)
}

#[test]
fn a_key_that_signs_nothing_is_no_failure_of_the_network() {
    for key in ["%%%", "not base64"] {
        let credentials = AzureCredentials::SharedKey { account: ACCOUNT.into(), key: key.into() };
        let error = AzureHome::new(&format!("{}/{CONTAINER}", url()), "agent", credentials).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.hint().is_some() && !error.to_string().contains(key), "{error}");
    }
}

#[tokio::test]
async fn a_broken_lease_is_lost_and_fences_the_head() {
    let (url, prefix) = (url(), prefix());
    let (ours, theirs) = (home(&url, &prefix), home(&url, &prefix));
    ours.create_container().await.unwrap();
    let held = acquire(&ours, "ours", TERM).await.unwrap();
    let head = done(ours.create("head", text("first"), Some(&held)).await.unwrap());
    theirs.unlock().await.unwrap();
    let next = acquire(&theirs, "theirs", TERM).await.unwrap();
    assert_eq!(ours.renew(&held).await.unwrap(), None);
    let late = ours.replace("head", text("late"), &head, Some(&held)).await.unwrap();
    assert_eq!(late, Put::Refused, "the etag is right, and the lease is lost");
    assert_eq!(ours.replace("head", text("late"), &head, None).await.unwrap(), Put::Refused);
    done(theirs.replace("head", text("second"), &head, Some(&next)).await.unwrap());
}

#[tokio::test]
async fn a_lease_on_a_head_that_was_removed_is_lost() {
    let home = home(&url(), &prefix());
    home.create_container().await.unwrap();
    let held = acquire(&home, "us", TERM).await.unwrap();
    let error = home.delete("head").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "the lease protects it: {error}");
    home.unlock().await.unwrap();
    home.delete("head").await.unwrap();
    assert_eq!(home.renew(&held).await.unwrap(), None);
    let late = home.create("head", text("late"), Some(&held)).await.unwrap();
    assert_eq!(late, Put::Refused, "the lease went with the head");
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_expires() {
    let (url, prefix) = (url(), prefix());
    let (ours, theirs) = (home(&url, &prefix), home(&url, &prefix));
    ours.create_container().await.unwrap();
    let held = acquire(&ours, "ours", Duration::from_secs(1)).await.unwrap();
    assert_eq!(held.term, Duration::from_secs(15), "the shortest that Azure grants");
    assert_eq!(acquire(&theirs, "theirs", TERM).await, None);
    tokio::time::sleep(held.term + Duration::from_secs(1)).await;
    assert!(acquire(&theirs, "theirs", TERM).await.is_some());
    assert_eq!(ours.renew(&held).await.unwrap(), None);
}

#[tokio::test]
async fn requests_are_few() {
    let (proxy, home) = behind_a_proxy().await;
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
    let (proxy, home) = behind_a_proxy().await;
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
    let (proxy, home) = behind_a_proxy().await;
    home.put("seg/1", Body::Bytes(text("pages and pages")), &|_| {}).await.unwrap();
    proxy.always(Fault::TruncateAnswer);
    assert_eq!(home.get("seg/1").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_lost_answer_to_the_lease_is_settled() {
    let (proxy, home) = behind_a_proxy().await;
    done(home.create("head", text("first"), None).await.unwrap());
    proxy.reset();
    proxy.at(0, Fault::LoseAnswer);
    let held = acquire(&home, "us", TERM).await.unwrap();
    assert!(home.renew(&held).await.unwrap().is_some());
}

#[tokio::test]
async fn a_late_answer_ends_at_the_deadline() {
    let (proxy, home) = behind_a_proxy().await;
    let home = home.with_timeout(Duration::from_millis(300));
    proxy.always(Fault::DelayAnswer(Duration::from_secs(3)));
    assert_eq!(home.get("head").await.unwrap_err().kind(), ErrorKind::Timeout);
    let error = home.create("head", text("first"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let mut azurite = Azurite::start().unwrap();
    let home = home(&azurite.url(), "agent");
    home.create_container().await.unwrap();
    azurite.kill().unwrap();
    assert_eq!(home.get("head").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(home.create("head", text("1"), None).await.unwrap_err().kind(), ErrorKind::Unavailable);
    azurite.restart().unwrap();
    let error = home.get("head").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "the container is gone: {error}");
    assert!(error.to_string().contains("ContainerNotFound"), "{error}");
    home.create_container().await.unwrap();
    assert!(home.get("head").await.unwrap().is_none());
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
async fn wrong_credentials_are_refused_without_telling_them() {
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";
    let signature =
        "sv=2024-11-04&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&sig=c2VjcmV0LXNlY3JldC1zZWNyZXQ%3D";
    for credentials in [key(secret), AzureCredentials::Sas(signature.into())] {
        let shown = format!("{credentials:?}");
        let home = with(&url(), &prefix(), credentials);
        let error = home.get("head").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        for text in [all_of(&error), shown, format!("{home:?}"), home.name()] {
            assert!(!text.contains("c2Vj") && !text.contains("sig="), "{text}");
        }
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused() {
    let identity = || AzureCredentials::Identity(AzureIdentity::default());
    let cases = [
        ("not a url", "agent", key(KEY)),
        ("http://example.com/container", "agent", key(KEY)),
        ("https://account.blob.core.windows.net", "agent", key(KEY)),
        ("https://account.blob.core.windows.net/container?sig=secret", "agent", key(KEY)),
        ("http://127.0.0.1:1/account/container", "agent", identity()),
    ];
    for (container, prefix, credentials) in cases {
        let error = AzureHome::new(container, prefix, credentials).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{container}");
        assert!(!all_of(&error).contains("secret"), "{error}");
    }
    AzureHome::new("https://account.blob.core.windows.net/container", "agent", identity()).unwrap();
}

#[tokio::test]
async fn a_home_is_reached_by_its_url() {
    let (url, prefix) = (url(), prefix());
    home(&url, &prefix).create_container().await.unwrap();
    let connection = format!("AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url};");
    let by_string = |name: &str| (name == "AZURE_STORAGE_CONNECTION_STRING").then(|| connection.clone());
    let by_key = |name: &str| match name {
        "AZURE_STORAGE_BLOB_ENDPOINT" => Some(url.clone()),
        "AZURE_STORAGE_KEY" => Some(KEY.into()),
        _ => None,
    };
    let by_signature = |name: &str| match name {
        "AZURE_STORAGE_BLOB_ENDPOINT" => Some(url.clone()),
        "AZURE_STORAGE_SAS_TOKEN" => Some(SAS.into()),
        _ => None,
    };
    type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;
    for variable in [&by_string as Variable<'_>, &by_key, &by_signature] {
        let home = from_url(&format!("sqlite+azblob://{ACCOUNT}/{CONTAINER}/{prefix}"), variable).unwrap();
        probe(&*home).await.unwrap();
        let held = acquire(&*home, "us", TERM).await.unwrap();
        assert_eq!(home.list("").await.unwrap(), []);
        home.release(&held).await.unwrap();
        assert!(home.name().ends_with(&format!("/{ACCOUNT}/{CONTAINER}/{prefix}")), "{}", home.name());
    }
}
