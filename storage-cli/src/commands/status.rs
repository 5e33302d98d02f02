//! Commands on the store itself.

use std::time::{Duration, Instant};

use futures::join;
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;
use storage_core::{Health, HealthStatus, Stats, StoreHealth};
use storage_factory::{Settings, StorageType, connect_existing, get_storage_backend, storage_type};

use crate::{
    failure::{DONE, NO, Result, one_line},
    output::{Output, counted, humane, table},
    store::{goodbye, with_store},
};

/// A store that cannot be opened, or is not there, is unhealthy and not a failure of the command; settings that name none
/// are one, unless only `ready` is asked.
pub(super) async fn health(ready: bool, settings: &Settings, out: &mut Output) -> Result<u8> {
    let name = match get_storage_backend(settings) {
        Ok(storage) => storage.name(),
        Err(_) if ready => "settings",
        Err(error) => return Err(error.into()),
    };
    // A hybrid connects to both or neither, and one of them may be well.
    let health = match storage_type(settings) {
        Ok(StorageType::Hybrid) => {
            let (durable, ephemeral) = (alone("postgres", settings)?, alone("redis", settings)?);
            let (mut durable, ephemeral) = join!(look("postgres", &durable), look("redis", &ephemeral));
            durable.stores.extend(ephemeral.stores);
            durable
        }
        _ => look(name, settings).await,
    };
    if ready { tell_readiness(&health, out) } else { tell_health(name, &health, out) }
}

/// The settings of one of a hybrid's stores.
fn alone(name: &str, settings: &Settings) -> Result<Settings> {
    Ok(settings.clone().with("STORAGE_TYPE", name)?)
}

/// The health of a store; it is connected to and closed.
async fn look(name: &str, settings: &Settings) -> Health {
    let start = Instant::now();
    match connect_existing(settings).await {
        Ok(storage) => {
            let health = storage.health().await;
            let _ = if health.reads() && health.writes() {
                storage.disconnect().await
            } else {
                goodbye(&*storage).await
            };
            health
        }
        Err(error) => {
            let store = error.backend().unwrap_or(name);
            Health { stores: vec![StoreHealth::failed(store, start.elapsed(), &error)] }
        }
    }
}

fn tell_health(name: &str, health: &Health, out: &mut Output) -> Result<u8> {
    let status = health.status();
    let stores: Vec<_> = health.stores.iter().map(store_document).collect();
    let document = json!({"status": status, "backend": name, "stores": stores});
    out.answer(&document, health_table(health))?;
    Ok(if status == HealthStatus::Healthy { DONE } else { NO })
}

/// One line, for what decides whether to send work here.
fn tell_readiness(health: &Health, out: &mut Output) -> Result<u8> {
    let failing = health.stores.iter().filter_map(|store| Some((store, store.write_error.as_deref()?)));
    let reasons: Vec<_> =
        failing.map(|(store, error)| format!("{}: {}", store.store, one_line(error))).collect();
    let ready = reasons.is_empty();
    let line = if ready { "ready".to_owned() } else { format!("not ready: {}", reasons.join("; ")) };
    out.answer(&json!({"ready": ready, "reason": (!ready).then(|| reasons.join("; "))}), line)?;
    Ok(if ready { DONE } else { NO })
}

fn store_document(store: &StoreHealth) -> serde_json::Value {
    json!({
        "store": store.store,
        "latency_ms": millis(store.latency),
        "reads": store.reads(),
        "writes": store.writes(),
        "read_error": store.read_error.as_deref().map(one_line),
        "write_error": store.write_error.as_deref().map(one_line),
        "behind_ms": store.behind.map(millis),
    })
}

/// What works, and below it why the rest does not.
fn health_table(health: &Health) -> String {
    let mut rows = vec![["STORE", "READS", "WRITES", "TIME", "BEHIND"].map(str::to_owned)];
    rows.extend(health.stores.iter().map(|store| {
        let works = |works: bool| if works { "yes" } else { "no" }.to_owned();
        let behind = store.behind.map_or_else(|| "-".to_owned(), humane);
        let time = format!("{:.1}ms", millis(store.latency));
        [store.store.clone(), works(store.reads()), works(store.writes()), time, behind]
    }));
    let mut shown = format!("{}\n{}", health.status().as_str(), table(&rows));
    for store in &health.stores {
        for (what, why) in problems(store) {
            shown.push_str(&format!("\n{}: {what}: {}", store.store, one_line(why)));
        }
    }
    shown
}

/// What does not work and why; what is wrong with both is said once.
fn problems(store: &StoreHealth) -> Vec<(&'static str, &str)> {
    match (store.read_error.as_deref(), store.write_error.as_deref()) {
        (Some(read), Some(write)) if read == write => vec![("reads and writes", read)],
        (read, write) => {
            read.map(|why| ("reads", why)).into_iter().chain(write.map(|why| ("writes", why))).collect()
        }
    }
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
