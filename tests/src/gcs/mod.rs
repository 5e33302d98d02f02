//! Google Cloud Storage, as far as its documentation goes: no server with its conditions can be had.

mod bucket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::http::response::Builder;
use hyper::{Method, Request, Response, server, service::service_fn};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use self::bucket::{Bucket, NO_OBJECT, Object, Refusal};
use crate::Result;
use crate::tcp::listen;

const BUCKET: &str = "storage";
const CONDITION: &str = "x-goog-if-generation-match";
const NO_CONDITION_HERE: Refusal = (400, "NotImplemented");

/// A server in this process that follows the documentation of the XML API of Google Cloud Storage: generations and their
/// conditions, etags of the content, ranges, listings in pages, uploads in parts, which know no condition, and copies. It has one
/// bucket, `storage`, and takes whoever signs. It proves what a client sends, and not what Google's own servers do.
#[derive(Debug)]
pub struct Gcs {
    address: SocketAddr,
    bucket: Arc<Mutex<Bucket>>,
    runtime: Option<Runtime>,
}

impl Gcs {
    /// The key of a service account, as Google hands them out. It is public, and opens nothing but this server.
    pub const KEY: &str = include_str!("../../data/service-account.json");

    /// Starts a server with an empty bucket.
    ///
    /// # Errors
    ///
    /// When the system gives it no port or no thread.
    pub fn start() -> Result<Gcs> {
        let (runtime, listener, address) = listen()?;
        let bucket = Arc::default();
        runtime.spawn(accept(listener, Arc::clone(&bucket)));
        Ok(Gcs { address, bucket, runtime: Some(runtime) })
    }

    /// The port on 127.0.0.1 for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it takes one write a second to one object, as Google does, and answers others with 429.
    pub fn limit_writes(&self) {
        lock(&self.bucket).is_slow = true;
    }

    /// From now on nobody may do anything.
    pub fn close(&self) {
        lock(&self.bucket).is_closed = true;
    }

    /// The names of all objects, and how many uploads were begun and not ended.
    #[must_use]
    pub fn kept(&self) -> (Vec<String>, usize) {
        let bucket = lock(&self.bucket);
        (bucket.objects.keys().cloned().collect(), bucket.unfinished())
    }
}

impl Drop for Gcs {
    /// Ends the connections.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, bucket: Arc<Mutex<Bucket>>) {
    while let Ok((connection, _)) = listener.accept().await {
        let bucket = Arc::clone(&bucket);
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(request, Arc::clone(&bucket)));
            // An error is how a connection ends whose client has gone. The answers' `Date` is hyper's.
            let _ =
                server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

async fn serve(
    request: Request<Incoming>,
    bucket: Arc<Mutex<Bucket>>,
) -> std::result::Result<Response<Full<Bytes>>, Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (builder, body) = answered(&mut lock(&bucket), &head, body).unwrap_or_else(|(status, code)| {
        (Response::builder().status(status), format!("<Error><Code>{code}</Code></Error>").into())
    });
    let body = if head.method == Method::HEAD { Bytes::new() } else { body };
    Ok(builder.body(Full::new(body))?)
}

type Error = Box<dyn std::error::Error + Send + Sync>;
type Answer = std::result::Result<(Builder, Bytes), Refusal>;

fn answered(bucket: &mut Bucket, head: &Parts, body: Bytes) -> Answer {
    if bucket.is_closed || !is_signed(head) {
        return Err((403, "AccessDenied"));
    }
    let (of, name) = place(head.uri.path());
    if of != BUCKET {
        return Err((404, "NoSuchBucket"));
    }
    let query = query(head);
    match query.get("uploadId") {
        _ if name.is_empty() => Ok(listed(bucket, &query)),
        Some(id) => uploading(bucket, head, id, &query, body),
        None => plain(bucket, head, &name, &query, body),
    }
}

