//! What a network does to requests, on purpose.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::Result;
use crate::tcp::listen;

#[cfg(test)]
mod tests;

/// What to do to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It never reaches the server, and the client's connection ends.
    LoseRequest,
    /// The server gets it, and the client's connection ends instead of an answer.
    LoseAnswer,
    /// It never reaches the server, and the client is answered with this status, `503` for example.
    Answer(u16),
    /// The server gets it, and answers with this status whatever it did.
    AnswerAfter(u16),
    /// The server gets it, and its answer breaks off in the middle of the body.
    TruncateAnswer,
    /// It reaches the server without `If-Match`, `If-None-Match` and Google's conditions on generations, so that the server
    /// seems to ignore them.
    DropConditions,
    /// It reaches the server after this time.
    DelayRequest(Duration),
    /// The server gets it, and its answer comes after this time.
    DelayAnswer(Duration),
    /// The server gets it, and the body of its answer travels at so many bytes a second.
    Throttle(usize),
}

/// A request that went through, or was to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method, `PUT` for example.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The length of the request's body in bytes.
    pub sent: usize,
    /// The status that the client was answered with; `None` where it got no answer.
    pub status: Option<u16>,
    /// The length in bytes of the body of the server's answer.
    pub received: usize,
}

type Body = BoxBody<Bytes, Error>;
type Error = Box<dyn std::error::Error + Send + Sync>;

/// A proxy of HTTP/1.1 before a server on this machine. It counts requests, from 0 on, and does to each what it was
/// told to; without being told anything it passes them on unchanged.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Plan {
    seen: Vec<Seen>,
    faults: HashMap<usize, Fault>,
    always: Option<Fault>,
}

impl Proxy {
    /// Starts a proxy before the server at `port` of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When the system gives it no port or no thread.
    pub fn start(port: u16) -> Result<Proxy> {
        let (runtime, listener, address) = listen()?;
        let plan = Arc::default();
        runtime.spawn(accept(listener, ([127, 0, 0, 1], port).into(), Arc::clone(&plan)));
        Ok(Proxy { address, plan, runtime: Some(runtime) })
    }

    /// The port on 127.0.0.1 for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests since the start or the last [`reset`](Self::reset), in their order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.plan).seen.clone()
    }

    /// Does `fault` to the request of this index, counted from 0 since the start or the last [`reset`](Self::reset).
    pub fn at(&self, index: usize, fault: Fault) {
        lock(&self.plan).faults.insert(index, fault);
    }

    /// Does `fault` to each request for which nothing else is planned.
    pub fn always(&self, fault: Fault) {
        lock(&self.plan).always = Some(fault);
    }

    /// Forgets the requests and the faults: the next request is number 0, and passes.
    pub fn reset(&self) {
        *lock(&self.plan) = Plan::default();
    }
}

impl Drop for Proxy {
    /// Ends the connections.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, target: SocketAddr, plan: Arc<Mutex<Plan>>) {
    while let Ok((connection, _)) = listener.accept().await {
        let plan = Arc::clone(&plan);
        tokio::spawn(async move {
            let service = service_fn(move |request| serve_by_itself(request, target, Arc::clone(&plan)));
            let io = TokioIo::new(connection);
            // An error is how a connection ends that was to end.
            let _ = server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}

/// What was sent arrives, though the client has gone meanwhile.
async fn serve_by_itself(
    request: Request<Incoming>,
    target: SocketAddr,
    plan: Arc<Mutex<Plan>>,
) -> Result<Response<Body>, Error> {
    tokio::spawn(serve(request, target, plan)).await?
}

/// An error ends the client's connection without an answer.
async fn serve(
    request: Request<Incoming>,
    target: SocketAddr,
    plan: Arc<Mutex<Plan>>,
) -> Result<Response<Body>, Error> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (index, fault) = note(&plan, &head, body.len());
    match fault {
        Some(Fault::LoseRequest) => return Err("the request is lost".into()),
        Some(Fault::Answer(status)) => return answer(&plan, index, status),
        Some(Fault::DropConditions) => {
            for condition in ["if-match", "if-none-match", "x-goog-if-generation-match"] {
                head.headers.remove(condition);
            }
        }
        Some(Fault::DelayRequest(delay)) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let (head, body) = forward(target, Request::from_parts(head, Full::new(body))).await?;
    if let Some(seen) = lock(&plan).seen.get_mut(index) {
        seen.received = body.len();
    }
    let body = match fault {
        Some(Fault::LoseAnswer) => return Err("the answer is lost".into()),
        Some(Fault::AnswerAfter(status)) => return answer(&plan, index, status),
        Some(Fault::TruncateAnswer) => truncated(&body),
        Some(Fault::Throttle(rate)) => throttled(body, rate),
        Some(Fault::DelayAnswer(delay)) => {
            tokio::time::sleep(delay).await;
            whole(body)
        }
        _ => whole(body),
    };
    note_status(&plan, index, head.status);
    Ok(Response::from_parts(head, body))
}

/// Counts a request, and says what to do to it.
fn note(plan: &Mutex<Plan>, head: &hyper::http::request::Parts, sent: usize) -> (usize, Option<Fault>) {
    let mut plan = lock(plan);
    let index = plan.seen.len();
    let seen =
        Seen { method: head.method.to_string(), path: head.uri.to_string(), sent, status: None, received: 0 };
    plan.seen.push(seen);
    (index, plan.faults.remove(&index).or(plan.always))
}

fn note_status(plan: &Mutex<Plan>, index: usize, status: StatusCode) {
    if let Some(seen) = lock(plan).seen.get_mut(index) {
        seen.status = Some(status.as_u16());
    }
}

/// The server's answer, whole.
async fn forward(
    target: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(hyper::http::response::Parts, Bytes), Error> {
    let io = TokioIo::new(TcpStream::connect(target).await?);
    let (mut sender, connection) = client::conn::http1::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok((head, body))
}

fn answer(plan: &Mutex<Plan>, index: usize, status: u16) -> Result<Response<Body>, Error> {
    let response = Response::builder().status(status).body(whole(Bytes::new()))?;
    note_status(plan, index, response.status());
    Ok(response)
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed()
}

/// A twentieth of a second's bytes at a time.
fn throttled(body: Bytes, rate: usize) -> Body {
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let piece = rest.split_to((rate / 20).clamp(1, rest.len()));
        Some((Ok::<_, Error>(Frame::data(piece)), rest))
    });
    BodyExt::boxed(StreamBody::new(pieces))
}

/// The first half; the length that the head states is that of all.
fn truncated(body: &Bytes) -> Body {
    let half = Frame::data(body.slice(..body.len() / 2));
    let end = async {
        // The first half travels before the connection ends.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(Error::from("the answer breaks off"))
    };
    let pieces = stream::once(async { Ok(half) }).chain(stream::once(end));
    BodyExt::boxed(StreamBody::new(pieces))
}
