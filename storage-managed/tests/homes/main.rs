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
#[cfg(any(feature = "gcs", feature = "s3"))]
mod buckets;
mod cases;
#[cfg(feature = "encryption")]
mod encrypted;
mod folder;
#[cfg(feature = "gcs")]
mod gcs;
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

        #[cfg(all(feature = "gcs", feature = "encryption"))]
        mod on_encrypted_gcs {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::encrypted(crate::stores::gcs())).await;
            })*
        }

        #[cfg(feature = "gcs")]
        mod on_gcs {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::cases::$case(&crate::stores::gcs()).await;
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

cases::each_case! { on_each_home }

/// As above, where the home is a bucket of objects.
#[cfg(any(feature = "gcs", feature = "s3"))]
macro_rules! in_each_bucket {
    ($($case:ident)*) => {
        #[cfg(feature = "gcs")]
        mod in_gcs {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::buckets::$case(&crate::gcs::cloud()).await;
            })*
        }

        #[cfg(feature = "s3")]
        mod in_s3 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                crate::buckets::$case(&crate::s3::cloud()).await;
            })*
        }
    };
}

#[cfg(any(feature = "gcs", feature = "s3"))]
buckets::each_case_in_a_bucket! { in_each_bucket }
