//! The seller's side of the day.

use std::time::Duration;

use serde_json::{Value, json};
use storage_core::{
    Change, Expiry, Json, StorageExt,
    domain::{AdBuyer, AdSeller},
};

use super::{
    narrator::Narrator,
    sample::{Sample, field},
    storage::{Storage, promise},
};
use crate::{
    failure::Result,
    output::{counted, humane, table},
};

/// How long the flash quote stays.
const FLASH: Duration = Duration::from_millis(1_200);

pub(super) async fn catalogue(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    narrator.step(
        "The seller opens the shop",
        "Each entry is JSON under a key such as product:{id}; no schema to set up.",
    )?;
    let mut rows = vec![["PRODUCT", "FORMAT", "FLOOR CPM"].map(str::to_owned)];
    for (id, product) in sample.all("product") {
        storage.set_product(id, product).await?;
        rows.push([
            field(product, "name"),
            field(product, "format"),
            format!("${}", field(product, "floor_cpm_usd")),
        ]);
    }
    for (id, package) in sample.all("package") {
        storage.set_package(id, package).await?;
    }
    for (id, kit) in sample.all("media_kit") {
        storage.set_media_kit(id, kit).await?;
    }
    narrator.say(table(&rows))?;
    let kit: Option<Value> = storage.get_media_kit(&sample.id("summit-media")).await?;
    promise(
        kit.as_ref() == Some(sample.one("media_kit", "summit-media")),
        "what is written is what is read",
    )?;
    narrator.say("and a package, and a media kit, read back as it was written")
}

pub(super) async fn quotes(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    narrator
        .step("Quotes that expire", "Value and expiry are written in one step; nobody has to clean up.")?;
    let (day, flash) = (sample.id("q-day"), sample.id("q-flash"));
    storage.set_quote(&day, sample.one("quote", "q-day")).await?;
    storage.set_quote_with_ttl(&flash, sample.one("quote", "q-flash"), FLASH).await?;
    let product = sample.id("prime-ctv");
    let open = storage.list_quotes::<Value>(Some("open"), Some(&product)).await?;
    narrator.say(format_args!("open for {product}: {}", counted(open.len() as u64, "quote", "quotes")))?;
    if let Some(Expiry::After(left)) = storage.ttl(&format!("quote:{day}")).await? {
        narrator.say(format_args!("{day} stays {}, {flash} {}", humane(left), humane(FLASH)))?;
    }
    tokio::time::sleep(FLASH + Duration::from_millis(100)).await;
    let gone = storage.get_quote::<Value>(&flash).await?;
    promise(gone.is_none(), "an expired entry is gone at once")?;
    let open = storage.list_quotes::<Value>(Some("open"), Some(&product)).await?;
    promise(open.len() == 1, "an expired entry is in no listing")?;
    narrator.say(format_args!(
        "a moment later {flash} is gone; open: {}",
        counted(open.len() as u64, "quote", "quotes")
    ))
}

pub(super) async fn negotiation(
    storage: &Storage,
    sample: &Sample,
    narrator: &mut Narrator<'_>,
) -> Result<()> {
    narrator.step(
        "A negotiation",
        "update reads, changes and writes only if nobody wrote in between, else it tries again.",
    )?;
    let proposal = sample.id("p-1");
    storage.set_proposal(&proposal, sample.one("proposal", "p-1")).await?;
    storage.set_negotiation(&proposal, sample.one("negotiation", "p-1")).await?;
    let key = format!("negotiation:{proposal}");
    for (by, cpm) in [("buyer", 24.5), ("seller", 26.5), ("buyer", 26.0)] {
        storage.update(&key, None, |found| with_round(found, by, cpm)).await?;
    }
    let history: Value = storage.get_negotiation(&proposal).await?.unwrap_or_default();
    let rounds: Vec<Value> = history.get("rounds").and_then(Value::as_array).cloned().unwrap_or_default();
    promise(rounds.len() == 4, "no round of the negotiation is lost")?;
    let offers: Vec<String> =
        rounds.iter().map(|round| format!("{} ${}", field(round, "by"), field(round, "cpm_usd"))).collect();
    narrator.say(offers.join("  ->  "))
}

fn with_round(found: Option<&Json>, by: &str, cpm: f64) -> storage_core::Result<Change> {
    let mut history: Value = found.map_or_else(|| Ok(Value::Null), Json::decode)?;
    if let Some(rounds) = history.get_mut("rounds").and_then(Value::as_array_mut) {
        rounds.push(json!({"by": by, "cpm_usd": cpm}));
    }
    Ok(Change::Set(Json::from_serialize(&history)?))
}

pub(super) async fn change_requests(
    storage: &Storage,
    sample: &Sample,
    narrator: &mut Narrator<'_>,
) -> Result<()> {
    narrator
        .step("Change requests", "A listing filters by fields in the store itself, in one round trip.")?;
    for (id, request) in sample.all("change_request") {
        storage.set_change_request(id, request).await?;
    }
    for (id, agent) in sample.all("agent") {
        storage.set_agent(id, agent).await?;
    }
    let order = sample.id("o-1");
    let pending = storage.list_change_requests::<Value>(Some(&order), Some("pending")).await?;
    promise(pending.len() == 1, "a listing filters exactly")?;
    for request in &*pending {
        narrator.say(format_args!("pending for {order}: {}", field(request, "change")))?;
    }
    Ok(())
}
