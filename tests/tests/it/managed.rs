//! Managed databases by their URLs, on real homes.

use storage_tests::variable;

use crate::stores::{connected, json};

/// The key that Microsoft publishes for the account that every Azurite has.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// One process writes, and another that has nothing but the home reads.
async fn travels(pairs: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let cache = |name: &str| folder.path().join(name).display().to_string();
    let (ours, theirs) = (cache("ours"), cache("theirs"));
    let storage = connected(&[pairs, &[("STORAGE_CACHE_DIR", &ours)]].concat()).await;
    assert_eq!(storage.name(), "sqlite");
    storage.set("deal:1", json("1"), None).await.unwrap();
    let reader =
        connected(&[pairs, &[("STORAGE_CACHE_DIR", &theirs), ("STORAGE_FRESHNESS", "0s")]].concat()).await;
    assert_eq!(reader.get("deal:1").await.unwrap(), Some(json("1")));
    storage.set("deal:2", json("2"), None).await.unwrap();
    assert_eq!(reader.get("deal:2").await.unwrap(), Some(json("2")), "it asks each time");
    storage.disconnect().await.unwrap();
    reader.disconnect().await.unwrap();
}

fn name() -> String {
    format!("configured-{}", std::process::id())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_home_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    travels(&[("DATABASE_URL", &format!("sqlite+file://{}/agent", folder.path().display()))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_azure_is_a_home_by_its_url() {
    let endpoint = variable("STORAGE_TEST_AZURITE_URL");
    let url = format!("sqlite+azblob://devstoreaccount1/{}/agent", name());
    let pairs =
        [("DATABASE_URL", &*url), ("AZURE_STORAGE_KEY", KEY), ("AZURE_STORAGE_BLOB_ENDPOINT", &*endpoint)];
    let container = storage_managed::home::AzureHome::new(
        &format!("{endpoint}/{}", name()),
        "agent",
        storage_managed::home::AzureCredentials::SharedKey {
            account: "devstoreaccount1".into(),
            key: KEY.into(),
        },
    );
    container.unwrap().create_container().await.unwrap();
    travels(&pairs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_s3_is_a_home_by_its_url() {
    let endpoint = variable("STORAGE_TEST_S3_URL");
    let url = format!("sqlite+s3://storage/{}", name());
    let pairs = [
        ("DATABASE_URL", &*url),
        ("AWS_ACCESS_KEY_ID", "an-access-key"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &*endpoint),
    ];
    travels(&pairs).await;
}
