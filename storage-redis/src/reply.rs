//! Answers of the server, read.

use redis::Value;
use storage_core::{Error, Json, Result};

use crate::error::{refused, unexpected};

/// Turns an error that the server answered into ours.
pub(crate) fn checked(answer: Value) -> Result<Value> {
    match answer {
        Value::ServerError(error) => Err(refused(&error)),
        answer => Ok(answer),
    }
}

pub(crate) fn integer(answer: Value) -> Result<i64> {
    match checked(answer)? {
        Value::Int(integer) => Ok(integer),
        _ => Err(unexpected()),
    }
}

/// The stored value of `key`.
pub(crate) fn value(answer: Value, key: &str) -> Result<Option<Json>> {
    match checked(answer)? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => stored(bytes, key).map(Some),
        _ => Err(unexpected()),
    }
}

/// What a store holds under `key`, read as JSON.
pub(crate) fn stored(bytes: Vec<u8>, key: &str) -> Result<Json> {
    match String::from_utf8(bytes) {
        Ok(text) => Json::from_stored(key, text),
        Err(_) => Err(Error::corrupt("the stored value cannot be read: it is not UTF-8").with_key(key)),
    }
}

/// The elements of an array.
pub(crate) fn array(answer: Value) -> Result<Vec<Value>> {
    match checked(answer)? {
        Value::Array(elements) => Ok(elements),
        _ => Err(unexpected()),
    }
}

pub(crate) fn bytes(answer: Value) -> Result<Vec<u8>> {
    match checked(answer)? {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(unexpected()),
    }
}

pub(crate) fn text(answer: Value) -> Result<String> {
    match checked(answer)? {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| unexpected()),
        Value::SimpleString(text) => Ok(text),
        _ => Err(unexpected()),
    }
}

/// About how many bytes an answer has.
pub(crate) fn size(answer: &Value) -> usize {
    match answer {
        Value::BulkString(bytes) => bytes.len(),
        Value::Array(elements) => elements.iter().map(size).sum(),
        _ => 0,
    }
}
