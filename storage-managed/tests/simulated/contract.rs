//! The simulated clouds do what every home does, and what each real one does alone.

use std::{sync::Arc, time::Duration};

use storage_managed::home::{Home, Put};

use crate::{
    cases::{TERM, acquire, done, text},
    client::SimulatedHome,
    clock::Clock,
    cloud::{Cloud, Weather},
    service::Flavor,
    stores::Store,
};

fn calm(flavor: Flavor) -> Arc<Cloud> {
    Cloud::new(flavor, Clock::new(1), 1, Weather::default())
}

fn store(flavor: Flavor) -> Store {
    let cloud = calm(flavor);
    Box::new(move || Box::new(Client(SimulatedHome::new(&cloud, "client".to_owned()))))
}

/// A client that the cases own.
#[derive(Debug)]
struct Client(Arc<SimulatedHome>);

macro_rules! passed_on {
    ($(async fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $answer:ty;)*) => {
        #[async_trait::async_trait]
        impl Home for Client {
            fn name(&self) -> String {
                self.0.name()
            }

            $(async fn $name(&self $(, $arg: $type)*) -> storage_core::Result<$answer> {
                self.0.$name($($arg),*).await
            })*
        }
    };
}

type Pieces = futures::stream::BoxStream<'static, storage_core::Result<bytes::Bytes>>;

passed_on! {
    async fn get(&self, name: &str) -> Option<crate::home::Object>;
    async fn get_if_changed(&self, name: &str, known: &crate::home::Version) -> crate::home::Fresh;
    async fn read(&self, name: &str, from: u64) -> Option<(u64, Pieces)>;
    async fn create(&self, name: &str, bytes: bytes::Bytes, held: Option<&crate::home::Held>) -> Put;
    async fn replace(&self, name: &str, bytes: bytes::Bytes, expected: &crate::home::Version, held: Option<&crate::home::Held>) -> Put;
    async fn put(&self, name: &str, body: crate::home::Body, sent: &(dyn Fn(u64) + Send + Sync)) -> bool;
    async fn delete(&self, name: &str) -> ();
    async fn list(&self, prefix: &str) -> Vec<crate::home::Listed>;
    async fn acquire(&self, claim: &crate::home::Claim<'_>) -> Option<crate::home::Held>;
    async fn renew(&self, held: &crate::home::Held) -> Option<crate::home::Held>;
    async fn release(&self, held: &crate::home::Held) -> ();
    async fn holder(&self) -> Option<crate::home::Holder>;
    async fn unlock(&self) -> ();
}

/// Each case on each flavor, as a test of its own name.
macro_rules! on_flavor {
    ($module:ident $flavor:ident $($case:ident)*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&super::store(crate::service::Flavor::$flavor)).await;
            })*
        }
    };
}

macro_rules! on_each_flavor {
    ($($case:ident)*) => {
        on_flavor! { on_simulated_s3 S3 $($case)* }
        on_flavor! { on_simulated_azure Azure $($case)* }
        on_flavor! { on_simulated_gcs Gcs $($case)* }
    };
}

crate::cases::each_case! { on_each_flavor }

#[tokio::test]
async fn a_silent_holder_is_followed_after_its_term_by_the_clouds_own_clock() {
    for flavor in [Flavor::S3, Flavor::Azure, Flavor::Gcs] {
        let cloud = calm(flavor);
        let [ours, theirs] = ["ours", "theirs"].map(|who| SimulatedHome::new(&cloud, who.to_owned()));
        let held = acquire(&*ours, "ours", TERM).await.unwrap();
        let first = done(ours.create("head", text("first"), Some(&held)).await.unwrap());
        cloud.clock.jump(TERM / 2);
        assert_eq!(acquire(&*theirs, "theirs", TERM).await, None, "{flavor:?}");
        cloud.clock.jump(TERM);
        let late = ours.replace("head", text("late"), &first, Some(&held)).await.unwrap();
        assert_eq!(late, Put::Refused, "{flavor:?}: the term has passed");
        let next = acquire(&*theirs, "theirs", TERM).await.unwrap();
        done(theirs.replace("head", text("second"), &first, Some(&next)).await.unwrap());
        assert_eq!(ours.renew(&held).await.unwrap(), None, "{flavor:?}");
    }
}

