//! Resolved settings: every text looked into, before any backend is built.

use std::{path::PathBuf, str::FromStr, time::Duration};

use storage_core::{
    DEFAULT_MAX_VALUE_BYTES, DEFAULT_OPERATION_TIMEOUT, Error, Result, SweepConfig, check_timeout,
};

use crate::{
    Settings,
    url::{Named, is_managed, is_postgres, lowered, named},
};

/// The file of a storage that was told nothing else.
pub(crate) const DEFAULT_DATABASE_URL: &str = "sqlite:///./ad_buyer.db";

/// Of a managed database: a write waits for half of it for somebody else's lease, which a killed process keeps for 15 s.
const MANAGED_TIMEOUT: Duration = Duration::from_secs(40);
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// Everything but the type and the URLs. Parsed whole for every type, so that a mistake shows at once and not on the day
/// that the type changes.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "a lean build does not look at the settings of the backends that it leaves out")]
pub(crate) struct Options {
    pub(crate) operation_timeout: Duration,
    pub(crate) max_value_bytes: usize,
    pub(crate) sweep: Option<SweepConfig>,
    pub(crate) redis_namespace: Option<String>,
    pub(crate) redis_connections: Option<u32>,
    pub(crate) redis_tls_ca: Option<PathBuf>,
    pub(crate) redis_tls_verify: Option<Verify>,
    pub(crate) postgres_pool_min: Option<u32>,
    pub(crate) postgres_pool_max: Option<u32>,
    pub(crate) postgres_schema: Option<String>,
    pub(crate) postgres_pooler: Option<bool>,
    pub(crate) postgres_tls_ca: Option<PathBuf>,
    pub(crate) postgres_tls_verify: Option<Verify>,
    pub(crate) postgres_read_url: Option<String>,
    pub(crate) postgres_read_staleness: Option<Duration>,
    pub(crate) ephemeral_prefixes: Vec<String>,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) freshness: Option<Duration>,
    pub(crate) managed_retention: Option<Duration>,
    pub(crate) publish_every: Option<Duration>,
    pub(crate) check_every: Option<Duration>,
    pub(crate) lease_term: Option<Duration>,
    pub(crate) lease_wait: Option<Duration>,
    pub(crate) lease_idle: Option<Duration>,
    pub(crate) lease_share: Option<Duration>,
    pub(crate) cache_wait: Option<Duration>,
    pub(crate) fold_share: Option<f64>,
    /// Whether connecting makes what is not there; no setting, for who may make a store knows it.
    pub(crate) create: bool,
}

/// What is verified of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    Full,
    None,
}

impl Options {
    pub(crate) fn parse(settings: &Settings) -> Result<Self> {
        let text = |name| settings.get(name).map(str::to_owned);
        Ok(Self {
            operation_timeout: operation_timeout(settings)?,
            max_value_bytes: max_value_bytes(settings)?,
            sweep: sweep(settings)?,
            redis_namespace: text("REDIS_NAMESPACE"),
            redis_connections: count(settings, "REDIS_CONNECTIONS", 1..=64)?,
            redis_tls_ca: settings.get("REDIS_TLS_CA").map(PathBuf::from),
            redis_tls_verify: verify(settings, "REDIS_TLS_VERIFY")?,
            postgres_pool_min: count(settings, "POSTGRES_POOL_MIN", 0..=1_000)?,
            postgres_pool_max: count(settings, "POSTGRES_POOL_MAX", 1..=1_000)?,
            postgres_schema: text("POSTGRES_SCHEMA"),
            postgres_pooler: flag(settings, "POSTGRES_POOLER")?,
            postgres_tls_ca: settings.get("POSTGRES_TLS_CA").map(PathBuf::from),
            postgres_tls_verify: verify(settings, "POSTGRES_TLS_VERIFY")?,
            postgres_read_url: read_url(settings)?,
            postgres_read_staleness: duration_that_may_be_zero(settings, "POSTGRES_READ_STALENESS")?,
            ephemeral_prefixes: list(settings, "STORAGE_EPHEMERAL_PREFIXES"),
            cache_dir: settings.get("STORAGE_CACHE_DIR").map(PathBuf::from),
            freshness: duration_that_may_be_zero(settings, "STORAGE_FRESHNESS")?,
            managed_retention: long_time(settings, "STORAGE_MANAGED_RETENTION")?,
            check_every: long_time(settings, "STORAGE_MANAGED_CHECK_EVERY")?,
            publish_every: publish_every(settings)?,
            lease_term: lease_term(settings)?,
            lease_wait: lease_wait(settings)?,
            lease_idle: duration_that_may_be_zero(settings, "STORAGE_LEASE_IDLE")?,
            lease_share: duration_that_may_be_zero(settings, "STORAGE_LEASE_SHARE")?,
            cache_wait: duration_that_may_be_zero(settings, "STORAGE_CACHE_WAIT")?,
            fold_share: fold_share(settings)?,
            create: true,
        })
    }
}

