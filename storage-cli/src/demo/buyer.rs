//! The buyer's side of the day.

use futures::StreamExt;
use serde_json::Value;
use storage_core::{Scan, StorageExt, domain::AdBuyer};

use super::{
    narrator::Narrator,
    sample::{Sample, field},
    storage::{Storage, promise},
};
use crate::{
    failure::Result,
    line::export_line,
    output::{counted, table},
};

pub(super) async fn campaign(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    narrator.step(
        "The buyer plans a campaign",
        "set_campaign and get_campaign are typed helpers over set and get.",
    )?;
    let id = sample.id("spring");
    storage.set_campaign(&id, sample.one("campaign", "spring")).await?;
    let campaign: Value = storage.get_campaign(&id).await?.unwrap_or_default();
    narrator.say(format_args!(
        "{} for {}: ${}",
        field(&campaign, "name"),
        field(&campaign, "advertiser"),
        field(&campaign, "budget_usd")
    ))
}

pub(super) async fn deals(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    narrator.step("Deals", "Keys are listed by a glob and in byte order, entries also by their fields.")?;
    for (id, deal) in sample.all("deal") {
        storage.set_deal(id, deal).await?;
    }
    let pattern = format!("deal:{}*", sample.id("trail-"));
    let keys = storage.keys(&pattern).await?;
    promise(keys.len() == 3 && keys.is_sorted(), "a glob lists exactly, in byte order")?;
    narrator.say(format_args!("storage keys '{pattern}'\n  {}", keys.join("\n  ")))?;

    let active = Scan::entries(&format!("deal:{}*", sample.id("")))?.filter("status", "active");
    let active = storage.collect::<Value>(active).await?;
    let mut rows = vec![["ACTIVE DEAL", "TYPE", "CPM"].map(str::to_owned)];
    rows.extend(
        active.iter().map(|(key, deal)| {
            [key.clone(), field(deal, "deal_type"), format!("${}", field(deal, "cpm_usd"))]
        }),
    );
    promise(rows.len() == 3, "a listing filters exactly")?;
    narrator.say(table(&rows))
}

pub(super) async fn evening(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    narrator.step(
        "In the evening the buyer learns",
        "Conversions, experiments and decisions by campaign or deal.",
    )?;
    for (id, conversion) in sample.all("conversion") {
        storage.set_conversion(id, conversion).await?;
    }
    for (id, experiment) in sample.all("experiment") {
        storage.set_experiment(id, experiment).await?;
    }
    for (hash, score) in sample.all("supply_path") {
        storage.set_supply_path_score(hash, score).await?;
    }
    let (campaign, deal) = (sample.id("spring"), sample.id("trail-video"));
    let of_deal = storage.list_conversions::<Value>(Some(&deal), Some(&campaign)).await?;
    narrator.say(format_args!("{deal}: {}", counted(of_deal.len() as u64, "conversion", "conversions")))?;
    for experiment in &*storage.list_experiments::<Value>(Some(&campaign), Some("running")).await? {
        narrator.say(format_args!("running: {}?", field(experiment, "question")))?;
    }
    for (id, decision) in sample.all("opt_decision") {
        storage.set_optimization_decision(id, decision).await?;
        narrator.say(format_args!(
            "decided: {}, because {}",
            field(decision, "action"),
            field(decision, "reason")
        ))?;
    }
    for (id, snapshot) in sample.all("pacing") {
        storage.set_pacing_snapshot(id, snapshot).await?;
        narrator.say(format_args!("pacing: {}", field(snapshot, "status")))?;
    }
    Ok(())
}

pub(super) async fn export(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    narrator
        .step("Taking it along", "An export is a line of JSON for each entry; any other store imports it.")?;
    for kind in ["order", "quote"] {
        let pattern = format!("{kind}:{}*", sample.id(""));
        narrator.say(format_args!("storage export '{pattern}'"))?;
        let mut records = storage.scan(Scan::entries(&pattern)?.with_expiry());
        while let Some(record) = records.next().await {
            narrator.say(export_line(&record?).unwrap_or_default())?;
        }
    }
    Ok(())
}
