//! Signing requests with an account's key.

use std::{borrow::Cow, fmt::Write, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    Result,
    credentials::Secret,
    hmac::hmac_sha256,
    http::{
        Context, Request,
        headers::{HeaderName, Headers},
        policies::{Policy, PolicyResult},
    },
    time::{OffsetDateTime, to_rfc7231},
};
use storage_core::{Clock, SystemClock};

const DATE: HeaderName = HeaderName::from_static("x-ms-date");
const AUTHORIZATION: HeaderName = HeaderName::from_static("authorization");
/// The headers whose values are signed, in the order that the protocol fixes; the length stands apart.
const SIGNED_BEFORE_LENGTH: [&str; 2] = ["content-encoding", "content-language"];
const SIGNED_AFTER_LENGTH: [&str; 8] = [
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// Refuses what signs nothing, before it looks like a network that fails.
pub(super) fn check(key: &str) -> storage_core::Result<()> {
    match hmac_sha256("", &Secret::new(key.to_owned())) {
        Ok(_) => Ok(()),
        Err(_) => Err(storage_core::Error::config("the account's key for Azure is not in base64")
            .with_hint("copy it whole, with the `=` at its end, from the account's access keys")),
    }
}

/// Signs each try of a request.
#[derive(Debug)]
pub(super) struct SharedKey {
    account: String,
    /// Its `Debug` text is redacted.
    key: Secret,
}

impl SharedKey {
    pub(super) fn new(account: String, key: String) -> Self {
        Self { account, key: Secret::new(key) }
    }

    fn sign(&self, request: &mut Request) -> Result<()> {
        request.insert_header(DATE, to_rfc7231(&OffsetDateTime::from(SystemClock.now())));
        let signature = hmac_sha256(&to_sign(&self.account, request), &self.key)?;
        request.insert_header(AUTHORIZATION, format!("SharedKey {}:{signature}", self.account));
        Ok(())
    }
}

#[async_trait]
impl Policy for SharedKey {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        self.sign(request)?;
        match next.split_first() {
            Some((policy, rest)) => policy.send(ctx, request, rest).await,
            None => Err(azure_core::Error::with_message(
                azure_core::error::ErrorKind::Other,
                "there is no transport behind the signature",
            )),
        }
    }
}

/// The text that is signed, as the service computes it too.
fn to_sign(account: &str, request: &Request) -> String {
    let headers = request.headers();
    let mut text = format!("{}\n", request.method().as_str());
    let value =
        |name: &'static str| headers.get_optional_str(&HeaderName::from_static(name)).unwrap_or_default();
    for name in SIGNED_BEFORE_LENGTH {
        let _ = writeln!(text, "{}", value(name));
    }
    let _ = match request.body().len() {
        None | Some(0) => writeln!(text),
        Some(length) => writeln!(text, "{length}"),
    };
    for name in SIGNED_AFTER_LENGTH {
        let _ = writeln!(text, "{}", value(name));
    }
    text + &canonical_headers(headers) + &canonical_resource(account, request)
}

fn canonical_headers(headers: &Headers) -> String {
    let own = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-ms-"));
    let mut lines: Vec<String> =
        own.map(|(name, value)| format!("{}:{}\n", name.as_str(), value.as_str().trim())).collect();
    lines.sort_unstable();
    lines.concat()
}

fn canonical_resource(account: &str, request: &Request) -> String {
    let url = request.url();
    let mut pairs: Vec<(String, Cow<'_, str>)> =
        url.query_pairs().map(|(name, value)| (name.to_lowercase(), value)).collect();
    pairs.sort_unstable();
    let mut text = format!("/{account}{}", url.path());
    for (name, value) in pairs {
        let _ = write!(text, "\n{name}:{value}");
    }
    text
}
