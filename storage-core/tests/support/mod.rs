//! What the domain helpers must do on every backend.

use std::{fmt::Debug, sync::Arc};

use serde_json::{Value, json};
use storage_core::{
    ErrorKind, Json, Listing, MAX_KEY_BYTES, Result, StorageBackend, StorageExt,
    domain::{AdBuyer, AdSeller},
};

/// The index of the buyer `acme`.
pub(crate) const INDEX: &str = "session_index:buyer:acme";

pub(crate) fn json(value: &Value) -> Json {
    Json::try_from(value).unwrap()
}

/// Checks that a call was refused with `kind`, naming `key`.
pub(crate) fn assert_refused<T: Debug>(answer: Result<T>, kind: ErrorKind, key: &str) {
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.key()), (kind, Some(key)), "{error}");
    assert!(error.backend().is_some() && error.operation().is_some(), "{error:?} says where it happened");
}

/// The `n` of each entry, in the order of the listing.
fn numbers(listing: Result<Listing<Value>>) -> Vec<u64> {
    listing.unwrap().all().unwrap().iter().map(|entry| entry["n"].as_u64().unwrap()).collect()
}

/// Writes under an id with awkward characters, reads back typed and raw, and overwrites.
macro_rules! keeps {
    ($storage:ident: $($prefix:literal $get:ident $set:ident)*) => {$(
        let key = concat!($prefix, "a:b/*%_ключ");
        let id = key.strip_prefix($prefix).unwrap();
        assert_eq!($storage.$get::<Value>(id).await.unwrap(), None, "{key}");
        for value in [json!({"id": id}), json!({"id": id, "cpm": 15.5, "tags": [null, true]})] {
            $storage.$set(id, &value).await.unwrap();
            assert_eq!($storage.get(key).await.unwrap(), Some(json(&value)), "{key}");
            assert_eq!($storage.$get::<Value>(id).await.unwrap(), Some(value), "{key}");
        }
        assert_refused($storage.$get::<Vec<u8>>(id).await, ErrorKind::Corrupt, key);
        assert_refused($storage.$get::<Value>("").await, ErrorKind::InvalidInput, $prefix);
        assert_refused($storage.$set("", &1).await, ErrorKind::InvalidInput, $prefix);
        let long = "i".repeat(MAX_KEY_BYTES);
        let long_key = format!("{}{long}", $prefix);
        assert_refused($storage.$set(&long, &1).await, ErrorKind::InvalidInput, &long_key);
    )*};
}

pub(crate) async fn every_entity_keeps_its_key_and_value(storage: &dyn StorageBackend) {
    keeps! { storage:
        "deal:" get_deal set_deal
        "campaign:" get_campaign set_campaign
        "order:" get_order set_order
        "conversion:" get_conversion set_conversion
        "opt_decision:" get_optimization_decision set_optimization_decision
        "experiment:" get_experiment set_experiment
        "supply_path:" get_supply_path_score set_supply_path_score
        "quote:" get_quote set_quote
        "negotiation:" get_negotiation set_negotiation
        "model:" get_model_artifact set_model_artifact
        "pacing:" get_pacing_snapshot set_pacing_snapshot
        "product:" get_product set_product
        "proposal:" get_proposal set_proposal
        "package:" get_package set_package
        "media_kit:" get_media_kit set_media_kit
        "change_request:" get_change_request set_change_request
        "agent:" get_agent set_agent
    }
    storage.set_session("s-1", "hello", None).await.unwrap();
    assert_eq!(storage.get("session:s-1").await.unwrap(), Some(json(&json!("hello"))));
    assert_eq!(storage.get_session::<String>("s-1").await.unwrap().as_deref(), Some("hello"));
    assert_eq!(storage.keys("*").await.unwrap().len(), 18, "no call wrote another key");
}

pub(crate) async fn deletes_say_whether_the_entry_was_there(storage: &dyn StorageBackend) {
    macro_rules! deletes {
        ($($key:literal $delete:ident)*) => {$(
            storage.set($key, Json::from(1), None).await.unwrap();
            let id = $key.split_once(':').unwrap().1;
            assert!(storage.$delete(id).await.unwrap(), $key);
            assert!(!storage.$delete(id).await.unwrap(), $key);
            assert!(!storage.exists($key).await.unwrap(), $key);
            assert_eq!(storage.$delete("").await.unwrap_err().kind(), ErrorKind::InvalidInput);
        )*};
    }
    deletes! {
        "deal:d:1" delete_deal
        "order:o-1" delete_order
        "session:s-1" delete_session
        "package:p-1" delete_package
        "agent:a-1" delete_agent
    }
}

