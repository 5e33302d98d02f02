//! Google Cloud Storage, by its XML API.

use std::{fs::File, io, ops::Range, sync::Arc};

use object_store::{
    UpdateVersion,
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
};
use storage_core::{Error, Result};

use super::{
    Version,
    http::check_endpoint,
    objects::{Dialect, ObjectHome, no_retries},
};

const ENDPOINT: &str = "https://storage.googleapis.com";
const ACCOUNT_FILE: &str = "GOOGLE_SERVICE_ACCOUNT";
const CREDENTIALS_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Who asks. The first that is set counts.
const CREDENTIALS: [(&str, GoogleConfigKey); 3] = [
    ("GOOGLE_SERVICE_ACCOUNT_KEY", GoogleConfigKey::ServiceAccountKey),
    (ACCOUNT_FILE, GoogleConfigKey::ServiceAccount),
    (CREDENTIALS_FILE, GoogleConfigKey::ApplicationCredentials),
];

/// A home in a bucket of Google Cloud Storage, under a prefix of its own.
///
/// Versions are an object's generation, on the condition of which it is replaced, and its etag, by which it is not read again. The
/// lease is an object, as on S3: another takes over when it was unchanged for the holder's whole term, by Google's clock; a
/// late `head` is refused for its generation. Google takes one write a second to one object: a faster one is put off, and tried
/// again for a few seconds. Other requests are not repeated; what became of each is said by the error.
///
/// Google knows no condition for uploads in parts. What is larger than 8 MiB is sent under a name of its own, which ends in
/// `.upload`, copied on the condition that there is no such object, and removed; no listing shows it. A process that is killed
/// meanwhile leaves it there: a lifecycle rule of the bucket removes it.
pub type GcsHome = ObjectHome<Gcs>;

/// How Google Cloud Storage does it.
#[derive(Debug)]
pub enum Gcs {}

impl Dialect for Gcs {
    const NAME: &'static str = "gcs";
    const PARTS_UNDER_CONDITION: bool = false;
    // More than one write a second to the object.
    const PUT_OFF: u16 = 429;
    const PAUSE: Range<u64> = 300..600;

    fn version(told: UpdateVersion) -> Option<Version> {
        let generation = told.version.filter(|generation| is_generation(generation))?;
        let etag = told.e_tag?;
        // Without what HTTP puts around it: the same object is the same version, whichever answer tells of it.
        let etag = etag.strip_prefix("W/").unwrap_or(&etag).trim_matches('"');
        Some(Version(format!("{generation}/{etag}")))
    }

    fn told(version: &Version) -> Option<UpdateVersion> {
        let (generation, etag) = version.0.split_once('/')?;
        is_generation(generation).then(|| UpdateVersion {
            e_tag: Some(format!("\"{etag}\"")),
            version: Some(generation.to_owned()),
        })
    }
}

/// Whether this is the generation of an object that is there: as a condition, 0 means that there is none.
fn is_generation(text: &str) -> bool {
    text.parse().is_ok_and(|generation: i64| generation > 0)
}

impl GcsHome {
    /// A home under `prefix` in `bucket`. Who asks, `variable` says by the first of these names that is set:
    /// `GOOGLE_SERVICE_ACCOUNT_KEY`, the JSON of a service account's key; `GOOGLE_SERVICE_ACCOUNT`, a file with it;
    /// `GOOGLE_APPLICATION_CREDENTIALS`, a file with it or with the credentials of a user, as gcloud writes them. Without
    /// them it is who has logged in by `gcloud auth application-default login`, or the machine's own service account.
    /// `GOOGLE_BASE_URL` is another endpoint than Google's usual one, such as a private one, with TLS unless it is on this
    /// machine. Reads the file, and does no other I/O.
    ///
    /// # Errors
    /// `Config` where a variable, the bucket or the prefix cannot be used.
    pub fn new(bucket: &str, prefix: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let endpoint = variable("GOOGLE_BASE_URL");
        if let Some(endpoint) = &endpoint {
            check_endpoint("GOOGLE_BASE_URL", endpoint, false)?;
        }
        Self::build(bucket, prefix, endpoint.as_deref(), |connector| {
            let builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                // Always, so that a file of credentials does not name another one, unchecked.
                .with_base_url(endpoint.as_deref().unwrap_or(ENDPOINT).trim_end_matches('/'))
                .with_retry(no_retries())
                .with_http_connector(connector);
            let found = CREDENTIALS.into_iter().find_map(|(name, key)| Some((name, key, variable(name)?)));
            if let Some((name @ (ACCOUNT_FILE | CREDENTIALS_FILE), _, path)) = &found {
                File::open(path).map_err(|error| unreadable(name, &error))?;
            }
            let (name, builder) = match found {
                Some((name, key, value)) => (Some(name), builder.with_config(key, value)),
                None => (None, builder),
            };
            Ok(Arc::new(builder.build().map_err(|_| unusable(name))?))
        })
    }
}

/// Without the path: it may be the credentials themselves, in the wrong variable.
fn unreadable(name: &str, error: &io::Error) -> Error {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        kind => kind.to_string(),
    };
    Error::config(format!("the file that {name} names cannot be read: {problem}"))
        .with_hint("name a file with the JSON of the credentials; GOOGLE_SERVICE_ACCOUNT_KEY holds it itself")
}

/// The cause may hold a part of the credentials.
fn unusable(name: Option<&str>) -> Error {
    match name {
        Some(name) => Error::config(format!("{name} holds or names no credentials that can be used"))
            .with_hint(
                "the JSON of a service account's key; GOOGLE_APPLICATION_CREDENTIALS may name a user's, too",
            ),
        None => Error::config("the credentials that gcloud keeps cannot be used")
            .with_hint("gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_same_whichever_answer_tells_of_it() {
        let told = |etag: &str, generation: &str| {
            Gcs::version(UpdateVersion { e_tag: Some(etag.into()), version: Some(generation.into()) })
        };
        let version = told("\"5d/41==\"", "1700000000000001").unwrap();
        assert_eq!(version.0, "1700000000000001/5d/41==");
        assert_eq!(told("W/\"5d/41==\"", "1700000000000001").unwrap(), version);
        let known = Gcs::told(&version).unwrap();
        assert_eq!(known.e_tag.as_deref(), Some("\"5d/41==\""));
        assert_eq!(known.version.as_deref(), Some("1700000000000001"));
    }

    #[test]
    fn what_is_no_generation_is_no_version() {
        for generation in ["", "0", "-1", "x"] {
            let told = UpdateVersion { e_tag: Some("\"x\"".into()), version: Some(generation.into()) };
            assert_eq!(Gcs::version(told), None, "{generation}");
            assert!(Gcs::told(&Version(format!("{generation}/x"))).is_none(), "{generation}");
        }
        assert!(Gcs::told(&Version("\"0x0\"".into())).is_none());
    }
}
