//! The way of requests to the store: what fails is told apart here, where the answer is still at hand.

use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use reqwest::header::HeaderValue;
use storage_core::Error;

use crate::home::http::{Effect, Failure};

/// The time by the server's clock, as its last answer had it.
pub(super) type ServerTime = Arc<Mutex<Option<DateTime<Utc>>>>;

/// When an answer was given, by the clock of who gave it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnsweredAt(pub(super) DateTime<Utc>);

/// Hands out clients with our TLS, which tell failures apart.
#[derive(Debug, Clone)]
pub(in crate::home) struct Connector {
    pub(super) client: reqwest::Client,
    pub(super) time: ServerTime,
    /// Whether what was sent in parts becomes an object on the condition that there is none.
    pub(super) parts_under_condition: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.clone())))
    }
}

#[derive(Debug)]
struct Service(Connector);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let completes = self.0.parts_under_condition && completes_upload(&request);
        if completes {
            // What is uploaded in parts is written once, too. object_store has no way to say so; a header that is not
            // signed is as good.
            request.headers_mut().insert("if-none-match", HeaderValue::from_static("*"));
        }
        // Requests for credentials go to other places, unsigned.
        let is_signed = request.headers().contains_key("authorization");
        let mut response = self.0.client.call(request).await.map_err(|error| match error.kind() {
            _ if !is_signed => failed(Failure::NoToken),
            HttpErrorKind::Connect => failed(Failure::NotSent),
            _ => failed(Failure::NoAnswer),
        })?;
        if !is_signed {
            return if response.status().is_success() { Ok(response) } else { Err(failed(Failure::NoToken)) };
        }
        self.note_time(&mut response);
        if completes && response.status().as_u16() == 412 {
            return Err(failed(Failure::Answered(412, String::new())));
        }
        self.told_apart(response).await
    }
}

/// Whether a request makes an object of the parts that were uploaded.
fn completes_upload(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method().as_str() == "POST" && query.split('&').any(|pair| pair.starts_with("uploadId="))
}

impl Service {
    fn note_time(&self, response: &mut HttpResponse) {
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let time = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        if let Some(time) = time {
            response.extensions_mut().insert(AnsweredAt(time.to_utc()));
            *self.0.time.lock().unwrap_or_else(PoisonError::into_inner) = Some(time.to_utc());
        }
    }

    /// Lets pass what `object_store` has a meaning for: success, a condition that did not hold, no such object.
    async fn told_apart(&self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let status = response.status().as_u16();
        if matches!(status, 200..=399 | 412) {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = body.bytes().await.map_err(|_| failed(Failure::NoAnswer))?;
        let code = code(&String::from_utf8_lossy(&body));
        if status == 404 && code != "NoSuchBucket" {
            return Ok(HttpResponse::from_parts(head, body.into()));
        }
        Err(failed(Failure::Answered(status, code)))
    }
}

/// The code in an error's XML.
fn code(body: &str) -> String {
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map(|(code, _)| code.to_owned()).unwrap_or_default()
}

/// A failure on its way through the errors of `object_store`.
#[derive(Debug)]
struct Told(Failure);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request failed")
    }
}

impl StdError for Told {}

fn failed(failure: Failure) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Told(failure))
}

/// What became of a request, whatever the error is wrapped in.
pub(super) fn failure(error: &object_store::Error) -> Failure {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(Told(failure)) = error.downcast_ref() {
            return failure.clone();
        }
        next = error.source();
    }
    Failure::NoAnswer
}

pub(super) fn classify(error: &object_store::Error, effect: Effect) -> Error {
    failure(error).into_error(effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_found() {
        assert_eq!(code("<Error><Code>SlowDown</Code><Message>x</Message></Error>"), "SlowDown");
        assert_eq!(code("<Error>"), "");
    }
}
