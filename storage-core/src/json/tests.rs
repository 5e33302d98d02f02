//! What a value may be, against `serde_json` as the oracle.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;

#[test]
fn texts_that_every_store_can_keep() {
    for text in [
        "null",
        " true ",
        "\"\"",
        "[]",
        "{}",
        "0",
        "-0",
        "1e300",
        "5e-324",
        "9223372036854775807",
        "18446744073709551615",
        "123456789012345678901234567890",
        r#"{"a":[1,2.5,{"b":null}],"c":"\ud83d\ude80é\n"}"#,
        "[[],[[]],{}]",
        "0.0",
        "0e99999",
    ] {
        assert!(Json::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn texts_that_are_refused_and_why() {
    for (text, why) in [
        ("", "not JSON"),
        ("NaN", "not JSON"),
        ("Infinity", "not JSON"),
        ("{\"a\":1,}", "not JSON"),
        ("[1 2]", "not JSON"),
        ("[1]]", "not JSON"),
        ("{\"a\" 1}", "not JSON"),
        ("{1:2}", "not JSON"),
        ("01", "not JSON"),
        ("1.", "not JSON"),
        ("-", "not JSON"),
        ("1e", "not JSON"),
        ("\"a", "not JSON"),
        ("\"\\x\"", "not JSON"),
        ("\"\\u12\"", "not JSON"),
        ("\"\\u+123\"", "not JSON"),
        ("\"\n\"", "not JSON"),
        ("nul", "not JSON"),
        ("[1,", "not JSON"),
        ("\"\\u0000\"", "NUL"),
        ("{\"\\u0000\":1}", "NUL"),
        ("\"\\ud800\"", "lone surrogate"),
        ("\"\\ud800\\u0041\"", "lone surrogate"),
        ("\"\\udc00\"", "lone surrogate"),
        ("1e400", "64-bit float"),
        ("-1e400", "64-bit float"),
        ("1e-400", "64-bit float"),
    ] {
        let error = Json::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(why), "{text}: {error}");
    }
}

#[test]
fn what_ends_a_string_or_breaks_it_is_seen_at_every_place_of_it() {
    for place in 0..40 {
        for (special, fits) in [
            ("é\u{7f}🚀", true),
            ("\\n", true),
            ("\\u00e9", true),
            ("\n", false),
            ("\u{1f}", false),
            ("\0", false),
            ("\\x", false),
        ] {
            let text = format!("[\"{}{special}{}\", \"é\"]", "a".repeat(place), "!#[]z\u{80}".repeat(4));
            assert_eq!(Json::parse(text.clone()).is_ok(), fits, "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), fits, "{text}");
        }
    }
}

#[test]
fn nesting_has_a_limit_that_decoding_shares() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deepest = (1..=MAX_DEPTH).filter(|depth| Json::parse(nested(*depth)).is_ok()).max().unwrap();
    assert!(Json::parse(nested(deepest)).unwrap().decode::<Value>().is_ok(), "what is taken can be decoded");
    assert!(Json::parse(nested(MAX_DEPTH + 1)).unwrap_err().message().contains("nested"));
    assert!(Json::parse(nested(100_000)).is_err());
    let value = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    assert!(Json::try_from(value(MAX_DEPTH)).is_ok());
    assert!(Json::try_from(value(MAX_DEPTH + 1)).unwrap_err().message().contains("nested"));
    // Writing it before looking would end the process, as dropping it would here.
    let deep = value(30_000);
    assert!(Json::try_from(&deep).is_err());
    std::mem::forget(deep);
}

#[test]
fn a_stored_text_that_is_not_json_is_corrupt_and_names_the_key() {
    let error = Json::from_stored("value:nan", "NaN").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.key(), Some("value:nan"));
}

#[test]
fn equality_is_of_values_not_of_spellings() {
    for (left, right, equal) in [
        (r#"{"a":1,"b":2}"#, r#"{ "b" : 2, "a" : 1 }"#, true),
        ("1e2", "100", true),
        ("100.0", "100", true),
        ("9007199254740993", "9007199254740992.0", false),
        ("18446744073709551615", "18446744073709551615.0", false),
        ("-0.0", "0", true),
        ("1e300", "1.0e300", true),
        ("\"a\"", "\"\\u0061\"", true),
        ("1", "\"1\"", false),
        ("1", "true", false),
        ("[1]", "[1,1]", false),
    ] {
        assert_eq!(Json::parse(left).unwrap() == Json::parse(right).unwrap(), equal, "{left} and {right}");
    }
}

#[test]
fn a_value_never_shows_in_an_error_or_in_debug() {
    let value = Json::from_serialize(&json!({"token": "hunter2"})).unwrap();
    let error = value.decode::<Vec<u8>>().unwrap_err();
    let wrong_field = value.decode::<std::collections::BTreeMap<String, u8>>().unwrap_err();
    for text in [format!("{value:?}"), format!("{error} {error:?}"), format!("{wrong_field} {wrong_field:?}")]
    {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn text_is_kept_as_it_is_through_serde() {
    let value = Json::parse(r#"{"z":1.0,  "a":1e2}"#).unwrap();
    let outer = serde_json::to_string(&json!({"k": 1}).as_object().map(|_| &value)).unwrap();
    assert_eq!(outer, value.as_str());
    let back: Json = serde_json::from_str(&outer).unwrap();
    assert_eq!(back.as_str(), value.as_str());
}

proptest! {
    #[test]
    fn what_serde_reads_as_a_value_is_what_the_check_takes(text in "[\\[\\]{},:\"\\\\udD80cC1e.+\\-0-9 tnrfalsu]{0,24}") {
        let oracle = serde_json::from_str::<Value>(&text);
        let ours = Json::parse(text.clone());
        // The check refuses some that serde takes (NUL, underflow), never the other way round.
        if ours.is_ok() {
            prop_assert!(oracle.is_ok(), "{text}");
        } else if let Ok(value) = oracle {
            let kept = ours.unwrap_err().to_string();
            prop_assert!(!kept.contains("not JSON"), "{text} is {value}");
        }
    }

    #[test]
    fn every_generated_value_survives(numbers in prop::collection::vec(any::<f64>(), 0..5), text in any::<String>()) {
        let value = json!({"n": numbers.iter().filter(|n| n.is_finite()).collect::<Vec<_>>(), "t": text.replace('\0', "")});
        let kept = Json::from_serialize(&value).unwrap();
        prop_assert!(same_value(&kept.decode::<Value>().unwrap(), &value));
    }
}