fn operation_timeout(settings: &Settings) -> Result<Duration> {
    let name = "STORAGE_OPERATION_TIMEOUT";
    match settings.get(name) {
        None if settings.get("DATABASE_URL").is_some_and(is_managed) => Ok(MANAGED_TIMEOUT),
        None => Ok(DEFAULT_OPERATION_TIMEOUT),
        Some(text) => duration(name, text),
    }
}

fn max_value_bytes(settings: &Settings) -> Result<usize> {
    let most = 128 * 1024 * 1024;
    let bytes = number::<usize>(settings, "STORAGE_MAX_VALUE_BYTES")?.unwrap_or(DEFAULT_MAX_VALUE_BYTES);
    if (1..=most).contains(&bytes) {
        return Ok(bytes);
    }
    // Postgres keeps no larger element in a JSONB; a limit of one store is a limit of all.
    Err(malformed("STORAGE_MAX_VALUE_BYTES", &format!("a number from 1 to {most}")))
}

fn sweep(settings: &Settings) -> Result<Option<SweepConfig>> {
    let name = "STORAGE_SWEEP_INTERVAL";
    match settings.get(name) {
        None => Ok(Some(SweepConfig::default())),
        Some(text) if text.eq_ignore_ascii_case("off") => Ok(None),
        Some(text) => Ok(Some(SweepConfig { interval: duration(name, text)?, ..SweepConfig::default() })),
    }
}

fn duration_that_may_be_zero(settings: &Settings, name: &str) -> Result<Option<Duration>> {
    let Some(text) = settings.get(name) else { return Ok(None) };
    let duration = humantime::parse_duration(text);
    let duration =
        duration.map_err(|_| malformed(name, "a duration with its unit, such as 0s, 500ms or 5s"))?;
    check_timeout(name, duration)?;
    Ok(Some(duration))
}

/// Not a time to wait: days and months are what people want here.
fn long_time(settings: &Settings, name: &str) -> Result<Option<Duration>> {
    let Some(text) = settings.get(name) else { return Ok(None) };
    let most = Duration::from_secs(10 * 366 * 24 * 60 * 60);
    match humantime::parse_duration(text) {
        Ok(retention) if retention <= most => Ok(Some(retention)),
        _ => Err(malformed(name, "a duration with its unit, such as 10m, 24h or 30d, of ten years at most")),
    }
}

/// How often what is acknowledged here is published; `None` where the home acknowledges.
fn publish_every(settings: &Settings) -> Result<Option<Duration>> {
    let (ack, every) = ("STORAGE_MANAGED_ACK", "STORAGE_MANAGED_PUBLISH_EVERY");
    let interval = duration_that_may_be_zero(settings, every)?;
    match settings.get(ack).map(str::to_ascii_lowercase).as_deref() {
        Some("local") => Ok(Some(interval.unwrap_or(PUBLISH_EVERY))),
        None | Some("home") if interval.is_none() => Ok(None),
        None | Some("home") => Err(Error::config(format!("{every} is of no use without {ack}=local"))),
        Some(_) => Err(malformed(ack, "home or local")),
    }
}

