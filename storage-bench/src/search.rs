//! Full-text search: what an index costs those who append, and how long queries take.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use storage_agent::{AgentConfig, AgentStorage, ConversationStore, NewMessage, SearchMessages};
use storage_bench_harness::Result;
use storage_core::StorageBackend;
use storage_postgres::{PostgresBackend, PostgresConfig};
use storage_sqlite::{SqliteBackend, SqliteConfig};

use crate::{args::Search, table::Table};

/// How many different words there are; the n-th is said as often as 1/n.
const WORDS: usize = 50_000;
const SESSIONS: u64 = 1_000;
/// How many messages one commit brings while the store is filled.
const BATCH: u64 = 500;
/// How many single appends, and how many queries of a kind, are measured.
const APPENDS: usize = 1_000;
const QUERIES: usize = 200;
const SCHEMA: &str = "bench_search";

pub(crate) async fn run(run: &Search) -> Result<()> {
    let mut appends =
        Table::new(1, &["append", "with p50", "without p50", "with mean", "without mean", "ratio"]);
    let mut queries = Table::new(2, &["search", "query", "hits", "p50", "p99", "longest"]);
    if let Some(folder) = &run.sqlite {
        let folder = tempfile::tempdir_in(folder)?;
        let open = |name: &str| sqlite(folder.path(), name);
        measure("sqlite", run, [open("with.db")?, open("without.db")?], &mut appends, &mut queries).await?;
    }
    if let Some(url) = &run.postgres {
        let stores = [postgres(url, "with").await?, postgres(url, "without").await?];
        measure("postgres", run, stores, &mut appends, &mut queries).await?;
        for name in ["with", "without"] {
            dropped(url, name).await?;
        }
    }
    if queries.is_empty() {
        return Err("name a store: --sqlite or --postgres".into());
    }
    println!(
        "{} messages of 8 to 40 words in {SESSIONS} conversations\n\n{appends}\n{queries}",
        run.messages
    );
    Ok(())
}

fn sqlite(folder: &Path, name: &str) -> Result<Arc<dyn StorageBackend>> {
    Ok(Arc::new(SqliteBackend::new(SqliteConfig::new(folder.join(name)))?))
}

async fn postgres(url: &str, name: &str) -> Result<Arc<dyn StorageBackend>> {
    dropped(url, name).await?;
    let mut config = PostgresConfig::from_url(url)?;
    config.schema = Some(format!("{SCHEMA}_{name}"));
    config.operation_timeout = Duration::from_secs(120);
    Ok(Arc::new(PostgresBackend::new(config)?))
}

async fn dropped(url: &str, name: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA}_{name} CASCADE")).await?;
    Ok(())
}

async fn measure(
    store: &str,
    run: &Search,
    [with, without]: [Arc<dyn StorageBackend>; 2],
    appends: &mut Table,
    queries: &mut Table,
) -> Result<()> {
    let agent = |storage, search| {
        AgentStorage::with_config(storage, AgentConfig { search, ..AgentConfig::default() })
    };
    let (with, without) = (agent(with, true)?, agent(without, false)?);
    let bar = ProgressBar::new(2 * run.messages);
    for agent in [&with, &without] {
        agent.initialize().await?;
        fill(agent.conversations(), run.messages, &bar).await?;
    }
    bar.finish_and_clear();
    appended(store, [with.conversations(), without.conversations()], appends).await?;
    searched(store, with.conversations(), queries).await?;
    with.close().await?;
    without.close().await?;
    Ok(())
}

async fn fill(conversations: &ConversationStore, messages: u64, bar: &ProgressBar) -> Result<()> {
    let mut said = Speech::new(1);
    let mut written = 0;
    while written < messages {
        let batch = BATCH.min(messages - written);
        let all = (0..batch).map(|_| said.message()).collect();
        conversations.add_conversation_messages(&session(written / BATCH), all).await?;
        written += batch;
        bar.inc(batch);
    }
    Ok(())
}

fn session(number: u64) -> String {
    format!("session-{}", number % SESSIONS)
}

/// Appends to the two stores by turns, so that what else the machine does meets both.
async fn appended(store: &str, stores: [&ConversationStore; 2], table: &mut Table) -> Result<()> {
    let mut said = Speech::new(2);
    let mut sides = stores.map(|conversations| (conversations, Vec::new()));
    for number in 0..APPENDS {
        let message = said.message();
        for (conversations, times) in &mut sides {
            let begun = Instant::now();
            conversations.add_conversation_messages(&session(number as u64), vec![message.clone()]).await?;
            times.push(begun.elapsed());
        }
        sides.reverse();
    }
    let mean = |times: &[Duration]| times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap_or(1);
    let [with, without] = sides.map(|(_, times)| sorted(times));
    let [with_mean, without_mean] = [mean(&with), mean(&without)];
    table.line(vec![
        store.to_owned(),
        shown(percentile(&with, 50)),
        shown(percentile(&without, 50)),
        shown(with_mean),
        shown(without_mean),
        format!("{:.2}", with_mean.as_secs_f64() / without_mean.as_secs_f64()),
    ]);
    Ok(())
}

async fn searched(store: &str, conversations: &ConversationStore, table: &mut Table) -> Result<()> {
    let word = |rank: usize| format!("w{rank}");
    let mut random = fastrand::Rng::with_seed(3);
    for kind in [
        "a rare word",
        "two words",
        "a phrase",
        "a prefix",
        "a word of 1 in 20, in one session",
        "a word of 1 in 20",
    ] {
        let (mut times, mut hits) = (Vec::new(), 0);
        for _ in 0..QUERIES {
            let rare = random.usize(2_000..20_000);
            let search = match kind {
                "a rare word" => SearchMessages::new(word(rare)),
                "two words" => SearchMessages::new(format!(
                    "{} {}",
                    word(random.usize(20..200)),
                    word(random.usize(200..2_000))
                )),
                "a phrase" => SearchMessages::new(format!(
                    "\"{} {}\"",
                    word(random.usize(1..50)),
                    word(random.usize(50..500))
                )),
                "a prefix" => SearchMessages::new(format!("{}*", word(rare / 10 + 100))),
                "a word of 1 in 20" => SearchMessages::new(word(random.usize(40..50))),
                _ => SearchMessages {
                    sessions: vec![session(random.u64(..SESSIONS))],
                    ..SearchMessages::new(word(random.usize(40..50)))
                },
            };
            let begun = Instant::now();
            hits += conversations.search_messages(&search).await?.len();
            times.push(begun.elapsed());
        }
        let times = sorted(times);
        let hits = format!("{:.1}", hits as f64 / QUERIES as f64);
        let [p50, p99, longest] = [50, 99, 100].map(|part| shown(percentile(&times, part)));
        table.line(vec![store.to_owned(), kind.to_owned(), hits, p50, p99, longest]);
    }
    Ok(())
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort();
    times
}

fn percentile(sorted: &[Duration], part: usize) -> Duration {
    let place = (sorted.len() * part / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Messages whose words are as frequent as in speech (Zipf's law).
struct Speech {
    random: fastrand::Rng,
}

impl Speech {
    fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    fn message(&mut self) -> NewMessage {
        let words: Vec<String> = (0..self.random.usize(8..=40)).map(|_| self.word()).collect();
        NewMessage::new(if self.random.bool() { "user" } else { "assistant" }, words.join(" "))
    }

    /// The n-th word with a probability in proportion to 1/n: the logarithm of the rank is uniform.
    fn word(&mut self) -> String {
        let rank = (self.random.f64() * (WORDS as f64).ln()).exp();
        format!("w{}", rank as usize)
    }
}
