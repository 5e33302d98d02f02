//! What the values of memories, and the metadata of messages, are compared with.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};
use storage_core::{Error, Json, Result, same_value};

/// A filter that was checked: what each member of a value must be.
#[derive(Debug)]
pub(crate) struct Filter(Map<String, Value>);

impl Filter {
    pub(crate) fn new(filter: &Json) -> Result<Self> {
        match Value::from(filter) {
            Value::Object(members) => {
                members.values().try_for_each(check)?;
                Ok(Self(members))
            }
            _ => Err(Error::invalid_input("a filter is a JSON object")
                .with_hint(r#"such as {"color": "red", "score": {"$gte": 3}}"#)),
        }
    }

    pub(crate) fn accepts(&self, value: &Json) -> Result<bool> {
        let value: Value = value.decode()?;
        Ok(self.0.iter().all(|(name, filter)| matches(member(&value, name), filter)))
    }

    pub(crate) fn accepts_object(&self, members: &Map<String, Value>) -> bool {
        let member = |name: &String| members.get(name).unwrap_or(&Value::Null);
        self.0.iter().all(|(name, filter)| matches(member(name), filter))
    }
}

/// A member; what is missing is null.
fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn check(filter: &Value) -> Result<()> {
    match filter {
        Value::Object(members) if has_operators(members) => members.keys().try_for_each(|name| {
            if ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"].contains(&name.as_str()) {
                return Ok(());
            }
            Err(Error::invalid_input(format!("`{}` is no operator of a filter", name.escape_debug()))
                .with_hint("there are $eq, $ne, $gt, $gte, $lt and $lte, which stand by themselves"))
        }),
        Value::Object(members) => members.values().try_for_each(check),
        Value::Array(elements) => elements.iter().try_for_each(check),
        _ => Ok(()),
    }
}

fn has_operators(members: &Map<String, Value>) -> bool {
    members.keys().any(|name| name.starts_with('$'))
}

/// An object asks for its members alone, an array for all elements, anything else for an equal value.
fn matches(value: &Value, filter: &Value) -> bool {
    match filter {
        Value::Object(members) if has_operators(members) => {
            members.iter().all(|(operator, operand)| compares(value, operator, operand))
        }
        Value::Object(members) => {
            value.is_object() && members.iter().all(|(name, filter)| matches(member(value, name), filter))
        }
        Value::Array(filters) => value.as_array().is_some_and(|elements| {
            elements.len() == filters.len()
                && elements.iter().zip(filters).all(|(element, filter)| matches(element, filter))
        }),
        plain => same_value(value, plain),
    }
}

fn compares(value: &Value, operator: &str, operand: &Value) -> bool {
    let order = || order(value, operand);
    match operator {
        "$eq" => same_value(value, operand),
        "$ne" => !same_value(value, operand),
        "$gt" => order() == Some(Ordering::Greater),
        "$gte" => matches!(order(), Some(Ordering::Greater | Ordering::Equal)),
        "$lt" => order() == Some(Ordering::Less),
        "$lte" => matches!(order(), Some(Ordering::Less | Ordering::Equal)),
        _ => false,
    }
}

/// Numbers are ordered by value and texts by their characters; nothing else is.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => order_of_numbers(left, right),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn order_of_numbers(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(filter: &str, value: &str) -> bool {
        let parse = |text: &str| Json::parse(text.to_owned()).unwrap();
        Filter::new(&parse(filter)).unwrap().accepts(&parse(value)).unwrap()
    }

    #[test]
    fn values_are_compared_as_langgraphs_own_stores_do_where_they_agree() {
        for (filter, value, expected) in [
            ("{}", "{}", true),
            (r#"{"a": "x"}"#, r#"{"a": "x", "b": 1}"#, true),
            (r#"{"a": "x"}"#, r#"{"a": "X"}"#, false),
            (r#"{"a": "x", "b": 2}"#, r#"{"a": "x", "b": 1}"#, false),
            (r#"{"a": 1}"#, r#"{"a": 1.0}"#, true),
            (r#"{"a": {"$eq": [1, {"b": 2}]}}"#, r#"{"a": [1, {"b": 2}]}"#, true),
            (r#"{"a": {"$eq": {"b": 2}}}"#, r#"{"a": {"b": 2, "c": 3}}"#, false),
            (r#"{"a": {"$ne": 1}}"#, r#"{"a": 2}"#, true),
            (r#"{"a": {"$ne": 1}}"#, r#"{"a": 1e0}"#, false),
            (r#"{"a": {"$gt": 3}}"#, r#"{"a": 10}"#, true),
            (r#"{"a": {"$gt": 3}}"#, r#"{"a": 3}"#, false),
            (r#"{"a": {"$gte": 3.0}}"#, r#"{"a": 3}"#, true),
            (r#"{"a": {"$lt": -1.5}}"#, r#"{"a": -2}"#, true),
            (r#"{"a": {"$lte": 9007199254740993}}"#, r#"{"a": 9007199254740992}"#, true),
            (r#"{"a": {"$gt": 9007199254740992}}"#, r#"{"a": 9007199254740993}"#, true),
            (r#"{"a": {"$gt": 1, "$lt": 3}}"#, r#"{"a": 2}"#, true),
            (r#"{"a": {"$gt": 1, "$lt": 3}}"#, r#"{"a": 3}"#, false),
        ] {
            assert_eq!(accepts(filter, value), expected, "{filter} {value}");
        }
    }

    #[test]
    fn where_those_disagree_types_stay_apart_and_what_is_missing_is_null() {
        for (filter, value, expected) in [
            (r#"{"a": true}"#, r#"{"a": 1}"#, false),
            (r#"{"a": {"$gt": 0}}"#, r#"{"a": true}"#, false),
            (r#"{"a": {"$gt": 9}}"#, r#"{"a": "10"}"#, false),
            (r#"{"a": {"$lt": "b"}}"#, r#"{"a": "a"}"#, true),
            (r#"{"a": {"$gt": "9"}}"#, r#"{"a": "10"}"#, false),
            (r#"{"a": {"$lte": null}}"#, r#"{"a": null}"#, false),
            (r#"{"a": null}"#, "{}", true),
            (r#"{"a": {"$eq": null}}"#, r#"{"a": null}"#, true),
            (r#"{"a": {"$ne": 1}}"#, "{}", true),
            (r#"{"a": {"$ne": null}}"#, "{}", false),
            (r#"{"a": {"$lt": 1}}"#, "{}", false),
            (r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 1, "c": 2}}"#, true),
            (r#"{"a": {"b": {"$gt": 1}}}"#, r#"{"a": {"b": 2}}"#, true),
            (r#"{"a": {"b": null}}"#, r#"{"a": {}}"#, true),
            (r#"{"a": {"b": null}}"#, "{}", false),
            (r#"{"a": {}}"#, r#"{"a": {"b": 1}}"#, true),
            (r#"{"a": {}}"#, r#"{"a": 1}"#, false),
            (r#"{"a": [1, {"b": 2}]}"#, r#"{"a": [1, {"b": 2, "c": 3}]}"#, true),
            (r#"{"a": [1]}"#, r#"{"a": [1, 2]}"#, false),
            (r#"{"a": [1]}"#, r#"{"a": 1}"#, false),
            (r#"{"a.b": 1}"#, r#"{"a": {"b": 1}}"#, false),
        ] {
            assert_eq!(accepts(filter, value), expected, "{filter} {value}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in [
            "1",
            "[]",
            r#"{"a": {"$in": [1]}}"#,
            r#"{"a": {"$gt": 1, "b": 2}}"#,
            r#"{"a": {"b": [{"$": 1}]}}"#,
        ] {
            assert!(Filter::new(&Json::parse(filter).unwrap()).is_err(), "{filter}");
        }
    }
}
