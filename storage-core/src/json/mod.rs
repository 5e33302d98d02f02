//! Values: checked JSON text that is cheap to clone.

mod check;

use std::{fmt, str::FromStr};

use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Number, Value, value::RawValue};

use crate::{Error, Result};

pub use check::MAX_DEPTH;

/// The longest value unless a backend is set up otherwise: 16 MiB of JSON text.
pub const DEFAULT_MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;

/// The longest spelling of one number, in bytes. No `f64` needs more than 800.
pub const MAX_NUMBER_BYTES: usize = 1024;

/// An owned JSON text that every store can keep and give back equal.
///
/// The text is checked once, when it is made: it is JSON, no string holds a NUL character or a lone surrogate, every
/// number fits `i64`, `u64` or a finite `f64`, and nothing is nested deeper than [`MAX_DEPTH`]. A clone shares the text.
///
/// Two are equal when they mean the same value: the order of members and the spelling of numbers (`1e2`, `100.0`, `100`)
/// do not count, because Postgres keeps neither.
///
/// ```
/// use serde_json::{Value, json};
/// use storage_core::Json;
///
/// let deal = Json::parse(r#"{"status": "active", "cpm": 15.0}"#)?;
/// assert_eq!(deal, Json::try_from(json!({"cpm": 15, "status": "active"}))?);
/// assert_eq!(Value::from(deal)["status"], "active");
/// assert!(Json::parse("NaN").is_err());
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Json(ByteString);

impl Json {
    /// Checks `text` and keeps it, spelled as it is. A `String` or a `ByteString` is not copied.
    ///
    /// # Errors
    /// `InvalidInput` saying what is wrong and at which byte; never with a part of the text.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self> {
        let text = text.into();
        match check::check(&text, MAX_NUMBER_BYTES) {
            Ok(()) => Ok(Self(text)),
            Err(fault) => Err(Error::invalid_input(format!("the value cannot be stored: {fault}"))),
        }
    }

    /// [`parse`](Self::parse) for a text that a store holds: what is wrong with it is `Corrupt`, naming `key`.
    ///
    /// # Errors
    /// `Corrupt` naming the key, saying what is wrong and at which byte.
    pub fn from_stored(key: &str, text: impl Into<ByteString>) -> Result<Self> {
        let text = text.into();
        // Postgres spells `1e300` with 301 digits: what was short when it was written need not be when it is read.
        match check::check(&text, usize::MAX) {
            Ok(()) => Ok(Self(text)),
            Err(fault) => {
                Err(Error::corrupt(format!("the stored value cannot be read: {fault}")).with_key(key))
            }
        }
    }

    /// The JSON text of anything that serializes. Note that `serde_json` writes a `NaN` or an infinity as `null`.
    ///
    /// # Errors
    /// `InvalidInput` where it does not serialize to JSON, or not to a value that every store can keep.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        match serde_json::to_string(value) {
            Ok(text) => Self::parse(text),
            // Not kept as a source: the message of a `Serialize` implementation may quote the value.
            Err(_) => Err(Error::invalid_input("the value does not serialize to JSON")
                .with_hint("map keys must be strings, and every field must be serializable")),
        }
    }

    /// Decodes the text straight into `T`.
    ///
    /// # Errors
    /// `Corrupt` where the value has another shape; the message names the place, never the value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| shape_error(&error))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of the text in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no JSON text is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The text without its owner, for a driver that takes bytes; shared, not copied.
    #[must_use]
    pub fn into_text(self) -> ByteString {
        self.0
    }
}

/// Checks that a value has at most `limit` bytes.
///
/// # Errors
/// `InvalidInput` naming both sizes.
pub fn check_value_size(value: &Json, limit: usize) -> Result<()> {
    if value.len() <= limit {
        return Ok(());
    }
    Err(Error::invalid_input(format!("a value may have {limit} bytes; this one has {}", value.len())))
}

