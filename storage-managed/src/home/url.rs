//! A home by its URL.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use storage_core::{Error, Result};

#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
use super::names::check_name;
use super::{FolderHome, Home};

/// The value of a variable by its name, `None` where it is unset.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The home that `url` names:
///
/// | URL | home |
/// |---|---|
/// | `sqlite+file:///folder/agent` | the folder `/folder/agent`; `sqlite+file:///./agent` is relative |
/// | `sqlite+azblob://account/container/agent` | below `agent` in that container of Azure Blob Storage (feature `azure`) |
/// | `sqlite+s3://bucket/agent` | below `agent` in that bucket of S3 (feature `s3`) |
/// | `sqlite+gs://bucket/agent` | below `agent` in that bucket of Google Cloud Storage (feature `gcs`) |
///
/// Who asks, and where that is not the cloud's usual place, is told by `variable` under the names that the clouds' own
/// tools use.
///
/// - Azure: `AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_KEY`, or `AZURE_STORAGE_SAS_TOKEN`, with
///   `AZURE_STORAGE_BLOB_ENDPOINT` for another endpoint; without them an identity: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`
///   and `AZURE_CLIENT_SECRET` of an application, `AZURE_FEDERATED_TOKEN_FILE` of a workload, else whoever is logged in
///   to the Azure CLI, or the machine's managed identity (`AZURE_CLIENT_ID` where a user assigned it).
/// - S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and those of
///   roles and containers, as `S3Home::new` says.
/// - Google: `GOOGLE_SERVICE_ACCOUNT_KEY`, `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_APPLICATION_CREDENTIALS` and `GOOGLE_BASE_URL`, as
///   `GcsHome::new` says.
///
/// Does no I/O but to read a file of Google's credentials.
///
/// # Errors
/// `Config` where the URL or a variable cannot be used, or the feature is missing that the URL asks for. It holds neither the
/// URL nor a value.
pub fn from_url(url: &str, variable: Variables<'_>) -> Result<Box<dyn Home>> {
    let (scheme, rest) = url.split_once("://").ok_or_else(unknown)?;
    if rest.contains(['?', '#', '@']) {
        return Err(Error::config("the URL of a home has no user, query or fragment")
            .with_hint("credentials are set as variables of their own"));
    }
    match scheme {
        "sqlite+file" => folder(rest),
        "sqlite+azblob" => azure(rest, variable),
        "sqlite+s3" => s3(rest, variable),
        "sqlite+gs" => gcs(rest, variable),
        _ => Err(unknown()),
    }
}

fn folder(rest: &str) -> Result<Box<dyn Home>> {
    let path = percent_decode_str(rest).decode_utf8().map_err(|_| no_folder())?;
    let is_relative = path.starts_with("/./") || path.starts_with("/../");
    let path = if is_relative { path.trim_start_matches('/') } else { &path };
    if !(is_relative || path.starts_with('/')) || path.trim_matches('/').is_empty() || path.contains('\0') {
        return Err(no_folder());
    }
    Ok(Box::new(FolderHome::new(PathBuf::from(path))))
}

fn no_folder() -> Error {
    Error::config("the URL names no folder")
        .with_hint("sqlite+file:///folder/agent, or sqlite+file:///./agent")
}

fn unknown() -> Error {
    Error::config("the URL names no home of a managed database").with_hint(
        "sqlite+file:///folder/agent, sqlite+azblob://account/container/agent, sqlite+s3://bucket/agent or \
         sqlite+gs://bucket/agent",
    )
}

#[cfg(feature = "azure")]
fn azure(rest: &str, variable: Variables<'_>) -> Result<Box<dyn Home>> {
    let mut parts = rest.splitn(3, '/');
    let (Some(account), Some(container)) = (parts.next(), parts.next()) else { return Err(unknown()) };
    let prefix = parts.next().unwrap_or_default();
    if account.is_empty() || !account.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::config("the URL names no storage account").with_hint("letters and digits"));
    }
    check_part(container)?;
    check_prefix(prefix)?;
    let (endpoint, credentials) = super::azure::settings(account, variable)?;
    let container = format!("{}/{container}", endpoint.trim_end_matches('/'));
    Ok(Box::new(super::AzureHome::new(&container, prefix, credentials)?))
}

#[cfg(not(feature = "azure"))]
fn azure(_: &str, _: Variables<'_>) -> Result<Box<dyn Home>> {
    Err(missing("Azure Blob Storage", "azure"))
}

