//! `storage managed`: what a managed database is asked and told beside its entries.

mod adopt;
mod hold;
mod log;
mod open;
mod repair;
mod rescue;
mod restore;
mod target;
mod unlock;
mod verify;
mod watched;

use indicatif::HumanBytes;
use serde_json::json;
use storage_factory::{Settings, new_managed_key};
use storage_managed::{Options, Status, home::Holder, rescued};

use self::open::with_database;
use crate::{
    args::Managed,
    failure::{DONE, Result},
    output::{Output, humane, table},
};

pub(super) async fn run(command: Managed, settings: &Settings, out: &mut Output) -> Result<u8> {
    match command {
        Managed::Adopt { file } => adopt::run(&file, settings, out).await,
        Managed::Status => status(settings, out).await,
        Managed::Unlock { yes } => unlock::run(yes, settings, out).await,
        Managed::Fold => fold(settings, out).await,
        Managed::Verify { holds } => verify::run(holds, settings, out).await,
        Managed::Repair { yes } => repair::run(yes, settings, out).await,
        Managed::Log { limit } => log::run(limit, settings, out).await,
        Managed::Restore { generation, at, hold, to } => {
            restore::run((generation, at, hold.as_deref()), &to, settings, out).await
        }
        Managed::Hold { command } => hold::run(command, settings, out).await,
        Managed::Genkey { id } => genkey(id, out),
        Managed::Rescue { command } => rescue::run(command, settings, out).await,
    }
}

async fn status(settings: &Settings, out: &mut Output) -> Result<u8> {
    let (status, holder, options, in_use) = with_database(settings, async |opened| {
        opened.store.ensure_fresh().await?;
        let (status, holder) = (opened.store.status(), opened.store.holder().await?);
        Ok((status, holder, opened.options.clone(), opened.has_own_cache))
    })
    .await?;
    let kept = rescued(&options.cache)?.len();
    let document = json!({
        "home": status.home,
        "cache": options.cache,
        "cache_in_use": in_use,
        "generation": status.generation,
        "commit": status.commit,
        "dirty": (!in_use).then_some(status.dirty),
        "unpublished_for_ms": status.unpublished_for.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX)),
        "lag_ms": status.lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        "bytes_sent": status.bytes_sent,
        "bytes_received": status.bytes_received,
        "lease": holder.as_ref().map(unlock::document),
        "rescued": kept,
        "last_error": status.last_error,
    });
    out.answer(&document, status_table(&status, holder.as_ref(), &options, in_use, kept))?;
    Ok(DONE)
}

fn status_table(
    status: &Status,
    holder: Option<&Holder>,
    options: &Options,
    in_use: bool,
    kept: usize,
) -> String {
    let generation = match status.generation {
        0 => "0, nothing is published yet".to_owned(),
        generation => generation.to_string(),
    };
    let cache =
        options.cache.display().to_string() + if in_use { " (in use by another process)" } else { "" };
    let mut rows = vec![
        ["home", &status.home].map(str::to_owned),
        ["generation".to_owned(), generation],
        ["commit".to_owned(), status.commit.clone().unwrap_or_else(|| "-".to_owned())],
        ["unpublished".to_owned(), if in_use { "its process knows".to_owned() } else { unpublished(status) }],
        ["lag".to_owned(), status.lag.map_or_else(|| "-".to_owned(), humane)],
        ["lease".to_owned(), holder.map_or_else(|| "-".to_owned(), unlock::described)],
        ["sent".to_owned(), HumanBytes(status.bytes_sent).to_string()],
        ["received".to_owned(), HumanBytes(status.bytes_received).to_string()],
        ["cache".to_owned(), cache],
        ["rescued".to_owned(), kept.to_string()],
    ];
    rows.extend(status.last_error.iter().map(|error| ["last error".to_owned(), error.clone()]));
    table(&rows)
}

fn unpublished(status: &Status) -> String {
    match (status.dirty, status.unpublished_for) {
        (false, _) => "no".to_owned(),
        (true, None) => "yes".to_owned(),
        (true, Some(window)) => format!("for {}", humane(window)),
    }
}

async fn fold(settings: &Settings, out: &mut Output) -> Result<u8> {
    let (folded, status) =
        with_database(settings, async |opened| Ok((opened.store.fold().await?, opened.store.status())))
            .await?;
    let document =
        json!({"folded": folded, "generation": status.generation, "bytes_sent": status.bytes_sent});
    let line = match folded {
        true => {
            format!("folded up to generation {}, {} sent", status.generation, HumanBytes(status.bytes_sent))
        }
        false => "nothing to fold".to_owned(),
    };
    out.answer(&document, line)?;
    Ok(DONE)
}

/// The key is shown this once, and kept nowhere.
fn genkey(id: Option<String>, out: &mut Output) -> Result<u8> {
    let id = id.unwrap_or_else(|| format!("k-{:08x}", fastrand::u32(..)));
    let key = new_managed_key(&id)?;
    out.answer(&json!({"id": id, "key": key}), &key)?;
    Ok(DONE)
}
