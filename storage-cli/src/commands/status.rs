//! Commands on the store itself.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;
use storage_core::{ErrorKind, Health, HealthStatus, Stats, StoreHealth};
use storage_factory::{Settings, get_storage_backend};

use crate::{
    failure::{DONE, NO, Result},
    output::{Output, counted, table},
    store::with_store,
};

/// A store that cannot even be opened is unhealthy, not a failure of the command.
pub(super) async fn health(settings: &Settings, out: &mut Output) -> Result<u8> {
    let storage = get_storage_backend(settings)?;
    let start = Instant::now();
    let health = match storage.connect().await {
        Ok(()) => storage.health().await,
        Err(error) if error.kind() == ErrorKind::Config => return Err(error.into()),
        Err(error) => Health {
            stores: vec![StoreHealth::new(
                error.backend().unwrap_or(storage.name()),
                start.elapsed(),
                Some(&error),
            )],
        },
    };
    let _ = storage.disconnect().await;
    let status = health.status();
    let stores: Vec<_> = health.stores.iter().map(store_document).collect();
    let document = json!({"status": status, "backend": storage.name(), "stores": stores});
    out.answer(&document, health_table(&health))?;
    Ok(if status == HealthStatus::Healthy { DONE } else { NO })
}

fn store_document(store: &StoreHealth) -> serde_json::Value {
    json!({"store": store.store, "latency_ms": millis(store.latency), "error": store.error})
}

fn health_table(health: &Health) -> String {
    let mut rows = vec![["STORE", "TIME", "ANSWER"].map(str::to_owned)];
    rows.extend(health.stores.iter().map(|store| {
        let answer = store.error.as_deref().unwrap_or("healthy");
        [store.store.clone(), format!("{:.1} ms", millis(store.latency)), answer.to_owned()]
    }));
    format!("{}\n{}", health.status().as_str(), table(&rows))
}

fn millis(latency: Duration) -> f64 {
    (latency.as_secs_f64() * 1e6).round() / 1e3
}

pub(super) async fn stats(settings: &Settings, out: &mut Output) -> Result<u8> {
    let stats = with_store(settings, async |storage| Ok(storage.stats().await?)).await?;
    out.answer(&stats, stats_table(&stats))?;
    Ok(DONE)
}

fn stats_table(stats: &Stats) -> String {
    let unknown = || "unknown".to_owned();
    let mut rows = vec![
        ["backend".to_owned(), stats.backend.clone()],
        ["entries".to_owned(), stats.entries.map_or_else(unknown, |count| HumanCount(count).to_string())],
        ["size".to_owned(), stats.bytes.map_or_else(unknown, |bytes| HumanBytes(bytes).to_string())],
    ];
    rows.extend(stats.details.iter().map(|(name, text)| [name.clone(), text.clone()]));
    table(&rows)
}

pub(super) async fn cleanup(settings: &Settings, out: &mut Output) -> Result<u8> {
    let removed = with_store(settings, async |storage| Ok(storage.cleanup().await?)).await?;
    let entries = counted(removed, "expired entry", "expired entries");
    out.answer(&json!({"removed": removed}), format_args!("removed {entries}"))?;
    Ok(DONE)
}
