//! Answers of the server, read.

use bytes::Bytes;
use storage_core::{Error, Json, Result};

use super::answer::Answer;
use crate::error::{refused, unexpected};

/// Turns an error that the server answered into ours.
pub(crate) fn checked(answer: Answer) -> Result<Answer> {
    match answer {
        Answer::Error(error) => Err(refused(&error)),
        answer => Ok(answer),
    }
}

pub(crate) fn integer(answer: Answer) -> Result<i64> {
    match checked(answer)? {
        Answer::Int(integer) => Ok(integer),
        _ => Err(unexpected()),
    }
}

/// The stored value of `key`.
pub(crate) fn value(answer: Answer, key: &str) -> Result<Option<Json>> {
    match checked(answer)? {
        Answer::Nil => Ok(None),
        Answer::Bulk(bytes) => stored(&bytes, key).map(Some),
        _ => Err(unexpected()),
    }
}

/// What a store holds under `key`, read as JSON.
pub(crate) fn stored(bytes: &[u8], key: &str) -> Result<Json> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Json::from_stored(key, text.to_owned()),
        Err(_) => Err(Error::corrupt("the stored value cannot be read: it is not UTF-8").with_key(key)),
    }
}

/// The elements of an array.
pub(crate) fn array(answer: Answer) -> Result<Vec<Answer>> {
    match checked(answer)? {
        Answer::Array(elements) => Ok(elements),
        _ => Err(unexpected()),
    }
}

pub(crate) fn bytes(answer: Answer) -> Result<Bytes> {
    match checked(answer)? {
        Answer::Bulk(bytes) => Ok(bytes),
        _ => Err(unexpected()),
    }
}

pub(crate) fn text(answer: Answer) -> Result<String> {
    match checked(answer)? {
        Answer::Bulk(text) | Answer::Status(text) => utf8(&text).ok_or_else(unexpected),
        _ => Err(unexpected()),
    }
}

pub(crate) fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