/// What went wrong without the words of serde, which quote the value.
fn shape_error(error: &serde_json::Error) -> Error {
    Error::corrupt(format!(
        "the value has another shape than asked for, at line {} column {}",
        error.line(),
        error.column()
    ))
}

/// Only its length: values never appear in logs.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        if self.0 == other.0 {
            return true;
        }
        match (self.decode::<Value>(), other.decode::<Value>()) {
            (Ok(left), Ok(right)) => same_value(&left, &right),
            _ => false,
        }
    }
}

impl Eq for Json {}

/// Whether two values mean the same: numbers compare by value, not by spelling.
#[must_use]
pub fn same_value(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => same_number(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_value(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, left)| right.get(name).is_some_and(|right| same_value(left, right)))
        }
        _ => left == right,
    }
}

fn same_number(left: &Number, right: &Number) -> bool {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => left == right,
        (None, None) => left.as_f64() == right.as_f64(),
        _ => false,
    }
}

/// The number as an integer, where it is one: `3`, `3.0` and `3e0` are.
fn integer(number: &Number) -> Option<i128> {
    if let Some(integer) = number.as_i128() {
        return Some(integer);
    }
    let float = number.as_f64()?;
    // Beyond this an `f64` is no longer an exact `i128`, and two spellings of one `f64` compare as floats.
    let exact = float.fract() == 0.0 && float.abs() < 1e38;
    #[allow(clippy::cast_possible_truncation, reason = "checked to be integral and in range")]
    exact.then_some(float as i128)
}

/// The sum that `increment` writes. What is not there counts as 0; a number with an integral value is an integer.
///
/// # Errors
/// `InvalidInput` where the value is no 64-bit integer or the sum would overflow.
pub fn add_integer(found: Option<&Json>, by: i64) -> Result<i64> {
    let number = match found {
        Some(value) => value.decode::<Number>().ok().as_ref().and_then(integer),
        None => Some(0),
    };
    let Some(start) = number.and_then(|integer| i64::try_from(integer).ok()) else {
        return Err(Error::invalid_input("the value is not a 64-bit integer"));
    };
    start.checked_add(by).ok_or_else(|| Error::invalid_input("the sum does not fit a 64-bit integer"))
}

/// What is short in code and always a value: `true`, `5`.
macro_rules! from_plain {
    ($($plain:ty),*) => {$(
        impl From<$plain> for Json {
            fn from(plain: $plain) -> Self {
                Self(plain.to_string().into())
            }
        }
    )*};
}

from_plain!(bool, i32, u32, i64, u64);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Through `RawValue`, so the text is kept as it is; works with `serde_json` alone.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: Box<RawValue> = Box::deserialize(deserializer)?;
        Self::parse(String::from(Box::<str>::from(raw))).map_err(serde::de::Error::custom)
    }
}

/// Whether a value is nested no deeper than `left`. Looks no deeper than that: writing a deeper one could use up the stack.
fn fits(value: &Value, left: usize) -> bool {
    match (value, left.checked_sub(1)) {
        (Value::Array(items), Some(left)) => items.iter().all(|item| fits(item, left)),
        (Value::Object(members), Some(left)) => members.values().all(|member| fits(member, left)),
        (Value::Array(_) | Value::Object(_), None) => false,
        _ => true,
    }
}

impl TryFrom<&Value> for Json {
    type Error = Error;

    fn try_from(value: &Value) -> Result<Self> {
        if !fits(value, MAX_DEPTH) {
            let message = format!("the value cannot be stored: it is nested deeper than {MAX_DEPTH}");
            return Err(Error::invalid_input(message));
        }
        Self::from_serialize(value)
    }
}

impl TryFrom<Value> for Json {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self> {
        Self::try_from(&value)
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        // A text that was checked is a value: `serde_json` reads whatever the check lets in.
        json.decode().unwrap_or_default()
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        Self::from(&json)
    }
}

/// As [`Json::parse`].
impl FromStr for Json {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