/// The fields that filters look at, in each combination, with values that are not quite the same between them.
async fn fill(storage: &dyn StorageBackend, prefix: &str, first: &str, second: &str) {
    let field = |path: &str, value: &Value| match path.split_once('.') {
        Some((outer, inner)) => (outer.to_owned(), json!({ inner: value })),
        None => (path.to_owned(), value.clone()),
    };
    let rows = [
        [json!("a"), json!("x")],
        [json!("a"), json!("y")],
        [json!("b"), json!("x")],
        [json!("A"), json!("x")],
        [json!(["a"]), json!(null)],
    ];
    for (n, [left, right]) in rows.iter().enumerate() {
        let mut entry = serde_json::Map::from_iter([field(first, left), field(second, right)]);
        entry.insert("n".into(), json!(n));
        storage.set_as(&format!("{prefix}{n}"), &entry, None).await.unwrap();
    }
    // No object, and another entity whose prefix differs by the last character alone.
    storage.set(&format!("{prefix}5"), json(&json!({"n": 5})), None).await.unwrap();
    let stranger = format!("{};0", prefix.trim_end_matches(':'));
    storage.set(&stranger, json(&json!({first: "a", second: "x", "n": 9})), None).await.unwrap();
}

pub(crate) async fn lists_with_two_filters(storage: &dyn StorageBackend) {
    macro_rules! lists {
        ($($prefix:literal $list:ident $first:literal $second:literal)*) => {$(
            fill(storage, $prefix, $first, $second).await;
            for (first, second, expected) in [
                (None, None, vec![0, 1, 2, 3, 4, 5]),
                (Some("a"), None, vec![0, 1]),
                (None, Some("x"), vec![0, 2, 3]),
                (Some("a"), Some("x"), vec![0]),
                (Some("b"), Some("y"), vec![]),
                (Some(""), None, vec![]),
            ] {
                let listing = storage.$list(first, second).await;
                assert_eq!(numbers(listing), expected, "{} {first:?} {second:?}", $prefix);
            }
        )*};
    }
    lists! {
        "deal:" list_deals "status" "deal_type"
        "conversion:" list_conversions "deal_id" "campaign_id"
        "experiment:" list_experiments "campaign_id" "status"
        "quote:" list_quotes "status" "product.product_id"
        "change_request:" list_change_requests "order_id" "status"
    }
}

pub(crate) async fn lists_with_one_filter_or_none(storage: &dyn StorageBackend) {
    for (prefix, field) in [("campaign:", "status"), ("order:", "status"), ("opt_decision:", "campaign_id")] {
        fill(storage, prefix, field, "other").await;
    }
    storage.set("optXdecision:0", json(&json!({"campaign_id": "a", "n": 7})), None).await.unwrap();
    for (filter, expected) in [(None, vec![0, 1, 2, 3, 4, 5]), (Some("a"), vec![0, 1]), (Some("c"), vec![])] {
        assert_eq!(numbers(storage.list_campaigns(filter).await), expected);
        assert_eq!(numbers(storage.list_orders(filter).await), expected);
        assert_eq!(numbers(storage.list_optimization_decisions(filter).await), expected);
    }
    for prefix in ["session:", "supply_path:", "product:", "proposal:", "package:", "agent:"] {
        fill(storage, prefix, "status", "other").await;
    }
    storage.add_session_to_buyer_index("0", "acme").await.unwrap();
    storage.set_agent_url_index("https://buyer.example", "0").await.unwrap();
    let all = [0, 1, 2, 3, 4, 5];
    assert_eq!(numbers(storage.list_sessions().await), all);
    assert_eq!(numbers(storage.list_supply_path_scores().await), all);
    assert_eq!(numbers(storage.list_products().await), all);
    assert_eq!(numbers(storage.list_proposals().await), all);
    assert_eq!(numbers(storage.list_packages().await), all);
    assert_eq!(numbers(storage.list_agents().await), all);
}

