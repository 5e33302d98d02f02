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

cases::each_case! { on_each_home }
