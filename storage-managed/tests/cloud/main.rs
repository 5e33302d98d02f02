//! Managed databases on real homes in the cloud, with a network that fails between them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod costs;
mod faults;
mod model;
mod place;
mod readers;
mod short;
mod slow;
mod stopped;
mod uploads;
mod writers;

/// Each case on each cloud, as a test of its own name.
macro_rules! on_each_cloud {
    ($($case:path as $name:ident;)*) => {
        mod on_azure {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $case(&crate::place::Cloud::Azure).await;
            })*
        }

        mod on_s3 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $case(&crate::place::Cloud::S3).await;
            })*
        }

        mod on_gcs {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $case(&crate::place::Cloud::Gcs).await;
            })*
        }
    };
}

on_each_cloud! {
    crate::faults::requests_are_lost as a_request_that_is_lost_loses_nothing;
    crate::faults::answers_are_lost as an_answer_that_is_lost_loses_nothing;
    crate::faults::requests_are_refused as a_request_that_fails_before_its_effect_loses_nothing;
    crate::faults::requests_fail_after as a_request_that_fails_after_its_effect_loses_nothing;
    crate::faults::answers_break_off as an_answer_that_breaks_off_loses_nothing;
    crate::faults::requests_come_late as a_request_that_comes_after_the_lease_harms_nobody;
    crate::writers::first_writers_race as first_writers_race_and_each_batch_is_there_once;
    crate::writers::a_zombie_wakes_up as a_zombie_that_wakes_up_is_refused_and_its_batch_is_kept;
    crate::short::on_its_own_cache as after_a_killed_writer_each_short_process_on_its_cache_writes_at_once;
    crate::short::on_other_caches as after_a_killed_writer_each_short_process_elsewhere_writes;
    crate::short::a_copied_cache as the_copy_of_a_living_writers_cache_takes_no_lease_from_it;
    crate::slow::a_slow_segment as a_segment_that_takes_longer_than_a_request_is_read;
    crate::slow::a_broken_download as a_download_that_breaks_off_is_gone_on_with;
    crate::slow::a_part_that_is_too_long as a_part_that_is_longer_than_its_object_is_begun_anew;
    crate::slow::an_impatient_caller as a_download_goes_on_where_its_caller_gave_up;
    crate::uploads::nobody_writes_meanwhile as an_upload_that_outlasts_the_lease_is_published_where_nobody_else_wrote;
    crate::uploads::another_writes_meanwhile as an_upload_that_outlasts_the_lease_is_refused_where_another_wrote;
    crate::writers::a_home_is_recreated as a_home_that_was_deleted_and_recreated_is_refused;
    crate::readers::while_it_is_folded as readers_see_whole_generations_during_folding_and_cleaning_up;
    crate::costs::of_a_publication as a_publication_is_two_requests_and_freshening_one_or_two;
    crate::costs::of_many_sets as sixty_four_concurrent_sets_are_four_publications_at_most;
}
