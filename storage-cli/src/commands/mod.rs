//! One function for each command. Each answers with an exit code, or with why it failed.

mod completions;
mod entry;
mod export;
mod history;
mod import;
mod init;
mod keys;
mod managed;
mod memory;
mod retention;
mod search;
mod sessions;
mod status;
mod threads;
mod users;
mod value;

use storage_core::Entry;

use crate::{
    args::{Cli, Command},
    demo,
    failure::Result,
    output::Output,
    store,
};

/// Runs the command that stands on the command line.
pub(crate) async fn run(cli: Cli, out: &mut Output) -> Result<u8> {
    // Not before a command needs them: a broken `.env` is no matter of completions.
    let settings = || store::settings(&cli.global).map(store::beside_an_agent);
    match cli.command {
        Command::Get { key } => entry::get(&key, &settings()?, out).await,
        Command::Set { key, value, ttl, if_absent } => {
            let settings = settings()?;
            let value = value::read(&value, store::max_value_bytes(&settings))?;
            entry::set(Entry { key, value, ttl }, if_absent, &settings, out).await
        }
        Command::Delete { keys } => entry::delete(&keys, &settings()?, out).await,
        Command::Exists { key } => entry::exists(&key, &settings()?, out).await,
        Command::Keys { pattern, null } => keys::run(&pattern, null, &settings()?, out).await,
        Command::Ttl { key } => entry::ttl(&key, &settings()?, out).await,
        Command::Increment { key, by, ttl } => entry::increment(&key, by, ttl, &settings()?, out).await,
        Command::Export(export) => export::run(export, &settings()?, out).await,
        Command::Import { file, skip, replace } => import::run(&file, skip, replace, &settings()?, out).await,
        Command::Init => init::run(&settings()?, out).await,
        Command::Health { ready } => status::health(ready, &settings()?, out).await,
        Command::Stats => status::stats(&settings()?, out).await,
        Command::Cleanup => status::cleanup(&settings()?, out).await,
        Command::Sessions { command } => sessions::run(command, &settings()?, out).await,
        Command::Retention { policy, dry_run } => {
            retention::run(policy.as_deref(), dry_run, &settings()?, out).await
        }
        Command::Users { command } => users::run(command, &settings()?, out).await,
        Command::History { session, which } => history::run(&session, which, &settings()?, out).await,
        Command::Search(finding) => search::run(finding, &settings()?, out).await,
        Command::Threads { command } => threads::run(command, &settings()?, out).await,
        Command::Memory { command } => memory::run(command, &settings()?, out).await,
        Command::Managed { cache, command } => {
            let settings = store::with_cache(store::settings(&cli.global)?, cache.as_deref())?;
            managed::run(command, &settings, out).await
        }
        Command::Demo => demo::run(settings()?, out).await,
        Command::Completions { shell } => completions::run(shell, out),
    }
}
