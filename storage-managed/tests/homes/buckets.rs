//! What homes in buckets of objects do alike: the lease in an object, and what became of a request.

use std::time::Duration;

use futures::{StreamExt, stream};
use storage_core::ErrorKind;
use storage_managed::home::{Body, Fresh, Home, Put, probe};
use storage_tests::{Fault, Proxy};

use crate::{
    cases::{TERM, acquire, done, text},
    stores::prefix,
};

/// Hands the names of all these cases to a macro.
macro_rules! each_case_in_a_bucket {
    ($to:ident) => {
        $to! {
            a_silent_holder_is_followed_after_its_term
            who_comes_after_the_term_of_a_killed_holder_need_not_wait
            many_pages_are_listed
            requests_are_few
            what_became_of_a_request_is_said_by_its_error
            an_answer_that_breaks_off_is_not_taken_for_the_whole
            lost_answers_to_the_lease_are_settled
            a_lost_answer_and_a_lost_look_leave_the_lease_renewable
            a_late_answer_ends_at_the_deadline
            a_store_that_ignores_conditions_is_refused_and_nothing_is_left
        }
    };
}
pub(crate) use each_case_in_a_bucket;

/// Where a kind of home is, and how it is reached.
pub(crate) struct Cloud {
    pub(crate) port: u16,
    /// By its URL and prefix, with a time for each request.
    pub(crate) home: fn(&str, &str, Duration) -> Box<dyn Home>,
}

impl Cloud {
    fn at(&self, port: u16, prefix: &str, timeout: Duration) -> Box<dyn Home> {
        (self.home)(&format!("http://127.0.0.1:{port}"), prefix, timeout)
    }

    fn home(&self, prefix: &str) -> Box<dyn Home> {
        self.at(self.port, prefix, Duration::from_secs(5))
    }

    fn behind_a_proxy(&self) -> (Proxy, Box<dyn Home>) {
        let proxy = Proxy::start(self.port).unwrap();
        let home = self.at(proxy.port(), &prefix(), Duration::from_secs(5));
        (proxy, home)
    }
}

pub(crate) async fn a_silent_holder_is_followed_after_its_term(cloud: &Cloud) {
    let prefix = prefix();
    let (ours, theirs) = (cloud.home(&prefix), cloud.home(&prefix));
    let term = Duration::from_millis(600);
    let held = acquire(&*ours, "ours", term).await.unwrap();
    let head = done(ours.create("head", text("first"), Some(&held)).await.unwrap());
    // Of an age in whole seconds it is not known yet that the term has passed; whoever looks on sees it pass.
    tokio::time::sleep(term).await;
    assert_eq!(acquire(&*theirs, "theirs", term).await, None);
    let stale = ours.replace("head", text("stale"), &head, Some(&held)).await.unwrap();
    assert_eq!(stale, Put::Refused, "the term has passed without a renewal");
    ours.renew(&held).await.unwrap().unwrap();
    tokio::time::sleep(term / 2).await;
    assert_eq!(acquire(&*theirs, "theirs", term).await, None, "it was renewed");
    tokio::time::sleep(term).await;
    let next = acquire(&*theirs, "theirs", term).await.unwrap();
    assert_eq!(ours.renew(&held).await.unwrap(), None);
    done(theirs.replace("head", text("second"), &head, Some(&next)).await.unwrap());
    assert_eq!(ours.replace("head", text("late"), &head, Some(&held)).await.unwrap(), Put::Refused);
}

pub(crate) async fn who_comes_after_the_term_of_a_killed_holder_need_not_wait(cloud: &Cloud) {
    let prefix = prefix();
    let term = Duration::from_secs(1);
    acquire(&*cloud.home(&prefix), "killed", term).await.unwrap();
    tokio::time::sleep(term + Duration::from_millis(2_100)).await;
    // A client that never saw it before, as a process that lives for a second is.
    let next = cloud.home(&prefix);
    assert_eq!(next.holder().await.unwrap(), None);
    acquire(&*next, "the next", term).await.unwrap();
}

pub(crate) async fn many_pages_are_listed(cloud: &Cloud) {
    let home = cloud.home(&prefix());
    stream::iter(0..1_005)
        .for_each_concurrent(16, |index| {
            let home = &home;
            async move {
                home.put(&format!("seg/{index:05}"), Body::Bytes(text("x")), &|_| {}).await.unwrap();
            }
        })
        .await;
    let names: Vec<String> = home.list("seg/").await.unwrap().into_iter().map(|listed| listed.name).collect();
    let expected: Vec<String> = (0..1_005).map(|index| format!("seg/{index:05}")).collect();
    assert_eq!(names, expected);
}

pub(crate) async fn requests_are_few(cloud: &Cloud) {
    let (proxy, home) = cloud.behind_a_proxy();
    let held = acquire(&*home, "us", TERM).await.unwrap();
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

pub(crate) async fn what_became_of_a_request_is_said_by_its_error(cloud: &Cloud) {
    let (proxy, home) = cloud.behind_a_proxy();
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

pub(crate) async fn an_answer_that_breaks_off_is_not_taken_for_the_whole(cloud: &Cloud) {
    let (proxy, home) = cloud.behind_a_proxy();
    home.put("seg/1", Body::Bytes(text("pages and pages")), &|_| {}).await.unwrap();
    proxy.always(Fault::TruncateAnswer);
    assert_eq!(home.get("seg/1").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

pub(crate) async fn lost_answers_to_the_lease_are_settled(cloud: &Cloud) {
    let (proxy, home) = cloud.behind_a_proxy();
    // The first request looks for a lease.
    proxy.at(1, Fault::LoseAnswer);
    let held = acquire(&*home, "us", TERM).await.unwrap();
    proxy.reset();
    proxy.at(0, Fault::LoseAnswer);
    assert!(home.renew(&held).await.unwrap().is_some());
    assert!(home.renew(&held).await.unwrap().is_some());
}

pub(crate) async fn a_lost_answer_and_a_lost_look_leave_the_lease_renewable(cloud: &Cloud) {
    let (proxy, home) = cloud.behind_a_proxy();
    let held = acquire(&*home, "us", TERM).await.unwrap();
    proxy.always(Fault::LoseAnswer);
    home.renew(&held).await.unwrap_err();
    proxy.reset();
    assert!(home.renew(&held).await.unwrap().is_some());
}

pub(crate) async fn a_late_answer_ends_at_the_deadline(cloud: &Cloud) {
    let proxy = Proxy::start(cloud.port).unwrap();
    let home = cloud.at(proxy.port(), &prefix(), Duration::from_millis(300));
    proxy.always(Fault::DelayAnswer(Duration::from_secs(3)));
    assert_eq!(home.get("head").await.unwrap_err().kind(), ErrorKind::Timeout);
    let error = home.create("head", text("first"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
}

pub(crate) async fn a_store_that_ignores_conditions_is_refused_and_nothing_is_left(cloud: &Cloud) {
    let (proxy, home) = cloud.behind_a_proxy();
    // The probe creates, creates again, replaces, and replaces what is another version by then.
    for (request, complaint) in [(1, "created that exists already"), (3, "replaced that has changed")] {
        proxy.reset();
        proxy.at(request, Fault::DropConditions);
        let error = probe(&*home).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(complaint), "{error}");
        assert_eq!(home.list("").await.unwrap(), []);
    }
    proxy.reset();
    probe(&*home).await.unwrap();
    assert_eq!(proxy.seen().len(), 5);
}