pub(crate) async fn a_list_puts_entries_of_another_shape_apart(storage: &dyn StorageBackend) {
    storage.set_product("1", &json!({"n": 1})).await.unwrap();
    storage.set_product("2", "no object").await.unwrap();
    storage.set_product("3", &json!({"n": 3})).await.unwrap();
    let listing = storage.list_products::<std::collections::BTreeMap<String, u64>>().await.unwrap();
    assert_eq!(listing.iter().map(|product| product["n"]).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(listing.corrupt.len(), 1);
    assert_refused(listing.all(), ErrorKind::Corrupt, "product:2");
}

pub(crate) async fn the_buyer_index_keeps_the_order_without_duplicates(storage: &dyn StorageBackend) {
    assert!(storage.get_buyer_session_ids("acme").await.unwrap().is_empty());
    assert!(!storage.remove_session_from_buyer_index("s-1", "acme").await.unwrap());
    for session in ["s-2", "s-1", "s:3 ключ", "s-2"] {
        storage.add_session_to_buyer_index(session, "acme").await.unwrap();
    }
    assert_eq!(storage.get(INDEX).await.unwrap(), Some(json(&json!(["s-2", "s-1", "s:3 ключ"]))));
    assert!(storage.get_buyer_session_ids("acme|gold").await.unwrap().is_empty(), "each buyer has an index");

    assert!(storage.remove_session_from_buyer_index("s-1", "acme").await.unwrap());
    assert!(!storage.remove_session_from_buyer_index("s-1", "acme").await.unwrap());
    assert_eq!(storage.get_buyer_session_ids("acme").await.unwrap(), ["s-2", "s:3 ключ"]);
    assert!(storage.remove_session_from_buyer_index("s-2", "acme").await.unwrap());
    assert!(storage.remove_session_from_buyer_index("s:3 ключ", "acme").await.unwrap());
    assert!(!storage.exists(INDEX).await.unwrap(), "the index goes with its last session");
}

pub(crate) async fn the_sessions_of_a_buyer_come_in_one_call(storage: &dyn StorageBackend) {
    for session in ["s-1", "s-gone", "s-2", "s-odd"] {
        storage.add_session_to_buyer_index(session, "acme").await.unwrap();
    }
    storage.set_session("s-1", &json!({"n": 1}), None).await.unwrap();
    storage.set_session("s-2", &json!({"n": 2}), None).await.unwrap();
    storage.set_session("s-odd", "no object", None).await.unwrap();
    let sessions =
        storage.get_buyer_sessions::<std::collections::BTreeMap<String, u64>>("acme").await.unwrap();
    assert_eq!(sessions.iter().map(|session| session["n"]).collect::<Vec<_>>(), [1, 2]);
    assert_refused(sessions.all(), ErrorKind::Corrupt, "session:s-odd");
}

pub(crate) async fn an_index_of_another_shape_is_never_overwritten(storage: &dyn StorageBackend) {
    for value in [json!({"s-1": 1}), json!([1]), json!(["s-1", null]), json!("s-1"), json!(null)] {
        storage.set(INDEX, json(&value), None).await.unwrap();
        assert_refused(storage.get_buyer_session_ids("acme").await, ErrorKind::Corrupt, INDEX);
        assert_refused(storage.add_session_to_buyer_index("s-2", "acme").await, ErrorKind::Corrupt, INDEX);
        let removed = storage.remove_session_from_buyer_index("s-1", "acme").await;
        assert_refused(removed, ErrorKind::Corrupt, INDEX);
        assert_eq!(storage.get(INDEX).await.unwrap(), Some(json(&value)));
    }
}

pub(crate) async fn indexes_refuse_ids_that_cannot_be(storage: &dyn StorageBackend) {
    let long = "i".repeat(MAX_KEY_BYTES);
    for (buyer, session) in
        [("", "s-1"), (long.as_str(), "s-1"), ("acme", ""), ("acme", "a\0"), ("acme", &long)]
    {
        let added = storage.add_session_to_buyer_index(session, buyer).await;
        assert_eq!(added.unwrap_err().kind(), ErrorKind::InvalidInput, "{buyer} {session:?}");
    }
    for (url, agent) in [("", "a-1"), (long.as_str(), "a-1"), ("https://a.example", "")] {
        let set = storage.set_agent_url_index(url, agent).await;
        assert_eq!(set.unwrap_err().kind(), ErrorKind::InvalidInput, "{url} {agent:?}");
    }
    assert!(storage.keys("*").await.unwrap().is_empty());
}

pub(crate) async fn the_url_index_holds_an_agent_id(storage: &dyn StorageBackend) {
    let url = "https://buyer.example/a2a?x=1&y=%20";
    assert_eq!(storage.get_agent_url_index(url).await.unwrap(), None);
    storage.set_agent_url_index(url, "agent-6").await.unwrap();
    storage.set_agent_url_index(url, "agent-7").await.unwrap();
    let key = format!("agent_url_index:{url}");
    assert_eq!(storage.get(&key).await.unwrap(), Some(json(&json!("agent-7"))));
    assert_eq!(storage.get_agent_url_index(url).await.unwrap().as_deref(), Some("agent-7"));
    storage.set(&key, Json::from(7), None).await.unwrap();
    assert_refused(storage.get_agent_url_index(url).await, ErrorKind::Corrupt, &key);
}

pub(crate) async fn sixty_four_tasks_lose_no_session(storage: Arc<dyn StorageBackend>) {
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                for n in 0..100 {
                    storage.add_session_to_buyer_index(&format!("s-{task}-{n}"), "acme").await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let sessions = storage.get_buyer_session_ids("acme").await.unwrap();
    for task in 0..64 {
        let own = format!("s-{task}-");
        let order: Vec<_> = sessions.iter().filter_map(|session| session.strip_prefix(&own)).collect();
        assert_eq!(order, (0..100).map(|n| n.to_string()).collect::<Vec<_>>(), "sessions of task {task}");
    }
    assert_eq!(sessions.len(), 6_400);
}

pub(crate) async fn adding_and_removing_at_once_loses_nothing(storage: Arc<dyn StorageBackend>) {
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                for n in 0..50 {
                    let session = format!("s-{task}-{n}");
                    storage.add_session_to_buyer_index(&session, "acme").await.unwrap();
                    if n % 2 == 0 {
                        assert!(storage.remove_session_from_buyer_index(&session, "acme").await.unwrap());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(storage.get_buyer_session_ids("acme").await.unwrap().len(), 16 * 25);
}
