//! Values on the wire, and in rows.

use std::{error::Error as StdError, fmt, time::Duration};

use bytes::{BufMut, BytesMut};
use storage_core::{Error, Expire, Json, Result, optional_ttl_millis};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked},
};

/// A parameter of a statement.
pub(crate) type Param<'a> = &'a (dyn ToSql + Sync);

/// The binary form of JSONB is a version and the text.
const VERSION: u8 = 1;

/// A value to write. Its Debug text, which the driver logs, has no value in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jsonb<'a>(pub(crate) &'a Json);

impl ToSql for Jsonb<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let text = self.0.as_str();
        out.reserve(text.len() + 1);
        out.put_u8(VERSION);
        out.put_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

/// The text of a stored value, still in the driver's buffer.
pub(crate) struct Stored<'a>(pub(crate) &'a str);

impl<'a> FromSql<'a> for Stored<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        match raw.split_first() {
            Some((&VERSION, text)) => Ok(Self(std::str::from_utf8(text)?)),
            _ => Err("an unknown version of JSONB".into()),
        }
    }

    accepts!(JSONB);
}

/// A parameter whose Debug text, which the driver logs, has no value in it.
#[derive(Clone, Copy)]
pub(crate) struct Hidden<T>(pub(crate) T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl<T: ToSql> ToSql for Hidden<T> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.0.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        T::accepts(kind)
    }

    to_sql_checked!();
}

/// A row's column; an answer of another shape means that the table is not ours.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|_| Error::corrupt("the server's answer has another shape than expected"))
}

/// A row's value, checked; `Corrupt` naming the key.
pub(crate) fn value(row: &Row, at: usize, key: &str) -> Result<Json> {
    let Stored(text) = column(row, at).map_err(|error| error.with_key(key))?;
    Json::from_stored(key, text.to_owned())
}

/// A number that is never below zero.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time to live as the server takes it; checked before, and far below the limit of the type.
pub(crate) fn millis(ttl: Option<Duration>) -> Result<Option<i64>> {
    Ok(optional_ttl_millis(ttl)?.map(signed))
}

/// Whether a commit changes the expiry of its partition, and the time to live.
pub(crate) fn expiry(expire: Expire) -> Result<(bool, Option<i64>)> {
    Ok(match expire {
        Expire::Keep => (false, None),
        Expire::Never => (true, None),
        Expire::After(ttl) => (true, millis(Some(ttl))?),
    })
}
