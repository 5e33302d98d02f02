//! Every statement by its purpose.

use tokio_postgres::types::Type;

use super::{entries, partitions::Sql};

/// A time to live that ended long ago: how a deletion is written in one statement with the writes.
pub(crate) const LONG_EXPIRED: i64 = -1_000_000_000_000_000;

/// A statement by its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    Get,
    /// The same where our index is missing.
    GetByPrimaryKey,
    Exists,
    Set,
    /// One of them, without the arrays: a lone caller would pay a tenth more for them.
    SetOne,
    Delete,
    /// Replaces or deletes values, where they are the expected ones.
    Swap,
    /// Writes values, where there are none.
    Create,
    Increment,
    Ttl,
    Expire,
    Persist,
    /// A page of keys.
    Keys,
    /// A page of entries.
    Entries,
    /// Deletes those of some keys that have expired.
    Purge,
    /// Locks the rows of some keys, made as expired where there are none.
    Claim,
    /// Deletes some of what has expired.
    Sweep,
    Stats,
    /// Whether reads work, and of a standby how far it is behind.
    Look,
    /// Where the primary is in its log, and which table it is.
    Position,
    /// About partitions and items.
    Collections(Sql),
}

impl Query {
    /// Whether a lost answer leaves the outcome unknown. A sweep may be repeated as often as you like.
    pub(crate) fn is_write(self) -> bool {
        match self {
            Self::Set
            | Self::SetOne
            | Self::Delete
            | Self::Swap
            | Self::Create
            | Self::Increment
            | Self::Expire
            | Self::Persist => true,
            Self::Collections(sql) => sql.is_write(),
            _ => false,
        }
    }

    /// The types of the parameters: named, so that a statement need not be prepared to be sent.
    pub(crate) fn types(self) -> &'static [Type] {
        match self {
            Self::Get | Self::GetByPrimaryKey | Self::Exists | Self::Delete | Self::Purge | Self::Claim => {
                &[Type::TEXT_ARRAY]
            }
            Self::Set | Self::Create => &[Type::TEXT_ARRAY, Type::JSONB_ARRAY, Type::INT8_ARRAY],
            Self::SetOne => &[Type::TEXT, Type::JSONB, Type::INT8],
            Self::Swap => &[Type::TEXT_ARRAY, Type::JSONB_ARRAY, Type::JSONB_ARRAY, Type::INT8_ARRAY],
            Self::Increment => &[Type::TEXT, Type::INT8, Type::INT8],
            Self::Ttl | Self::Persist | Self::Stats => &[Type::TEXT],
            Self::Expire => &[Type::TEXT, Type::INT8],
            Self::Keys => &[Type::TEXT, Type::TEXT, Type::INT8],
            Self::Entries => &[Type::TEXT, Type::TEXT, Type::INT8, Type::JSONB],
            Self::Sweep => &[Type::INT8],
            Self::Look | Self::Position => &[],
            Self::Collections(sql) => sql.types(),
        }
    }

    /// The statement on `table`.
    pub(crate) fn text(self, table: &str) -> String {
        match self {
            // Our index compares bytes, the primary key as the database's language has it: a tenth of such a statement.
            Self::Get => entries::find(table, "key, value", "key COLLATE \"C\""),
            Self::GetByPrimaryKey => entries::find(table, "key, value", "key"),
            Self::Exists => entries::find(table, "key", "key"),
            Self::Set => entries::upsert(table),
            Self::SetOne => entries::upsert_one(table),
            Self::Delete => entries::delete(table),
            Self::Swap => entries::swap(table),
            Self::Create => entries::create(table),
            Self::Increment => entries::increment(table),
            Self::Ttl => entries::ttl(table),
            Self::Expire => entries::expire(table),
            Self::Persist => entries::persist(table),
            Self::Keys => entries::page(table, "key, expires_at", ""),
            // What the filters certainly turn away; those that remain are judged again.
            Self::Entries => {
                entries::page(table, "key, expires_at, value", " AND ($4::jsonb IS NULL OR value @> $4)")
            }
            Self::Purge => entries::purge(table),
            Self::Claim => entries::claim(table),
            Self::Sweep => entries::sweep(table),
            Self::Stats => entries::stats(table),
            Self::Look => entries::look(table),
            Self::Position => entries::position(table, "pg_current_wal_insert_lsn()"),
            Self::Collections(sql) => sql.text(table),
        }
    }
}
