//! Homes, on real ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[cfg(feature = "azure")]
mod azure;
mod cases;
#[cfg(feature = "encryption")]
mod encrypted;
mod folder;
#[cfg(feature = "encryption")]
mod keys;
#[cfg(feature = "s3")]
mod s3;
mod stores;

/// Each case on each kind of home, as a test of its own name.
macro_rules! on_each_home {
    ($($case:ident)*) => {
        mod on_a_folder {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::folder()).await;
            })*
        }

        #[cfg(feature = "encryption")]
        mod on_an_encrypted_folder {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::encrypted_folder()).await;
            })*
        }

        #[cfg(all(feature = "azure", feature = "encryption"))]
        mod on_encrypted_azure {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::encrypted(crate::stores::azure().await)).await;
            })*
        }

        #[cfg(all(feature = "s3", feature = "encryption"))]
        mod on_encrypted_s3 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::encrypted(crate::stores::s3())).await;
            })*
        }

        #[cfg(feature = "azure")]
        mod on_azure {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::azure().await).await;
            })*
        }

        #[cfg(feature = "s3")]
        mod on_s3 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::s3()).await;
            })*
        }
    };
}

on_each_home! {
    the_probe_accepts_the_home_and_leaves_nothing
    absent_objects_are_absent
    objects_are_read_as_they_were_written
    parts_of_objects_are_read
    of_many_who_create_one_wins
    of_many_who_replace_one_wins
    another_version_is_not_replaced
    an_unchanged_object_is_not_read_again
    putting_again_changes_nothing
    of_many_who_put_one_wins
    what_was_put_in_pieces_is_not_written_over
    a_large_file_travels_both_ways
    a_file_that_is_too_short_is_not_put
    deleting_what_is_not_there_succeeds
    objects_are_listed_by_prefix
    names_that_leave_the_home_are_refused
    only_one_holds_the_lease
    a_lease_is_renewed_and_given_back
    a_first_head_is_created_under_the_lease
    a_lease_is_taken_back_at_once_by_who_knows_its_proof
    who_holds_the_lease_is_told
    an_unlocked_lease_is_lost_and_free
}
