//! Values on the wire: the binary form of JSONB is a version byte and the text.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use storage_core::Json;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

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
