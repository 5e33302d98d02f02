//! What an error of the SDK means. Nothing of its text is kept: it can hold a signature.

use azure_core::{
    error::ErrorKind,
    http::{StatusCode, headers::HeaderName},
};
use storage_core::Error;

use crate::home::http::{Effect, Failure};

const CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// The answer's status and the service's code, where there was an answer.
pub(super) fn answer(error: &azure_core::Error) -> Option<(u16, String)> {
    let ErrorKind::HttpResponse { status, error_code, raw_response } = error.kind() else { return None };
    let header = raw_response.as_ref().and_then(|response| response.headers().get_optional_string(&CODE));
    Some((u16::from(*status), header.or_else(|| error_code.clone()).unwrap_or_default()))
}

/// Whether the blob is not there; a container that is not there is an error.
pub(super) fn is_absent(error: &azure_core::Error) -> bool {
    answer(error).is_some_and(|(status, code)| status == 404 && code != "ContainerNotFound")
}

/// Whether a condition of the request did not hold, so that nothing was done.
pub(super) fn is_refused(error: &azure_core::Error) -> bool {
    match answer(error) {
        Some((412, _)) => true,
        Some((409, code)) => code == "BlobAlreadyExists",
        Some(_) => is_absent(error),
        None => false,
    }
}

/// Whether the lease is somebody else's, or nobody's.
pub(super) fn is_not_ours(error: &azure_core::Error) -> bool {
    match answer(error) {
        Some((409 | 412, code)) => code.starts_with("Lease"),
        _ => is_absent(error),
    }
}

pub(super) fn is_unchanged(error: &azure_core::Error) -> bool {
    error.http_status() == Some(StatusCode::NotModified)
}

pub(super) fn classify(error: &azure_core::Error, effect: Effect) -> Error {
    let failure = match error.kind() {
        ErrorKind::Connection => Failure::NotSent,
        ErrorKind::Credential => Failure::NoToken,
        _ => match answer(error) {
            Some((status, code)) => Failure::Answered(status, code),
            None => Failure::NoAnswer,
        },
    };
    failure.into_error(effect)
}