#[cfg(feature = "s3")]
fn s3(rest: &str, variable: Variables<'_>) -> Result<Box<dyn Home>> {
    let (bucket, prefix) = in_bucket(rest)?;
    Ok(Box::new(super::S3Home::new(bucket, prefix, variable)?))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &str, _: Variables<'_>) -> Result<Box<dyn Home>> {
    Err(missing("S3", "s3"))
}

#[cfg(feature = "gcs")]
fn gcs(rest: &str, variable: Variables<'_>) -> Result<Box<dyn Home>> {
    let (bucket, prefix) = in_bucket(rest)?;
    Ok(Box::new(super::GcsHome::new(bucket, prefix, variable)?))
}

#[cfg(not(feature = "gcs"))]
fn gcs(_: &str, _: Variables<'_>) -> Result<Box<dyn Home>> {
    Err(missing("Google Cloud Storage", "gcs"))
}

/// The bucket and the prefix in it.
#[cfg(any(feature = "gcs", feature = "s3"))]
fn in_bucket(rest: &str) -> Result<(&str, &str)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    check_part(bucket)?;
    check_prefix(prefix)?;
    Ok((bucket, prefix))
}

/// A bucket may hold several homes, and other things.
#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() {
        return Err(Error::config("the URL of the home names a bucket or container, and no prefix in it")
            .with_hint("add one for this database alone, such as `/agent`"));
    }
    check_part(prefix)
}

#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
fn check_part(part: &str) -> Result<()> {
    check_name(part).map_err(|_| {
        Error::config("a part of the home's URL is empty or has characters that it may not have")
            .with_hint("letters, digits, `.`, `_` and `-` between single slashes")
    })
}

#[cfg(not(all(feature = "azure", feature = "gcs", feature = "s3")))]
fn missing(store: &str, feature: &str) -> Error {
    Error::config(format!("this build cannot reach {store}"))
        .with_hint(format!("build with the feature `{feature}`"))
}

#[cfg(test)]
mod tests {
    use storage_core::ErrorKind;

    use super::*;

    fn home(url: &str) -> Result<Box<dyn Home>> {
        from_url(url, &|_| None)
    }

    #[test]
    fn folders_are_absolute_or_relative() {
        let name = |url: &str| home(url).unwrap().name();
        assert_eq!(name("sqlite+file:///folder/agent"), "folder /folder/agent");
        assert_eq!(name("sqlite+file:////folder/agent"), "folder //folder/agent");
        assert_eq!(name("sqlite+file:///./agent"), "folder ./agent");
        assert_eq!(name("sqlite+file:///../agent"), "folder ../agent");
        assert_eq!(name("sqlite+file:///my%20folder"), "folder /my folder");
    }

    #[test]
    fn urls_that_name_no_home_are_refused_and_not_repeated() {
        let urls = [
            "",
            "agent",
            "sqlite:///agent.db",
            "sqlite+file://",
            "sqlite+file:///",
            "sqlite+file://secret/agent",
            "sqlite+azblob://account/container",
            "sqlite+azblob://account.secret.com/container/agent",
            "sqlite+azblob://account/container/../agent",
            "sqlite+s3://secret",
            "sqlite+gs://secret",
            "sqlite+gs://user:secret@bucket/agent",
            "sqlite+s3://user:secret@bucket/agent",
            "sqlite+s3://bucket/agent?key=secret",
        ];
        for url in urls {
            let error = home(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[cfg(all(feature = "azure", feature = "gcs", feature = "s3"))]
    #[test]
    fn a_home_without_a_prefix_is_told_so() {
        for url in ["sqlite+gs://bucket", "sqlite+s3://bucket/", "sqlite+azblob://account/container"] {
            let error = home(url).unwrap_err();
            assert!(error.to_string().contains("no prefix"), "{url}: {error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("`/agent`")), "{url}: {error}");
        }
    }

    #[cfg(not(feature = "azure"))]
    #[test]
    fn a_missing_feature_is_named() {
        let error = home("sqlite+azblob://account/container/agent").unwrap_err();
        assert!(error.to_string().contains("`azure`"), "{error}");
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn a_missing_feature_for_s3_is_named() {
        let error = home("sqlite+s3://bucket/agent").unwrap_err();
        assert!(error.to_string().contains("`s3`"), "{error}");
    }
    #[cfg(not(feature = "gcs"))]
    #[test]
    fn a_missing_feature_for_google_is_named() {
        let error = home("sqlite+gs://bucket/agent").unwrap_err();
        assert!(error.to_string().contains("`gcs`"), "{error}");
    }
}
