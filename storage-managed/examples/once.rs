//! A program that writes a batch to a managed database and ends, as a cron job or a function does:
//! `once HOME CACHE TEXT [NAME=VALUE]... [stay]`. With `stay` it keeps the lease and waits to be killed. The tests run it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a part of a test, which reads what is printed"
)]

use std::{sync::Arc, time::Duration};

use storage_managed::{
    DatabaseStore, Options,
    home::{Home, from_url},
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, cache, text, rest @ ..] = args.as_slice() else { panic!("once HOME CACHE TEXT ...") };
    let stays = rest.last().is_some_and(|word| word == "stay");
    let variable = |name: &str| rest.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let home: Arc<dyn Home> = from_url(url, &|name| variable(name).map(str::to_owned)).unwrap().into();
    let mut options = Options::new(cache);
    if stays {
        options.lease_idle = Duration::from_secs(600);
    }
    let store = DatabaseStore::open(home, options).await.unwrap();
    let text = text.clone();
    let batch = move |db: &rusqlite::Connection| {
        db.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT)")?;
        db.execute("INSERT INTO t (body) VALUES (?1), (?1)", [text]).map(drop)
    };
    store.for_write(batch).await.unwrap();
    println!("ok");
    if stays {
        std::future::pending::<()>().await;
    }
    store.close().await.unwrap();
}
