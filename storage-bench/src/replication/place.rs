//! Where a replica lies: a folder, or a bucket behind a proxy that counts.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use storage_bench_harness::Result;
use storage_managed::home::{FolderHome, Home, S3Home};
use storage_tests::{Moto, Proxy};

const PREFIX: &str = "agent";
/// The credentials that moto takes: any.
const KEY: &str = "bench";
pub(super) enum Place {
    Folder(PathBuf),
    Bucket { proxy: Proxy, moto: Box<Moto> },
}

/// Of a folder what is in it, of a bucket what went there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    /// Objects or requests.
    pub(super) count: u64,
}

impl Place {
    /// An empty bucket, on a server of its own.
    pub(super) fn bucket() -> Result<Self> {
        let moto = Box::new(Moto::start()?);
        Ok(Self::Bucket { proxy: Proxy::start(moto.port())?, moto })
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Bucket { .. } => "S3",
        }
    }

    /// As a home of ours.
    pub(super) fn home(&self) -> Result<Arc<dyn Home>> {
        let (proxy, moto) = match self {
            Self::Folder(folder) => return Ok(Arc::new(FolderHome::new(folder))),
            Self::Bucket { proxy, moto } => (proxy, moto),
        };
        let variable = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some(KEY.to_owned()),
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ENDPOINT_URL" => Some(endpoint(proxy)),
            _ => None,
        };
        Ok(Arc::new(S3Home::new(moto.bucket(), PREFIX, &variable)?))
    }

    /// Litestream's configuration. It looks at the database as often as it sends: both are 1 s unless told otherwise.
    pub(super) fn config(&self, database: &Path, interval: Duration) -> String {
        let millis = interval.as_millis();
        let replica = match self {
            Self::Folder(folder) => format!("type: file\n      path: {}", folder.display()),
            Self::Bucket { proxy, moto } => {
                let (endpoint, bucket) = (endpoint(proxy), moto.bucket());
                let mut text = format!("type: s3\n      bucket: {bucket}\n      path: {PREFIX}");
                let _ = write!(text, "\n      endpoint: {endpoint}\n      region: us-east-1");
                let _ = write!(text, "\n      force-path-style: true\n      access-key-id: {KEY}");
                text + &format!("\n      secret-access-key: {KEY}")
            }
        };
        format!(
            "dbs:\n  - path: {}\n    monitor-interval: {millis}ms\n    replica:\n      {replica}\n      sync-interval: {millis}ms\n",
            database.display()
        )
    }

    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Folder(folder) => stored(folder),
            Self::Bucket { proxy, .. } => proxy.seen().iter().fold(Traffic::default(), |sum, seen| Traffic {
                bytes: sum.bytes + seen.sent as u64,
                count: sum.count + 1,
            }),
        }
    }

    /// What Litestream has put into a level last: its names sort by the transactions that they are of.
    pub(super) fn newest(&self, level: u32) -> Option<String> {
        match self {
            Self::Folder(folder) => {
                let entries = std::fs::read_dir(folder.join(format!("ltx/{level}"))).ok()?.flatten();
                let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
                names.filter(|name| name.ends_with(".ltx")).max()
            }
            Self::Bucket { proxy, .. } => {
                let puts =
                    proxy.seen().into_iter().filter(|seen| seen.method == "PUT" && seen.status == Some(200));
                puts.map(|seen| seen.path).filter(|path| path.contains(&format!("/{level:04}/"))).max()
            }
        }
    }
}

fn endpoint(proxy: &Proxy) -> String {
    format!("http://127.0.0.1:{}", proxy.port())
}

fn stored(folder: &Path) -> Traffic {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.fold(Traffic::default(), |sum, entry| {
        // What was removed meanwhile is not there.
        let found = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => stored(&entry.path()),
            Ok(metadata) => Traffic { bytes: metadata.len(), count: 1 },
            Err(_) => Traffic::default(),
        };
        Traffic { bytes: sum.bytes + found.bytes, count: sum.count + found.count }
    })
}
