//! The proxy before a real server.

use std::time::Instant;

use super::*;
use crate::Moto;
use crate::servers::http::{ask, send};

const OBJECT: &str = "/storage/object";

/// A server, and a proxy before it.
fn start() -> (Moto, Proxy) {
    let moto = Moto::start().unwrap();
    let proxy = Proxy::start(moto.port()).unwrap();
    (moto, proxy)
}

fn stored(moto: &Moto) -> String {
    ask(moto.port(), "GET", OBJECT, "").unwrap().rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

#[test]
fn requests_pass_and_are_counted() {
    let (moto, proxy) = start();
    assert!(ask(proxy.port(), "PUT", OBJECT, "content").unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(proxy.port(), "GET", OBJECT, "").unwrap().ends_with("content"));
    let seen = proxy.seen();
    assert_eq!(seen.len(), 2);
    let put = Seen { method: "PUT".into(), path: OBJECT.into(), sent: 7, status: Some(200), received: 0 };
    assert_eq!(seen[0], put);
    assert_eq!((seen[1].sent, seen[1].received), (0, 7));
    proxy.reset();
    assert_eq!(proxy.seen(), []);
    assert_eq!(stored(&moto), "content");
}

#[test]
fn a_lost_request_changes_nothing_and_a_lost_answer_does() {
    let (moto, proxy) = start();
    ask(proxy.port(), "PUT", OBJECT, "first").unwrap();
    proxy.at(1, Fault::LoseRequest);
    proxy.at(2, Fault::LoseAnswer);
    assert_eq!(ask(proxy.port(), "PUT", OBJECT, "second").unwrap_or_default(), "");
    assert_eq!(stored(&moto), "first");
    assert_eq!(ask(proxy.port(), "PUT", OBJECT, "third").unwrap_or_default(), "");
    assert_eq!(stored(&moto), "third");
    let statuses: Vec<_> = proxy.seen().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [Some(200), None, None]);
}

#[test]
fn statuses_are_answered_before_and_after_the_work() {
    let (moto, proxy) = start();
    ask(proxy.port(), "PUT", OBJECT, "first").unwrap();
    proxy.always(Fault::Answer(503));
    assert!(ask(proxy.port(), "PUT", OBJECT, "second").unwrap().starts_with("HTTP/1.1 503"));
    assert_eq!(stored(&moto), "first");
    proxy.always(Fault::AnswerAfter(500));
    assert!(ask(proxy.port(), "PUT", OBJECT, "third").unwrap().starts_with("HTTP/1.1 500"));
    assert_eq!(stored(&moto), "third");
}

#[test]
fn an_answer_breaks_off_in_its_middle() {
    let (_moto, proxy) = start();
    ask(proxy.port(), "PUT", OBJECT, "content!").unwrap();
    proxy.at(1, Fault::TruncateAnswer);
    let answer = ask(proxy.port(), "GET", OBJECT, "").unwrap().to_lowercase();
    assert!(answer.contains("content-length: 8") && answer.ends_with("\r\n\r\ncont"), "{answer}");
}

#[test]
fn requests_and_answers_come_late() {
    let (_moto, proxy) = start();
    let delay = Duration::from_millis(300);
    for fault in [Fault::DelayRequest(delay), Fault::DelayAnswer(delay)] {
        proxy.always(fault);
        let started = Instant::now();
        ask(proxy.port(), "PUT", OBJECT, "content").unwrap();
        assert!(started.elapsed() >= delay, "{fault:?}");
    }
}

#[test]
fn a_request_comes_late_whose_client_has_gone() {
    let (moto, proxy) = start();
    ask(proxy.port(), "PUT", OBJECT, "first").unwrap();
    proxy.at(1, Fault::DelayRequest(Duration::from_millis(300)));
    let client = send(proxy.port(), "PUT", OBJECT, "second").unwrap();
    let started = Instant::now();
    while proxy.seen().len() < 2 && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    while proxy.seen()[1].status.is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(stored(&moto), "second");
}
