//! Keys, values and small calls that the cases share.

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use serde_json::{Value, json};
use storage_core::{Error, Json, Record, Scan, StorageBackend, StorageExt};

pub(crate) type Backend = Arc<dyn StorageBackend>;

/// A value from a literal.
pub(crate) fn value(of: &Value) -> Json {
    Json::from_serialize(of).expect("a sample can be stored")
}

/// A value that names its number.
pub(crate) fn numbered(number: usize) -> Json {
    value(&json!({"n": number}))
}

/// Keys that trip naive ports: wildcards of three grammars, quotes, case, control characters, other scripts, and the
/// longest one. In no particular order.
pub(crate) fn adversarial_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "k",
        "deal:1",
        "deal:10",
        "deal:2",
        "Deal:1",
        "deal:",
        "deal",
        ":",
        "::",
        "deal:a:b",
        "deal:*",
        "deal:a*b",
        "deal:a?b",
        "deal:[a]",
        "deal:[!a]",
        "deal:a]",
        "deal:back\\slash",
        "deal:100%",
        "deal:100x",
        "deal:_",
        "deal:x",
        "opt_decision:1",
        "optXdecision:1",
        "deal:'; DROP TABLE kv_store;--",
        "deal:\"quoted\"",
        "deal:$1",
        "deal:{tag}",
        "deal:{a}{b}",
        "deal: leading",
        "deal:trailing ",
        "deal:new\nline",
        "deal:tab\t",
        "deal:\u{1}",
        "deal:\u{7f}",
        "deal:é",
        "deal:e\u{301}",
        "deal:ключ",
        "deal:日本",
        "deal:🚀",
        "deal:\u{d7ff}",
        "deal:\u{e000}",
        "deal:\u{ffff}",
        "deal:\u{10ffff}",
        "agent_url_index:https://buyer.example/a2a?x=1&y=%20",
        "cache:1",
        "session:1",
        "lock:a",
    ]
    .map(str::to_owned)
    .into();
    keys.push(format!("deal:{}", "x".repeat(1019)));
    keys.push(format!("é{}", "é".repeat(511)));
    keys
}

/// Runs `tasks` tasks at once and waits for all.
pub(crate) async fn at_once<F, W>(tasks: usize, work: W)
where
    W: Fn(usize) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let handles: Vec<_> = (0..tasks).map(|task| tokio::spawn(work(task))).collect();
    for handle in handles {
        if let Err(error) = handle.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Everything that a scan yields; panics on an error.
pub(crate) async fn records(backend: &Backend, scan: Scan) -> Vec<Record> {
    let found: Vec<Result<Record, Error>> = backend.scan(scan).collect().await;
    found.into_iter().map(|record| record.expect("the scan goes on")).collect()
}

/// Waits until `key` is gone, for two seconds at most; returns whether it went.
pub(crate) async fn wait_until_gone(backend: &Backend, key: &str) -> bool {
    for _ in 0..400 {
        if !backend.exists(key).await.unwrap() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}