/// What did not happen holds nothing: the lease's object is as old as it was, and others go by that.
#[tokio::test]
async fn a_renewal_that_never_arrived_does_not_lengthen_a_lease() {
    for flavor in [Flavor::S3, Flavor::Azure, Flavor::Gcs] {
        let cloud = calm(flavor);
        let [ours, theirs] = ["ours", "theirs"].map(|who| SimulatedHome::new(&cloud, who.to_owned()));
        let held = acquire(&*ours, "ours", TERM).await.unwrap();
        let first = done(ours.create("head", text("first"), Some(&held)).await.unwrap());
        cloud.clock.jump(TERM * 4 / 5);
        cloud.turn(Weather { never: 1_000, ..Weather::default() });
        let _ = ours.renew(&held).await;
        cloud.turn(Weather::default());
        cloud.clock.jump(TERM * 2 / 5);
        acquire(&*theirs, "theirs", TERM).await.expect("the term has passed");
        let late = ours.replace("head", text("late"), &first, Some(&held)).await.unwrap();
        assert_eq!(late, Put::Refused, "{flavor:?}: somebody else holds it");
    }
}

#[tokio::test]
async fn only_azure_refuses_a_head_from_who_does_not_hold_its_lease() {
    for flavor in [Flavor::S3, Flavor::Azure, Flavor::Gcs] {
        let cloud = calm(flavor);
        let [ours, theirs] = ["ours", "theirs"].map(|who| SimulatedHome::new(&cloud, who.to_owned()));
        let held = acquire(&*ours, "ours", TERM).await.unwrap();
        let first = done(ours.create("head", text("first"), Some(&held)).await.unwrap());
        let put = theirs.replace("head", text("without"), &first, None).await.unwrap();
        assert_eq!(put == Put::Refused, flavor == Flavor::Azure, "{flavor:?}");
    }
}

/// What was lost, what comes late, and what never comes look the same to who has asked.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_done_or_not_and_seen_by_who_writes_again() {
    for (weather, is_done) in [
        (Weather { lost: 1_000, ..Weather::default() }, true),
        (Weather { never: 1_000, ..Weather::default() }, false),
    ] {
        let cloud = Cloud::new(Flavor::S3, Clock::new(1), 1, weather);
        let home = SimulatedHome::new(&cloud, "ours".to_owned());
        let error = home.create("seg", text("pages"), None).await.unwrap_err();
        assert_eq!(error.kind(), storage_core::ErrorKind::OutcomeUnknown);
        cloud.heal();
        let again = home.create("seg", text("pages"), None).await.unwrap();
        assert_eq!(again == Put::Refused, is_done);
    }
}

#[tokio::test]
async fn a_write_that_was_given_up_arrives_late_and_under_its_condition() {
    let weather = Weather { late: 1_000, ..Weather::default() };
    let cloud = Cloud::new(Flavor::Gcs, Clock::new(1), 1, weather);
    let home = SimulatedHome::new(&cloud, "ours".to_owned());
    for name in ["seg/1", "seg/2"] {
        home.create(name, text("late"), None).await.unwrap_err();
    }
    let put = |service: &mut crate::service::Service, now| {
        service.put(now, "seg/2", text("in time"), &crate::service::Condition::Absent, None)
    };
    cloud.with(put).unwrap();
    cloud.clock.jump(Duration::from_secs(60));
    cloud.heal();
    assert_eq!(home.get("seg/1").await.unwrap().unwrap().bytes, "late");
    assert_eq!(home.get("seg/2").await.unwrap().unwrap().bytes, "in time");
}
