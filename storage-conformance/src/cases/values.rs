//! **Values**: any JSON up to 16 MiB reads back equal.

use serde_json::{Value, json};
use storage_core::{DEFAULT_MAX_VALUE_BYTES, ErrorKind, Json, StorageExt};

use crate::{Subject, sample::value};

/// JSON texts from one end of what may be stored to the other.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1.0",
        "1e2",
        "0.1",
        "5e-324",
        "1.7976931348623157e308",
        "1e300",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "123456789012345678901234567890",
        "9007199254740993",
        "0.1234567890123456789",
        "\"\"",
        "\"NaN\"",
        "\"null\"",
        "\"456\"",
        "[]",
        "{}",
        "[[],{}]",
        r#"{"":0}"#,
        r#"{"z":1,"a":2,"A":3}"#,
        r#" { "spaced" : [ 1 , 2 ] } "#,
        r#""\ud83d\ude80\u00e9\n\t\"\\\/\u0001""#,
        r#"{"a":[{"b":{"c":[1,2.5,null,"x"]}}]}"#,
        r#""'; DROP TABLE kv_store;--""#,
        r#"{"$type":"x","key":"%_*?[a]"}"#,
    ]
    .map(str::to_owned)
    .into();
    texts.push(format!("{}1{}", "[".repeat(127), "]".repeat(127)));
    texts.push(format!("\"{}\"", "é🚀".repeat(50_000)));
    texts
}

/// Reading gives an equal value, one by one and all at once.
pub async fn every_value_reads_back_equal(subject: Subject) {
    let backend = subject.connected().await;
    let texts = texts();
    let keys: Vec<String> = (0..texts.len()).map(|number| format!("value:{number}")).collect();
    for (key, text) in keys.iter().zip(&texts) {
        backend.set(key, Json::parse(text.clone()).unwrap(), None).await.unwrap();
    }
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let together = backend.get_many(&names).await.unwrap();
    for ((key, text), many) in keys.iter().zip(&texts).zip(together) {
        let written = Json::parse(text.clone()).unwrap();
        let shown: String = text.chars().take(80).collect();
        assert_eq!(backend.get(key).await.unwrap().unwrap(), written, "{shown}");
        assert_eq!(many.unwrap().unwrap(), written, "{shown}");
    }
    let float: Option<f64> = backend.get_as("value:8").await.unwrap();
    assert_eq!(float, Some(0.1));
}

/// 16 MiB are kept; one byte more is refused before it is sent.
pub async fn a_value_at_the_limit_is_kept_and_one_beyond_refused(subject: Subject) {
    let backend = subject.connected().await;
    let text = |bytes: usize| Json::parse(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
    let largest = text(DEFAULT_MAX_VALUE_BYTES);
    backend.set("value:large", largest.clone(), None).await.unwrap();
    assert!(backend.get("value:large").await.unwrap().unwrap().as_str() == largest.as_str());
    let error = backend.set("value:larger", text(DEFAULT_MAX_VALUE_BYTES + 1), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.key(), Some("value:larger"));
    assert!(!backend.exists("value:larger").await.unwrap());
}

/// A write leaves nothing of the value before it.
pub async fn overwriting_replaces_the_whole_value(subject: Subject) {
    let backend = subject.connected().await;
    backend.set("deal:1", value(&json!({"a": 1, "b": [1, 2, 3]})), None).await.unwrap();
    backend.set("deal:1", value(&json!({"c": null})), None).await.unwrap();
    assert_eq!(backend.get_as::<Value>("deal:1").await.unwrap(), Some(json!({"c": null})));
    assert!(backend.delete("deal:1").await.unwrap());
    assert!(!backend.delete("deal:1").await.unwrap(), "a second deletion finds nothing");
    assert_eq!(backend.get("deal:1").await.unwrap(), None);
}

/// What was never written is not there, and the JSON `null` is not the same as nothing.
pub async fn absent_keys_are_absent(subject: Subject) {
    let backend = subject.connected().await;
    assert_eq!(backend.get("deal:none").await.unwrap(), None);
    assert!(!backend.exists("deal:none").await.unwrap());
    assert!(!backend.delete("deal:none").await.unwrap());
    backend.set("deal:null", value(&Value::Null), None).await.unwrap();
    assert_eq!(backend.get("deal:null").await.unwrap(), Some(value(&Value::Null)));
    assert!(backend.exists("deal:null").await.unwrap());
}
