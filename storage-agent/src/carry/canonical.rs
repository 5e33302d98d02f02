//! One spelling for equal values: stores keep the spelling that a value had, or one of their own.

use serde_json::{Number, Value};
use storage_core::{Json, Result};

/// The value without white space, members in the order of their names, each number in one spelling. A number that was
/// written as a fraction stays one: programs in other languages tell `15.0` from `15`.
pub(super) fn canonical(value: &Json) -> Result<Json> {
    of_value(&value.decode()?)
}

pub(super) fn of_value(value: &Value) -> Result<Json> {
    let mut text = String::new();
    write(value, &mut text);
    Json::parse(text)
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => text.push_str(&spelled(number)),
        Value::Array(items) => {
            text.push('[');
            for (n, item) in items.iter().enumerate() {
                text.push_str(if n > 0 { "," } else { "" });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (n, (name, value)) in members.into_iter().enumerate() {
                text.push_str(if n > 0 { "," } else { "" });
                write(&Value::from(name.as_str()), text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

/// Postgres writes digits out: `1e17` would come back as an integer, and `-0` as `0`.
fn spelled(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    if float == 0.0 {
        return "0.0".to_owned();
    }
    // Beyond, digits alone are read as a float, too.
    let is_integer = float.fract() == 0.0 && (i64::MIN as f64..=u64::MAX as f64).contains(&float);
    if is_integer { format!("{float:.1}") } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> String {
        canonical(&Json::parse(text.to_owned()).unwrap()).unwrap().as_str().to_owned()
    }

    #[test]
    fn equal_values_have_one_spelling() {
        for (text, spelled) in [
            (r#"{ "b": 1, "a": [true, null] }"#, r#"{"a":[true,null],"b":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#""\u00e9\u0041\n\/""#, r#""éA\n/""#),
            ("15.0", "15.0"),
            ("15", "15"),
            ("1.50", "1.5"),
            ("-0", "0.0"),
            ("-0.0", "0.0"),
            ("1e2", "100.0"),
            ("1e17", "100000000000000000.0"),
            ("18446744073709551615", "18446744073709551615"),
            ("1e19", "10000000000000000000.0"),
            ("1e20", "1e+20"),
            ("-9.3e18", "-9.3e+18"),
            ("1e-7", "1e-7"),
            ("0.0000001", "1e-7"),
        ] {
            assert_eq!(of(text), spelled, "{text}");
        }
    }

    proptest! {
        /// Postgres writes numbers without exponents, and drops nothing behind the point.
        #[test]
        fn a_number_that_was_written_out_is_spelled_the_same(bits in any::<u64>(), digits in -25i32..25) {
            for float in [f64::from_bits(bits), (bits as i64) as f64 / 10f64.powi(digits)] {
                prop_assume!(float.is_finite());
                let canonical = of(&serde_json::to_string(&float).unwrap());
                let written_out = if canonical.contains('e') {
                    format!("{}", canonical.parse::<f64>().unwrap())
                } else {
                    canonical.clone()
                };
                prop_assert_eq!(of(&written_out), canonical.clone());
                prop_assert_eq!(of(&canonical), canonical);
            }
        }
    }
}
