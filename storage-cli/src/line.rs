//! The lines of an export: `{"key":…,"value":…,"expires_at":…}`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::value::RawValue;
use storage_core::{
    Clock, Entry, Error, Json, Record, SystemClock, check_key, check_value_size, epoch_seconds, ttl_millis,
};

const FIELDS: [&str; 3] = ["key", "value", "expires_at"];

/// One entry of an import, checked.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) value: Json,
    /// Seconds since the epoch.
    expires_at: Option<f64>,
}

impl Line {
    /// Reads a line; says what is wrong with it, without quoting a value.
    pub(crate) fn parse(text: &[u8], max_value_bytes: usize) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).map_err(|error| {
            if error.is_data() { "it is not a JSON object".to_owned() } else { not_json(&error) }
        })?;
        if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&&***name)) {
            return Err(format!(
                "it has the field `{}`; the fields are {}",
                unknown.escape_debug(),
                FIELDS.join(", ")
            ));
        }
        let field = |name: &str| fields.get(name).map(|raw| raw.get());
        let key: String = serde_json::from_str(field("key").ok_or("`key` is missing")?)
            .map_err(|_| "`key` is not a text")?;
        check_key(&key).map_err(|error| said(&error))?;
        let value = Json::parse(field("value").ok_or("`value` is missing")?.to_owned())
            .map_err(|error| said(&error))?;
        check_value_size(&value, max_value_bytes).map_err(|error| said(&error))?;
        let expires_at = expires_at(field("expires_at").unwrap_or("null"))?;
        Ok(Self { key, value, expires_at })
    }

    /// How much the line holds in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }

    /// The entry to write now; `None` where it has expired.
    pub(crate) fn into_entry(self) -> Option<Entry> {
        let ttl = match self.expires_at {
            None => None,
            Some(expires_at) => Some(time_left(expires_at)?),
        };
        Some(Entry { key: self.key, value: self.value, ttl })
    }
}

fn expires_at(raw: &str) -> Result<Option<f64>, String> {
    let expires_at: Option<f64> =
        serde_json::from_str(raw).map_err(|_| "`expires_at` is neither a number of seconds nor null")?;
    let Some(left) = expires_at.and_then(time_left) else { return Ok(expires_at) };
    ttl_millis(left).map_err(|_| "`expires_at` is more than 100 years ahead")?;
    Ok(expires_at)
}

/// How long it is until then; `None` where it has passed.
fn time_left(expires_at: f64) -> Option<Duration> {
    let now = SystemClock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = expires_at - now;
    (left > 0.0).then(|| Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))
}

fn not_json(error: &serde_json::Error) -> String {
    format!("it is not JSON, at column {}", error.column())
}

/// The message alone: the line is the place.
fn said(error: &Error) -> String {
    error.message().to_owned()
}

/// The line of an entry.
pub(crate) fn export_line(record: &Record) -> Option<String> {
    let key = serde_json::to_string(&record.key).ok()?;
    let value = one_line(record.value.as_ref()?);
    let expires_at = match record.expires_at {
        Some(time) => epoch_seconds(millis(time)).to_string(),
        None => "null".to_owned(),
    };
    Some(format!(r#"{{"key":{key},"value":{value},"expires_at":{expires_at}}}"#))
}

/// Milliseconds since the epoch, rounded up; what lies below a microsecond is noise of the store's floats.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// The JSON text on one line, spelled as it is: where it has line breaks, without the white space between its tokens.
pub(crate) fn one_line(value: &Json) -> Cow<'_, str> {
    let text = value.as_str().trim();
    if !text.contains(['\n', '\r']) {
        return Cow::Borrowed(text);
    }
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let kept = in_string || !c.is_ascii_whitespace();
        if *c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && *c == '\\' && !escaped;
        kept
    };
    Cow::Owned(text.chars().filter(keep).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> String {
        Line::parse(line.as_bytes(), 100).unwrap_err()
    }

    #[test]
    fn a_line_says_what_is_wrong_with_it_and_quotes_no_value() {
        for (line, said) in [
            ("", "it is not JSON, at column 0"),
            ("[1]", "it is not a JSON object"),
            (r#"{"key":"k","value":1"#, "it is not JSON, at column 20"),
            (r#"{"value":1}"#, "`key` is missing"),
            (r#"{"key":"k"}"#, "`value` is missing"),
            (r#"{"key":7,"value":1}"#, "`key` is not a text"),
            (r#"{"key":"","value":1}"#, "a key may not be empty"),
            (
                r#"{"key":"k","value":1,"ttl":5}"#,
                "it has the field `ttl`; the fields are key, value, expires_at",
            ),
            (
                r#"{"key":"k","value":1,"expires_at":"secret"}"#,
                "`expires_at` is neither a number of seconds nor null",
            ),
            (r#"{"key":"k","value":1,"expires_at":1e300}"#, "`expires_at` is more than 100 years ahead"),
        ] {
            assert_eq!(wrong(line), said, "{line}");
        }
        assert!(wrong(r#"{"key":"k","value":1e999}"#).starts_with("the value cannot be stored"));
        let long = format!(r#"{{"key":"k","value":"{}"}}"#, "x".repeat(200));
        assert_eq!(wrong(&long), "a value may have 100 bytes; this one has 202");
        assert_eq!(Line::parse(b"\xff", 100).unwrap_err(), "it is not UTF-8");
    }

    #[test]
    fn null_is_a_value_and_what_has_expired_is_no_entry() {
        let line = |text: &str| Line::parse(text.as_bytes(), 100).unwrap();
        assert_eq!(line(r#"{"key":"k","value":null}"#).into_entry().unwrap().value.as_str(), "null");
        assert!(line(r#"{"key":"k","value":1,"expires_at":-5}"#).into_entry().is_none());
        assert!(line(r#"{"key":"k","value":1,"expires_at":1000.5}"#).into_entry().is_none());
        assert!(line(r#"{"key":"k","value":1,"expires_at":4e9}"#).into_entry().unwrap().ttl.is_some());
    }

    #[test]
    fn a_value_on_one_line_keeps_its_spelling() {
        let value = Json::parse("{\n  \"a b\" : \"x \\\" y\\\\\",\r\n\t\"n\": [1.50,  2e1] }\n").unwrap();
        assert_eq!(one_line(&value), r#"{"a b":"x \" y\\","n":[1.50,2e1]}"#);
        assert_eq!(one_line(&Json::parse(r#"{"a": 1}"#).unwrap()), r#"{"a": 1}"#);
    }
}
