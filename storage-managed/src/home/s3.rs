//! S3, and what speaks its protocol.

use std::{ops::Range, sync::Arc};

use object_store::{
    UpdateVersion,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
};
use storage_core::{Error, Result};

use super::{
    Version,
    http::check_endpoint,
    objects::{Dialect, ObjectHome, no_retries},
};

/// The variables of AWS that say where S3 is and who asks.
const VARIABLES: [&str; 14] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
];

/// A home in a bucket of S3, or of a store that speaks its protocol with conditional writes, under a prefix of its own.
///
/// Versions are etags. The lease is an object, `lease`, that is changed by compare-and-swap: another takes over
/// when it was unchanged for the holder's whole term, by S3's own clock. S3 cannot refuse a late `head` for its lease, so it is the
/// etag that fences writers there. Requests are not repeated here; what became of each is said by the error.
pub type S3Home = ObjectHome<S3>;

/// How S3 does it.
#[derive(Debug)]
pub enum S3 {}

impl Dialect for S3 {
    const NAME: &'static str = "s3";
    const PARTS_UNDER_CONDITION: bool = true;
    // Another conditional write to the object is under way.
    const PUT_OFF: u16 = 409;
    const PAUSE: Range<u64> = 10..60;

    fn version(told: UpdateVersion) -> Option<Version> {
        told.e_tag.map(Version)
    }

    fn told(version: &Version) -> Option<UpdateVersion> {
        Some(UpdateVersion { e_tag: Some(version.0.clone()), version: None })
    }
}

impl S3Home {
    /// A home under `prefix` in `bucket`. Where S3 is and who asks, `variable` says by the names that AWS gave them:
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and those of
    /// roles and containers; without a key the machine's own role is asked for. An endpoint without TLS is for this
    /// machine alone, unless `AWS_ALLOW_HTTP` is `true`. Does no I/O.
    ///
    /// # Errors
    /// `Config` where a variable, the bucket or the prefix cannot be used.
    pub fn new(bucket: &str, prefix: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        check_pair(variable)?;
        let may_be_plain = variable("AWS_ALLOW_HTTP").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        Self::build(bucket, prefix, endpoint.as_deref(), |connector| {
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(bucket)
                .with_retry(no_retries())
                .with_disable_bulk_delete(true)
                .with_http_connector(connector);
            for name in VARIABLES {
                let Some(value) = variable(name).filter(|value| !is_blank(value)) else { continue };
                if name.starts_with("AWS_ENDPOINT_URL") {
                    check_endpoint(name, &value, may_be_plain)?;
                }
                let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().map_err(|_| unusable())?;
                builder = builder.with_config(key, value);
            }
            Ok(Arc::new(builder.build().map_err(|_| unusable())?))
        })
    }
}

fn is_blank(value: &str) -> bool {
    value.trim().is_empty()
}

/// Refuses half of a key, of which the other half may be set and empty.
fn check_pair(variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    let [id, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .map(|name| (name, variable(name).is_some_and(|value| !is_blank(&value))));
    let (missing, set) = match (id, secret) {
        ((id, false), (secret, true)) => (id, secret),
        ((id, true), (secret, false)) => (secret, id),
        _ => return Ok(()),
    };
    Err(Error::config(format!("{missing} is not set, or empty, and {set} is set"))
        .with_hint("set both; or neither, for the machine's own role"))
}

fn unusable() -> Error {
    Error::config("the settings for S3 cannot be used").with_hint("check the bucket and the AWS_ variables")
}
