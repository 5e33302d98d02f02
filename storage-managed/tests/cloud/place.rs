//! A home in a cloud of its own name, reached directly and through a proxy.

use std::{
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use storage_managed::{
    DatabaseStore, Options, Result, RetryPolicy,
    home::{AzureCredentials, AzureHome, GcsHome, Home, S3Home},
};
use storage_tests::{Gcs, Proxy, variable};
use tempfile::TempDir;

/// The account that every Azurite has, and the key that Microsoft publishes for it.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How long a request may take, on a busy machine too.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    Azure,
    S3,
    Gcs,
}

static GCS: LazyLock<Gcs> = LazyLock::new(|| Gcs::start().unwrap());

impl Cloud {
    pub(crate) fn port(self) -> u16 {
        let url = match self {
            Self::Azure => variable("STORAGE_TEST_AZURITE_URL"),
            Self::S3 => variable("STORAGE_TEST_S3_URL"),
            Self::Gcs => GCS.url(),
        };
        url.split([':', '/']).find_map(|part| part.parse().ok()).unwrap()
    }

    /// The shortest term of the lease.
    pub(crate) fn term(self) -> Duration {
        match self {
            Self::Azure => Duration::from_secs(15),
            Self::S3 | Self::Gcs => Duration::from_millis(1_500),
        }
    }
}

/// An empty home, a proxy before it, and room for caches.
pub(crate) struct Place {
    pub(crate) cloud: Cloud,
    pub(crate) proxy: Proxy,
    prefix: String,
    folder: TempDir,
}

impl Place {
    pub(crate) async fn new(cloud: Cloud) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("cloud/{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let (proxy, folder) = (Proxy::start(cloud.port()).unwrap(), tempfile::tempdir().unwrap());
        let place = Self { cloud, proxy, prefix, folder };
        if cloud == Cloud::Azure {
            place.azure(cloud.port()).create_container().await.unwrap();
        }
        place
    }

    /// Another proxy before the same home.
    pub(crate) fn beside(&self) -> Self {
        let (proxy, folder) = (Proxy::start(self.cloud.port()).unwrap(), tempfile::tempdir().unwrap());
        Self { cloud: self.cloud, proxy, prefix: self.prefix.clone(), folder }
    }

    fn azure(&self, port: u16) -> AzureHome {
        let url = format!("http://127.0.0.1:{port}/{ACCOUNT}/cloud");
        let credentials = AzureCredentials::SharedKey { account: ACCOUNT.into(), key: KEY.into() };
        AzureHome::new(&url, &self.prefix, credentials).unwrap()
    }

    fn at(&self, port: u16, timeout: Duration) -> Arc<dyn Home> {
        let variables = self.variables(port);
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        match self.cloud {
            Cloud::Azure => Arc::new(self.azure(port).with_timeout(timeout)),
            Cloud::S3 => {
                Arc::new(S3Home::new("storage", &self.prefix, &variable).unwrap().with_timeout(timeout))
            }
            Cloud::Gcs => {
                Arc::new(GcsHome::new("storage", &self.prefix, &variable).unwrap().with_timeout(timeout))
            }
        }
    }

    /// The home, as another process is told it.
    pub(crate) fn url(&self) -> String {
        match self.cloud {
            Cloud::Azure => format!("sqlite+azblob://{ACCOUNT}/cloud/{}", self.prefix),
            Cloud::S3 => format!("sqlite+s3://storage/{}", self.prefix),
            Cloud::Gcs => format!("sqlite+gs://storage/{}", self.prefix),
        }
    }

    /// The variables that go with it.
    pub(crate) fn variables(&self, port: u16) -> Vec<(&'static str, String)> {
        match self.cloud {
            Cloud::Azure => vec![
                ("AZURE_STORAGE_KEY", KEY.to_owned()),
                ("AZURE_STORAGE_BLOB_ENDPOINT", format!("http://127.0.0.1:{port}/{ACCOUNT}")),
            ],
            Cloud::S3 => vec![
                ("AWS_ACCESS_KEY_ID", "key".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "key".to_owned()),
                ("AWS_REGION", "us-east-1".to_owned()),
                ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ],
            Cloud::Gcs => vec![
                ("GOOGLE_SERVICE_ACCOUNT_KEY", Gcs::KEY.to_owned()),
                ("GOOGLE_BASE_URL", format!("http://127.0.0.1:{port}")),
            ],
        }
    }

    /// A client of its own.
    pub(crate) fn direct(&self) -> Arc<dyn Home> {
        self.at(self.cloud.port(), TIMEOUT)
    }

    /// One whose requests the proxy sees.
    pub(crate) fn watched(&self, timeout: Duration) -> Arc<dyn Home> {
        self.at(self.proxy.port(), timeout)
    }

    /// Ends somebody else's lease now: where it is an object, it has to run out.
    pub(crate) async fn end_lease(&self) {
        match self.cloud {
            Cloud::Azure => self.azure(self.cloud.port()).unlock().await.unwrap(),
            Cloud::S3 | Cloud::Gcs => tokio::time::sleep(self.cloud.term()).await,
        }
    }

    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings that make a test quick.
    pub(crate) fn options(&self, cache: &str) -> Options {
        Options {
            freshness: Duration::ZERO,
            retry: RetryPolicy {
                attempts: 3,
                pause: Duration::from_millis(5),
                cap: Duration::from_millis(20),
            },
            lease_term: self.cloud.term(),
            lease_wait: Duration::from_millis(300),
            lease_idle: Duration::from_millis(50),
            cache_wait: Duration::from_secs(5),
            ..Options::new(self.cache(cache))
        }
    }

    /// For a store that keeps the lease once it has it.
    pub(crate) fn holding(&self, cache: &str) -> Options {
        let long = Duration::from_secs(600);
        Options {
            lease_idle: long,
            lease_share: long,
            lease_term: Duration::from_secs(60),
            ..self.options(cache)
        }
    }

    /// For one that waits until whoever has the lease has lost it.
    pub(crate) fn patient(&self, cache: &str) -> Options {
        Options { lease_wait: self.cloud.term() * 3, ..self.options(cache) }
    }

    /// A store on a direct client.
    pub(crate) async fn open(&self, options: Options) -> Result<DatabaseStore> {
        DatabaseStore::open(self.direct(), options).await
    }
}