/// Azure leases for 15 to 60 s; on S3 whole seconds are told.
fn lease_term(settings: &Settings) -> Result<Option<Duration>> {
    let name = "STORAGE_LEASE_TERM";
    let Some(text) = settings.get(name) else { return Ok(None) };
    match humantime::parse_duration(text) {
        Ok(term) if (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&term) => Ok(Some(term)),
        _ => Err(malformed(name, "a duration from 1s to 60s with its unit, such as 15s")),
    }
}

/// Whoever waits for the lease is told so, before the operation as a whole is given up.
fn lease_wait(settings: &Settings) -> Result<Option<Duration>> {
    let name = "STORAGE_LEASE_WAIT";
    let Some(wait) = duration_that_may_be_zero(settings, name)? else { return Ok(None) };
    let timeout = operation_timeout(settings)?;
    if wait < timeout || !settings.get("DATABASE_URL").is_some_and(is_managed) {
        return Ok(Some(wait));
    }
    let timeout = humantime::format_duration(timeout);
    Err(malformed(name, &format!("less than STORAGE_OPERATION_TIMEOUT, which is {timeout}")))
}

fn fold_share(settings: &Settings) -> Result<Option<f64>> {
    let name = "STORAGE_MANAGED_FOLD_SHARE";
    match settings.get(name).map(str::parse) {
        None => Ok(None),
        Some(Ok(share)) if (0.1..=100.0).contains(&share) => Ok(Some(share)),
        Some(_) => Err(malformed(name, "a number from 0.1 to 100")),
    }
}

fn verify(settings: &Settings, name: &str) -> Result<Option<Verify>> {
    match settings.get(name).map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("full") => Ok(Some(Verify::Full)),
        Some("none") => Ok(Some(Verify::None)),
        Some(_) => Err(malformed(name, "full or none")),
    }
}

fn read_url(settings: &Settings) -> Result<Option<String>> {
    let name = "POSTGRES_READ_URL";
    match settings.get(name).map(|url| (url, named(url))) {
        None => Ok(None),
        Some((url, Named::Scheme(scheme))) if is_postgres(&scheme) => Ok(Some(lowered(url))),
        Some((url, Named::Libpq)) => Ok(Some(url.to_owned())),
        Some(_) => {
            Err(malformed(name, "a Postgres URL, such as postgresql://user:password@standby/database"))
        }
    }
}

fn duration(name: &str, text: &str) -> Result<Duration> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => check_timeout(name, duration).map(|()| duration),
        _ => Err(malformed(name, "a duration with its unit, such as 500ms, 5s or 2m")),
    }
}

fn count(settings: &Settings, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>> {
    match number::<u32>(settings, name)? {
        Some(count) if !range.contains(&count) => {
            Err(malformed(name, &format!("a number from {} to {}", range.start(), range.end())))
        }
        count => Ok(count),
    }
}

fn number<T: FromStr>(settings: &Settings, name: &str) -> Result<Option<T>> {
    let parsed = settings.get(name).map(str::parse);
    parsed.transpose().map_err(|_| malformed(name, "a whole number"))
}

fn flag(settings: &Settings, name: &str) -> Result<Option<bool>> {
    match settings.get(name).map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("false" | "0" | "no" | "off") => Ok(Some(false)),
        Some("true" | "1" | "yes" | "on") => Ok(Some(true)),
        Some(_) => Err(malformed(name, "true or false")),
    }
}

fn list(settings: &Settings, name: &str) -> Vec<String> {
    let items = settings.get(name).unwrap_or_default().split(',');
    items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn malformed(name: &str, expected: &str) -> Error {
    Error::config(format!("{name} must be {expected}"))
}