/// A request about an object.
fn plain(
    bucket: &mut Bucket,
    head: &Parts,
    name: &str,
    query: &HashMap<String, String>,
    body: Bytes,
) -> Answer {
    let now = now();
    match head.method.as_str() {
        "GET" | "HEAD" => found(bucket.objects.get(name).ok_or(NO_OBJECT)?, head),
        "PUT" => {
            let expected = condition(head)?;
            let object = match header(head, "x-goog-copy-source") {
                Some(source) => bucket.copy(&place(source).1, name, expected, now)?,
                None => bucket.put(name, body, expected, now)?,
            };
            Ok((described(&object), Bytes::new()))
        }
        "DELETE" => bucket.delete(name).map(|()| (Response::builder().status(204), Bytes::new())),
        "POST" if query.contains_key("uploads") => {
            no_condition(head)?;
            let id = bucket.initiate(name);
            let text = format!(
                "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{name}</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            );
            Ok((Response::builder(), text.into()))
        }
        _ => Err((405, "MethodNotAllowed")),
    }
}

/// A request about an upload in parts.
fn uploading(
    bucket: &mut Bucket,
    head: &Parts,
    id: &str,
    query: &HashMap<String, String>,
    body: Bytes,
) -> Answer {
    no_condition(head)?;
    match head.method.as_str() {
        "PUT" => {
            let number = query.get("partNumber").and_then(|number| number.parse().ok());
            let etag = bucket.part(id, number.ok_or((400, "InvalidArgument"))?, body)?;
            Ok((Response::builder().header("etag", etag), Bytes::new()))
        }
        "POST" => {
            let (name, object) = bucket.complete(id, &parts(&String::from_utf8_lossy(&body)), now())?;
            let text = format!(
                "<CompleteMultipartUploadResult><Location>x</Location><Bucket>{BUCKET}</Bucket><Key>{name}</Key>\
                 <ETag>{}</ETag></CompleteMultipartUploadResult>",
                object.etag
            );
            Ok((described(&object), text.into()))
        }
        "DELETE" => bucket.abort(id).map(|()| (Response::builder().status(204), Bytes::new())),
        _ => Err((405, "MethodNotAllowed")),
    }
}

/// An object, or the part of it that is asked for.
fn found(object: &Object, head: &Parts) -> Answer {
    let builder = described(object);
    if header(head, "if-none-match") == Some(&object.etag) {
        return Ok((builder.status(304), Bytes::new()));
    }
    let length = object.bytes.len();
    let Some(range) = header(head, "range").and_then(|range| range.strip_prefix("bytes=")) else {
        return Ok((builder.header("content-length", length), object.bytes.clone()));
    };
    let (from, to) = range.split_once('-').ok_or((400, "InvalidArgument"))?;
    let from: usize = from.parse().map_err(|_| (400, "InvalidArgument"))?;
    let end = to.parse().map_or(length, |last: usize| last.saturating_add(1).min(length));
    if from >= end {
        return Err((416, "InvalidRange"));
    }
    let builder = builder.status(206).header("content-range", format!("bytes {from}-{}/{length}", end - 1));
    Ok((builder, object.bytes.slice(from..end)))
}

/// A page of the names that begin as was asked.
fn listed(bucket: &Bucket, query: &HashMap<String, String>) -> (Builder, Bytes) {
    let asked = |name: &str| query.get(name).map_or("", String::as_str);
    let limit = asked("max-keys").parse().unwrap_or(1_000);
    let mut matching = bucket
        .objects
        .iter()
        .filter(|(name, _)| name.starts_with(asked("prefix")) && name.as_str() > asked("continuation-token"));
    let (mut text, mut last) = (String::from("<ListBucketResult>"), "");
    for (name, object) in matching.by_ref().take(limit) {
        let written = DateTime::<Utc>::from(object.written).format("%Y-%m-%dT%H:%M:%S%.3fZ");
        text += &format!(
            "<Contents><Key>{name}</Key><Generation>{}</Generation><LastModified>{written}</LastModified>\
             <ETag>{}</ETag><Size>{}</Size></Contents>",
            object.generation,
            object.etag,
            object.bytes.len()
        );
        last = name;
    }
    if matching.next().is_some() {
        text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    (Response::builder(), (text + "</ListBucketResult>").into())
}

/// An answer that tells of an object.
fn described(object: &Object) -> Builder {
    let written = DateTime::<Utc>::from(object.written).format("%a, %d %b %Y %H:%M:%S GMT");
    Response::builder()
        .header("etag", &object.etag)
        .header("x-goog-generation", object.generation)
        .header("last-modified", written.to_string())
}

/// The generation that a write is to replace. By etags it cannot be said.
fn condition(head: &Parts) -> std::result::Result<Option<u64>, Refusal> {
    if head.headers.contains_key("if-match") || head.headers.contains_key("if-none-match") {
        return Err(NO_CONDITION_HERE);
    }
    let Some(generation) = header(head, CONDITION) else { return Ok(None) };
    generation.parse().map(Some).map_err(|_| (400, "InvalidArgument"))
}

fn no_condition(head: &Parts) -> std::result::Result<(), Refusal> {
    condition(head)?.map_or(Ok(()), |_| Err(NO_CONDITION_HERE))
}

/// The numbers and etags of the parts that are named.
fn parts(text: &str) -> Vec<(u32, String)> {
    let inner = |part: &str, tag: &str| {
        let (_, rest) = part.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(inner, _)| inner.replace("&quot;", "\""))
    };
    let part = |part: &str| Some((inner(part, "PartNumber")?.parse().ok()?, inner(part, "ETag")?));
    text.split("<Part>").filter_map(part).collect()
}

/// The bucket and the object's name of a path.
fn place(path: &str) -> (String, String) {
    let path = percent_decode_str(path.trim_start_matches('/')).decode_utf8_lossy();
    let (bucket, name) = path.split_once('/').unwrap_or((&path, ""));
    (bucket.to_owned(), name.to_owned())
}

/// Whether there is a token that looks like one that a service account has signed.
fn is_signed(head: &Parts) -> bool {
    let token = header(head, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    token.is_some_and(|token| token.split('.').filter(|part| part.len() > 20).count() == 3)
}

fn query(head: &Parts) -> HashMap<String, String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = head.uri.query().unwrap_or_default().split('&');
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    pairs.map(pair).collect()
}

fn header<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name)?.to_str().ok()
}

#[allow(clippy::disallowed_methods, reason = "the clock of a server of its own")]
fn now() -> SystemTime {
    SystemTime::now()
}
